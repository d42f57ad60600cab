"""Dead containers and sandboxes: of each container the last one that ended is kept, for its log and its exit code.

Source: kubelet's kuberuntime_gc.go (MaxPerPodContainer 1, no minimum age, as its defaults).
"""

from __future__ import annotations

import contextlib
import glob
import os

from agent.cri.errors import CriError
from agent.kubelet.container.model import CREATED, EXITED, Container, RuntimePod, Sandbox
from agent.kubelet.kit import Kit
from machinery.log import get_logger

log = get_logger(__name__)

_PERIOD_SECONDS, _FIRST_SECONDS = 60.0, 0.1
_YOUNG_SECONDS = 60.0  # a container that is only created may be about to be started


def excess_containers(runtime: RuntimePod, now: float) -> list[Container]:
    """Dead containers beside the newest dead one of each name; `now` in seconds since 1970."""
    kept: set[str] = set()
    found = []
    for container in runtime.containers:  # newest first
        if container.state == CREATED:
            newest = runtime.container(container.name)
            if newest is not container and now - container.created_at / 1e9 > _YOUNG_SECONDS:
                found.append(container)
        elif container.state == EXITED:
            if container.name in kept:
                found.append(container)
            kept.add(container.name)
    return found


def excess_sandboxes(runtime: RuntimePod) -> list[Sandbox]:
    """Sandboxes that are not ready, not the newest, and hold no container any more."""
    used = {container.sandbox_id for container in runtime.containers}
    return [sandbox for sandbox in runtime.sandboxes[1:] if not sandbox.ready and sandbox.id not in used]


class ContainerCollector:
    """Removes what is too much. One for the whole kubelet."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def run(self) -> None:
        """Collect at once, and every minute until cancelled."""
        while self._kit.view.last_look == 0:
            await self._kit.clock.sleep(_FIRST_SECONDS)
        while True:
            await self.collect()
            await self._kit.clock.sleep(_PERIOD_SECONDS)

    async def collect(self) -> None:
        """Collect once; what the runtime refuses is left to the next time."""
        now = self._kit.clock.now().timestamp()
        for runtime in list(self._kit.view.pods.values()):
            try:
                for container in excess_containers(runtime, now):
                    await self._remove_container(container)
                for sandbox in excess_sandboxes(runtime):
                    await self._kit.cri.remove_pod_sandbox(sandbox.id)
                    self._kit.view.note_removed(sandbox.id)
            except CriError as error:
                log.warning("cannot remove dead container", pod=f"{runtime.namespace}/{runtime.name}", err=str(error))

    async def _remove_container(self, container: Container) -> None:
        await self._kit.cri.remove_container(container.id)
        self._kit.view.note_removed(container.id)
        remove_log(container.log_path)
        for link in glob.glob(os.path.join(self._kit.log_links_dir, f"*-{container.id}.log")):
            with contextlib.suppress(OSError):
                os.unlink(link)


def remove_log(path: str) -> None:
    """Remove a container's log with all that was rotated out of it."""
    if path:
        for file in [path, *glob.glob(glob.escape(path) + ".*")]:
            with contextlib.suppress(OSError):
                os.unlink(file)
