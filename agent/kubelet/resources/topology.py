"""The machine's processors and memory nodes, read from a /sys that may be any folder.

Source: cadvisor's machine info (utils/sysinfo) as kubelet's cpumanager, memorymanager and topologymanager use it;
kernel Documentation/ABI sysfs-devices-system-cpu and sysfs-devices-node.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from agent.kubelet.resources.cpuset import CpuSet, parse_set
from machinery.errors import SettingsError

SYS = "/sys"


@dataclass(frozen=True, slots=True)
class Processor:
    """Where a logical CPU is. A core goes by its lowest CPU, as upstream; `cache` is the last-level cache."""

    core: int
    socket: int
    node: int = 0
    cache: int = 0


@dataclass(frozen=True, slots=True)
class MemoryNode:
    """A NUMA node: bytes of memory, bytes of huge pages by page size in bytes, distances to all nodes in order."""

    memory_bytes: int
    hugepages: Mapping[int, int] = field(default_factory=dict)
    distances: tuple[int, ...] = ()


@dataclass(frozen=True)
class Topology:
    """The machine."""

    processors: Mapping[int, Processor]
    nodes: Mapping[int, MemoryNode]

    @cached_property
    def cpus(self) -> CpuSet:
        """All CPUs."""
        return frozenset(self.processors)

    @cached_property
    def cpus_per_core(self) -> int:
        """Threads of one core."""
        return max(1, len(self.processors) // max(1, len({p.core for p in self.processors.values()})))

    @cached_property
    def sockets(self) -> int:
        """How many sockets there are."""
        return len({p.socket for p in self.processors.values()})

    @cached_property
    def cpu_nodes(self) -> list[int]:
        """The NUMA nodes that have CPUs."""
        return sorted({p.node for p in self.processors.values()})

    def in_nodes(self, nodes: Iterable[int], among: CpuSet | None = None) -> CpuSet:
        """The CPUs of these NUMA nodes."""
        wanted = set(nodes)
        cpus = self.cpus if among is None else among
        return frozenset(cpu for cpu in cpus if self.processors[cpu].node in wanted)

    def places(self, cpus: Iterable[int], part: Callable[[Processor], int]) -> set[int]:
        """The cores, sockets, nodes or caches in which CPUs are."""
        return {part(self.processors[cpu]) for cpu in cpus}


def core(processor: Processor) -> int:
    """The core of a CPU."""
    return processor.core


def socket(processor: Processor) -> int:
    """The socket of a CPU."""
    return processor.socket


def node(processor: Processor) -> int:
    """The NUMA node of a CPU."""
    return processor.node


def cache(processor: Processor) -> int:
    """The last-level cache of a CPU."""
    return processor.cache


def read_topology(root: str = SYS, *, memory_bytes: int = 0) -> Topology:
    """The machine below a /sys; `memory_bytes` is its memory where the kernel knows no nodes. Raises SettingsError."""
    base = Path(root, "devices/system")
    try:
        online = parse_set((base / "cpu/online").read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot discover CPU topology: {error}") from error
    nodes = _nodes(base / "node")
    of_cpu = {cpu: number for number, cpus in nodes.items() for cpu in cpus}
    processors = {}
    for cpu in sorted(online):
        own = base / f"cpu/cpu{cpu}"
        place = own / "topology"
        package = max(0, _number(place / "physical_package_id", 0))
        threads = _set(place / "thread_siblings_list") & online or frozenset((cpu,))
        number = of_cpu.get(cpu, 0)
        processors[cpu] = Processor(min(threads), package, number, _cache(own, nodes.get(number, online), package))
    found = {number: _memory_node(base / f"node/node{number}") for number in sorted(nodes)}
    return Topology(processors, found or {0: MemoryNode(memory_bytes)})


def _nodes(base: Path) -> dict[int, CpuSet]:
    found = {}
    with contextlib.suppress(OSError):
        for entry in os.scandir(base):
            number = entry.name.removeprefix("node")
            if number != entry.name and number.isdigit():
                found[int(number)] = _set(Path(entry.path, "cpulist"))
    return found


def _cache(cpu: Path, of_node: CpuSet, package: int) -> int:
    # As upstream: a cache that the whole node shares says no more than the socket does.
    with contextlib.suppress(OSError):
        for entry in sorted(os.scandir(cpu / "cache"), key=lambda e: e.name):
            index = Path(entry.path)
            if _number(index / "level", 0) > 2 and _set(index / "shared_cpu_list") != of_node:
                return _number(index / "id", package)
    return package


def _memory_node(base: Path) -> MemoryNode:
    total = 0
    with contextlib.suppress(OSError):
        for line in (base / "meminfo").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if "MemTotal:" in fields:
                total = int(fields[fields.index("MemTotal:") + 1]) * 1024
    pages = {}
    with contextlib.suppress(OSError):
        for entry in os.scandir(base / "hugepages"):
            size = int(entry.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
            pages[size] = size * _number(Path(entry.path, "nr_hugepages"), 0)
    distances = tuple(int(part) for part in _text(base / "distance").split())
    return MemoryNode(total, dict(sorted(pages.items())), distances)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _number(path: Path, default: int) -> int:
    text = _text(path)
    return int(text) if text.lstrip("-").isdigit() else default


def _set(path: Path) -> CpuSet:
    try:
        return parse_set(_text(path))
    except ValueError:
        return frozenset()
