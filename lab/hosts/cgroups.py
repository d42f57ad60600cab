"""A root in the cgroup trees for each host: made, filled, found, removed.

Works with cgroup v1 (each controller a tree of its own), v2 (one tree) and both at once (hybrid).  A host's processes
live in a cgroup namespace whose root is the host's own cgroup: inside, the trees look as on a machine of its own.

Source: cgroups(7), cgroup_namespaces(7); Documentation/admin-guide/cgroup-v2.rst, "No Internal Process Constraint".
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.hosts.mounts import Mount, mounts

CGROUP_ROOT = Path("/sys/fs/cgroup")
_V1_NOT_CONTROLLERS = frozenset({"rw", "ro", "xattr", "clone_children", "noprefix", "relatime"})


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One cgroup tree."""

    mount: Path
    version: int
    options: str
    """What to give mount(8) -o to see this tree again; empty for v2."""

    def child(self, path: str) -> Path:
        """The folder of a cgroup; `path` is relative to the root, without a leading slash."""
        return self.mount / path


def hierarchies(found: Iterable[Mount] | None = None) -> tuple[Hierarchy, ...]:
    """Every cgroup tree mounted below /sys/fs/cgroup. Raises LabError when there is none."""
    trees: dict[Path, Hierarchy] = {}
    for mount in mounts() if found is None else found:
        if mount.kind == "cgroup2":
            trees[mount.target] = Hierarchy(mount.target, 2, "")
        elif mount.kind == "cgroup":
            names = sorted(option for option in mount.options if option not in _V1_NOT_CONTROLLERS)
            options = [name for name in names if not name.startswith("release_agent=")]
            trees[mount.target] = Hierarchy(mount.target, 1, ",".join(options))
    inside = tuple(tree for path, tree in trees.items() if path == CGROUP_ROOT or CGROUP_ROOT in path.parents)
    if not inside:
        raise LabError(f"no cgroup file system is mounted on {CGROUP_ROOT}: the lab's hosts need one")
    return inside


def create(trees: Sequence[Hierarchy], path: str) -> None:
    """Make a cgroup in every tree, ready to hold processes and children. Raises LabError."""
    for tree in trees:
        try:
            _create(tree, path)
        except OSError as exc:
            raise LabError(f"cannot make cgroup {tree.child(path)}: {exc.strerror}") from exc


def _create(tree: Hierarchy, path: str) -> None:
    folder = tree.mount
    for part in Path(path).parts:
        if tree.version == 2:
            _enable_controllers(folder)
        folder = folder / part
        folder.mkdir(exist_ok=True)
        if tree.version == 1 and (folder / "cpuset.cpus").exists():
            # A cpuset without CPUs takes no process; children made later (containers') are to inherit.
            for name in ("cpuset.cpus", "cpuset.mems"):
                if not (folder / name).read_text().strip():
                    (folder / name).write_text((folder.parent / name).read_text())
            (folder / "cgroup.clone_children").write_text("1")


def _enable_controllers(folder: Path) -> None:
    """Give the children of a v2 cgroup all controllers it has itself."""
    available = (folder / "cgroup.controllers").read_text().split()
    control = folder / "cgroup.subtree_control"
    missing = [name for name in available if name not in control.read_text().split()]
    if not missing:
        return
    try:
        control.write_text(" ".join(f"+{name}" for name in missing))
    except OSError as exc:
        if exc.errno != errno.EBUSY or folder != CGROUP_ROOT:
            raise
        # In a container the root of the tree is an ordinary cgroup, and one with processes can't delegate: move them.
        own = folder / "init.scope"
        own.mkdir(exist_ok=True)
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (own / "cgroup.procs").write_text(pid)
        control.write_text(" ".join(f"+{name}" for name in missing))


def processes(trees: Sequence[Hierarchy], path: str) -> set[int]:
    """Every process in the cgroup or below it, in any tree."""
    found: set[int] = set()
    for tree in trees:
        for folder, _, _ in os.walk(tree.child(path)):
            with contextlib.suppress(OSError):
                found |= {int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split()}
    return found - {0}


def signal_all(trees: Sequence[Hierarchy], path: str, number: signal.Signals) -> int:
    """Send a signal to every process in the cgroup or below it; returns to how many."""
    count = 0
    for pid in processes(trees, path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            count += 1
    return count


def remove(trees: Sequence[Hierarchy], path: str) -> list[str]:
    """Remove the cgroup and all below it; returns what could not be removed and why."""
    left = []
    for tree in trees:
        for folder, _, _ in os.walk(tree.child(path), topdown=False):
            try:
                Path(folder).rmdir()
            except FileNotFoundError:
                continue
            except OSError as exc:
                left.append(f"{folder}: {exc.strerror}")
    return left


def entry_files(trees: Sequence[Hierarchy], path: str) -> list[str]:
    """The files a process writes "0" to in order to enter the cgroup."""
    return [str(tree.child(path) / "cgroup.procs") for tree in trees]
