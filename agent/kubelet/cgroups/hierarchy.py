"""Reading and writing control groups, version 1 (one tree for each controller) and 2 (one tree).

Source: cgroups(7); kernel Documentation/admin-guide/cgroup-v1 and cgroup-v2.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from machinery.log import get_logger

log = get_logger(__name__)

ROOT = "/sys/fs/cgroup"
_NO_LIMIT = 1 << 62
_V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "pids", "hugetlb", "blkio", "name=systemd")
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a group may use; None leaves the kernel's setting alone, -1 is no limit."""

    cpu_shares: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int = 100_000
    memory_bytes: int | None = None
    pids: int | None = None


@dataclass(frozen=True)
class Hierarchy:
    """The trees of this host. `mounts` maps a v1 controller to its mount; it is empty on v2."""

    unified: bool
    mounts: Mapping[str, str]

    @classmethod
    def detect(cls, root: str = ROOT) -> Hierarchy:
        """What is mounted here."""
        if os.path.exists(f"{root}/cgroup.controllers"):
            return cls(True, {})
        mounts: dict[str, str] = {}
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            before, _, after = line.partition(" - ")
            fields, kind = before.split(), after.split()
            if kind[0] != "cgroup" or not fields[4].startswith(root):
                continue
            for option in kind[2].split(","):
                if option in _V1_CONTROLLERS and fields[4] not in mounts.get(option, ""):
                    mounts[option] = fields[4]
        return cls(False, mounts)

    def paths(self, group: str) -> list[str]:
        """The directories of a group, one for each tree."""
        if self.unified:
            return [f"{ROOT}{group}"]
        return list(dict.fromkeys(f"{mount}{group}" for mount in self.mounts.values()))

    def exists(self, group: str) -> bool:
        """Whether a group is there, in every tree."""
        return all(os.path.isdir(path) for path in self.paths(group))

    def can_limit_swap(self) -> bool:
        """Whether the kernel counts swap for control groups."""
        base = ROOT if self.unified else self.mounts.get("memory", "")
        if not self.unified:
            return os.path.exists(f"{base}/memory.memsw.limit_in_bytes")
        own = _read("/proc/self/cgroup").strip().rpartition("::")[2]  # the root has no such file
        return os.path.exists(f"{base}{own}/memory.swap.max")

    def page_sizes(self) -> tuple[str, ...]:
        """Sizes of huge pages as control groups name them: 2MB, 1GB."""
        found = []
        with contextlib.suppress(OSError):
            for entry in os.scandir("/sys/kernel/mm/hugepages"):
                size = int(entry.name.removeprefix("hugepages-").removesuffix("kB"))
                found.append(
                    f"{size >> 20}GB" if size >= 1 << 20 else f"{size >> 10}MB" if size >= 1 << 10 else f"{size}KB"
                )
        return tuple(sorted(found))

    def create(self, group: str) -> None:
        """Make a group with all above it, ready to take tasks. Raises OSError."""
        parts = [part for part in group.split("/") if part]
        if self.unified:
            path = ROOT
            for part in parts:
                self._delegate(path)
                path = f"{path}/{part}"
                os.makedirs(path, exist_ok=True)
            return
        for base in dict.fromkeys(self.mounts.values()):
            os.makedirs(f"{base}{group}", exist_ok=True)
        cpuset = self.mounts.get("cpuset")
        if cpuset:
            path = cpuset
            for part in parts:
                path = f"{path}/{part}"
                self._inherit_cpuset(path)

    def _delegate(self, path: str) -> None:
        try:
            available = _read(f"{path}/cgroup.controllers").split()
            enabled = _read(f"{path}/cgroup.subtree_control").split()
        except OSError:
            return
        for name in _V2_CONTROLLERS:
            if name in available and name not in enabled:
                with contextlib.suppress(OSError):  # a group with processes can't; its children then go without
                    _write(f"{path}/cgroup.subtree_control", f"+{name}")

    @staticmethod
    def _inherit_cpuset(path: str) -> None:
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not _read(f"{path}/{name}").strip():
                _write(f"{path}/{name}", _read(f"{os.path.dirname(path)}/{name}").strip())

    def limit(self, group: str, limits: Limits, *, only_raise: bool = False) -> None:
        """Set limits of an existing group; with `only_raise` none is lowered. Raises OSError."""
        settings = self._v2_settings(limits) if self.unified else self._v1_settings(limits)
        for controller, name, value in settings:
            base = ROOT if self.unified else self.mounts.get(controller)
            if base is None:
                continue
            path = f"{base}{group}/{name}"
            try:
                present = _read(path).strip()
                if present != value and not (only_raise and _is_lower(value, present)):
                    _write(path, value)
            except FileNotFoundError:
                continue  # the controller isn't enabled here

    @staticmethod
    def _v1_settings(limits: Limits) -> Iterable[tuple[str, str, str]]:
        if limits.cpu_shares is not None:
            yield "cpu", "cpu.shares", str(limits.cpu_shares)
        if limits.cpu_quota_us is not None:
            yield "cpu", "cpu.cfs_period_us", str(limits.cpu_period_us)
            yield "cpu", "cpu.cfs_quota_us", str(limits.cpu_quota_us)
        if limits.memory_bytes is not None:
            yield "memory", "memory.limit_in_bytes", str(limits.memory_bytes)
        if limits.pids is not None:
            yield "pids", "pids.max", "max" if limits.pids < 0 else str(limits.pids)

    @staticmethod
    def _v2_settings(limits: Limits) -> Iterable[tuple[str, str, str]]:
        if limits.cpu_shares is not None:
            weight = 1 + ((max(2, limits.cpu_shares) - 2) * 9999) // 262142
            yield "cpu", "cpu.weight", str(weight)
        if limits.cpu_quota_us is not None:
            quota = "max" if limits.cpu_quota_us < 0 else str(limits.cpu_quota_us)
            yield "cpu", "cpu.max", f"{quota} {limits.cpu_period_us}"
        if limits.memory_bytes is not None:
            yield "memory", "memory.max", "max" if limits.memory_bytes < 0 else str(limits.memory_bytes)
        if limits.pids is not None:
            yield "pids", "pids.max", "max" if limits.pids < 0 else str(limits.pids)

    def memory_used(self, group: str) -> int | None:
        """Bytes that a group's processes use; None if that can't be told."""
        base = ROOT if self.unified else self.mounts.get("memory")
        name = "memory.current" if self.unified else "memory.usage_in_bytes"
        try:
            return int(_read(f"{base}{group}/{name}"))
        except (OSError, ValueError):
            return None

    def memory_limit_and_working_set(self, group: str) -> tuple[int, int] | None:
        """(limit, use without the file cache that can go) in bytes; None if there is no limit or it can't be told."""
        base = ROOT if self.unified else self.mounts.get("memory")
        limit_name, field = (
            ("memory.max", "inactive_file") if self.unified else ("memory.limit_in_bytes", "total_inactive_file")
        )
        used = self.memory_used(group)
        try:
            limit = int(_read(f"{base}{group}/{limit_name}"))
            lines = dict(line.split() for line in _read(f"{base}{group}/memory.stat").splitlines())
        except (OSError, ValueError):
            return None
        if used is None or limit >= _NO_LIMIT:
            return None
        return limit, max(0, used - int(lines.get(field, 0)))

    def children(self, group: str) -> list[str]:
        """Names of the groups right below this one, in any tree."""
        found: dict[str, None] = {}
        for path in self.paths(group):
            with contextlib.suppress(OSError):
                found.update({entry.name: None for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)})
        return sorted(found)

    def processes(self, group: str) -> set[int]:
        """Process ids in a group and all below it."""
        found: set[int] = set()
        for path in self.paths(group):
            for directory, _, _ in os.walk(path):
                with contextlib.suppress(OSError):
                    found.update(int(pid) for pid in _read(f"{directory}/cgroup.procs").split())
        return found - {0}

    def kill(self, group: str) -> None:
        """SIGKILL everything in a group."""
        for pid in self.processes(group):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self, group: str) -> bool:
        """Remove a group with all below it; False while something still runs there."""
        gone = True
        for path in self.paths(group):
            for directory, _, _ in os.walk(path, topdown=False):
                try:
                    os.rmdir(directory)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                        log.warning("cannot remove control group", path=directory, err=error.strerror)
                    gone = False
        return gone


def _is_lower(value: str, than: str) -> bool:
    """Whether a limit is lower than another: `max` and -1 are none, `quota period` counts by its quota."""

    def number(text: str) -> float:
        first = text.split(" ", 1)[0]
        return float("inf") if first in ("max", "-1") else float(first)

    return number(value) < number(than)


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    # Not through a buffer: the kernel answers the write itself.
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
