"""Taking a lab down, whatever state it is in: processes, mounts, namespaces, cgroups, files, in this order.

Nothing here trusts what `up` remembered: processes are found by their cgroup and by their namespaces, mounts in the
kernel's own list.  Every step can be run again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

from agent.command import CommandError, run
from lab import mountpoints
from lab.conditions import until
from lab.errors import LabError, NotRunning
from lab.hosts import cgroups
from lab.hosts.mounts import mounts_under
from lab.hosts.namespaces import MACHINE
from lab.layout import Layout
from lab.supervisor.control import Supervisor

_ORDERLY_SECONDS = 25.0
_KILL_SECONDS = 20.0


def exists(layout: Layout) -> bool:
    """Whether there is anything of the lab on the machine."""
    folders = [layout.state, layout.runtime, *(tree.child(layout.cgroup) for tree in cgroups.hierarchies())]
    return any(folder.exists() for folder in folders)


async def sweep(layout: Layout, *, orderly: bool = True) -> None:
    """Remove the lab. `orderly` gives daemons the time to stop by themselves. Raises LabError for what resists."""
    if orderly:
        with contextlib.suppress(NotRunning, LabError, TimeoutError):
            async with asyncio.timeout(_ORDERLY_SECONDS):
                await Supervisor(layout).shut_down()
    await _kill(layout)
    await _unmount(layout)
    await _remove_cgroups(layout)
    await asyncio.to_thread(_remove_files, layout)


async def _kill(layout: Layout) -> None:
    trees = cgroups.hierarchies()

    def gone() -> bool:
        in_cgroups = cgroups.processes(trees, layout.cgroup)
        return not _signal(in_cgroups | inhabitants(layout))

    try:
        await until(gone, _KILL_SECONDS)
    except TimeoutError as exc:
        left = cgroups.processes(trees, layout.cgroup) | inhabitants(layout)
        raise LabError(f"these processes of the lab do not die: {', '.join(map(str, sorted(left)))}") from exc


def _signal(pids: set[int]) -> set[int]:
    """Kill them; returns those that are (or may be) still there."""
    left = set()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            left.add(pid)
    return left


def inhabitants(layout: Layout) -> set[int]:
    """Processes in a namespace of the lab, however they came there: a shell of `nsenter`, say."""
    spaces = set()
    for host in layout.namespaces.glob("*"):
        if host.name == MACHINE:
            continue
        for file in host.iterdir():
            with contextlib.suppress(OSError):
                spaces.add((file.stat().st_dev, file.stat().st_ino))
    own = os.getpid()
    found = set()
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == own:
            continue
        for kind in ("net", "mnt", "uts"):
            with contextlib.suppress(OSError):
                space = (process / "ns" / kind).stat()
                if (space.st_dev, space.st_ino) in spaces:
                    found.add(int(process.name))
    return found


async def _unmount(layout: Layout) -> None:
    for folder in (layout.runtime, layout.state):
        for mount in mounts_under(folder):
            try:
                await run("umount", "--lazy", str(mount.target), check=True)
            except CommandError as exc:
                raise LabError(f"cannot unmount {mount.target}: {exc}") from exc


async def _remove_cgroups(layout: Layout) -> None:
    trees = cgroups.hierarchies()
    left: list[str] = []

    def removed() -> bool:
        left[:] = cgroups.remove(trees, layout.cgroup)
        return not left

    try:
        await until(removed, _KILL_SECONDS)  # the kernel lets go of a cgroup a moment after its last process
    except TimeoutError as exc:
        raise LabError(f"cannot remove cgroup {left[0]}") from exc
    for tree in trees:
        with contextlib.suppress(OSError):  # another lab is there
            tree.child(layout.cgroup).parent.rmdir()


def _remove_files(layout: Layout) -> None:
    mountpoints.remove(layout)
    for folder in (layout.runtime, layout.state):
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise LabError(f"cannot remove {exc.filename or folder}: {exc.strerror}") from exc
        finally:
            with contextlib.suppress(OSError):
                folder.parent.rmdir()
