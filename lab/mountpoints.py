"""Folders that are made on the machine for hosts to mount their own on.

Removing such a folder ends the mounts on it in every other mount namespace, so they stay until the last lab has gone.

Source: Linux 3.18, commit "vfs: Lazily remove mounts on unlinked files and directories"; mount_namespaces(7).
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterable, Iterator
from pathlib import Path

from lab.hosts.namespaces import PRIVATE
from lab.layout import Layout

_LOCK = Path("/run/lock/navarch-mount-points.lock")


def make(layout: Layout, folders: Iterable[str] = PRIVATE) -> None:
    """Make those that are missing, and remember which were made. The lab's state folder must be there."""
    with _alone():
        made = []
        for folder in map(Path, folders):
            missing = [each for each in (folder, *folder.parents) if not each.exists()]
            made += [str(each) for each in reversed(missing)]
        remembered = dict.fromkeys([*_remembered(layout), *made])
        layout.mount_points_file.write_text("".join(f"{line}\n" for line in remembered))
        for line in made:
            Path(line).mkdir(exist_ok=True, mode=0o755)


def remove(layout: Layout) -> None:
    """Remove those that were made, unless another lab is there. What somebody has put something into stays."""
    with _alone():
        if _others(layout):
            return
        for line in reversed(_remembered(layout)):
            with contextlib.suppress(OSError):
                Path(line).rmdir()
        layout.mount_points_file.unlink(missing_ok=True)


def _remembered(layout: Layout) -> list[str]:
    try:
        return layout.mount_points_file.read_text().splitlines()
    except FileNotFoundError:
        return []


def _others(layout: Layout) -> list[Path]:
    try:
        return [each for each in layout.state.parent.iterdir() if each.is_dir() and each != layout.state]
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
