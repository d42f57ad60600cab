"""Container logs kept within bounds: renamed when they are too long, all but the newest compressed, the oldest removed.

Source: KubeletConfiguration containerLogMaxSize, containerLogMaxFiles; kubelet's logs/container_log_manager.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import gzip
import os
import shutil
from datetime import datetime

from agent.cri.errors import CriError
from agent.kubelet.container.model import RUNNING, Container
from agent.kubelet.kit import Kit
from machinery.log import get_logger

log = get_logger(__name__)

_GZIP, _TEMPORARY = ".gz", ".tmp"
_STAMP = "%Y%m%d-%H%M%S"


def rotated(path: str) -> list[str]:
    """The parts of a log that were rotated out of it, oldest first."""
    return sorted(file for file in glob.glob(glob.escape(path) + ".*") if not file.endswith(_TEMPORARY))


def clean(path: str, max_files: int) -> None:
    """Remove leftovers and the oldest parts, so that with the log and one more part there are no more than allowed."""
    for leftover in glob.glob(glob.escape(path) + f".*{_TEMPORARY}"):
        with contextlib.suppress(OSError):
            os.unlink(leftover)
    parts = rotated(path)
    compressed = {part for part in parts if part.endswith(_GZIP)}
    for part in parts:  # a part that was compressed already
        if part + _GZIP in compressed:
            with contextlib.suppress(OSError):
                os.unlink(part)
    parts = rotated(path)
    for part in parts[: max(0, len(parts) - (max_files - 2))]:
        with contextlib.suppress(OSError):
            os.unlink(part)


def compress(path: str) -> None:
    """Compress every part of a log. Raises OSError."""
    for part in rotated(path):
        if part.endswith(_GZIP):
            continue
        temporary = part + _GZIP + _TEMPORARY
        with open(part, "rb") as source, gzip.open(temporary, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target)
        os.replace(temporary, part + _GZIP)
        os.unlink(part)


class LogRotation:
    """Rotates the logs of running containers. One for the whole kubelet."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def run(self) -> None:
        """Look at all logs every few seconds until cancelled."""
        while True:
            await self._kit.clock.sleep(self._kit.settings.log_monitor_seconds)
            await self.look()

    async def look(self) -> None:
        """Rotate what is too long, so many at a time as containerLogMaxWorkers says."""
        slots = asyncio.Semaphore(self._kit.settings.log_max_workers)

        async def rotate(container: Container) -> None:
            async with slots:
                await self._rotate(container)

        async with asyncio.TaskGroup() as group:
            for runtime in list(self._kit.view.pods.values()):
                for container in runtime.containers:
                    if container.state == RUNNING and container.log_path and self._is_long(container):
                        group.create_task(rotate(container))

    def _is_long(self, container: Container) -> bool:
        try:
            return os.stat(container.log_path).st_size >= self._kit.settings.log_max_bytes
        except OSError:
            return False

    async def _rotate(self, container: Container) -> None:
        path = container.log_path
        part = f"{path}.{datetime.now().strftime(_STAMP)}"
        try:
            await asyncio.to_thread(clean, path, self._kit.settings.log_max_files)
            await asyncio.to_thread(compress, path)
            os.rename(path, part)
            try:
                await self._kit.cri.reopen_container_log(container.id)
            except CriError:
                os.rename(part, path)
                raise
        except (CriError, OSError) as error:
            log.warning("cannot rotate container log", path=path, err=str(error))
