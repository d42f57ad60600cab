"""Machines for tests: a /sys below any folder, as the kernel would show it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.kubelet.resources.topology import Topology, read_topology

GI = 1 << 30


@dataclass(frozen=True)
class Shape:
    """Siblings are numbered as Linux does: all first threads of all cores, then all second ones."""

    sockets: int = 1
    nodes: int = 1  # of a socket
    cores: int = 4  # of a node
    threads: int = 2
    caches: int = 1  # of a node
    memory_bytes: int = 8 * GI  # of a node
    hugepages_2m: int = 0  # of a node
    distances: tuple[str, ...] = ()


def write_sys(root: Path, shape: Shape) -> str:
    system = root / "devices/system"
    nodes, total = shape.sockets * shape.nodes, shape.sockets * shape.nodes * shape.cores
    _write(system / "cpu/online", f"0-{total * shape.threads - 1}")
    for core in range(total):
        siblings = [core + total * thread for thread in range(shape.threads)]
        shared = core // (shape.cores // shape.caches) * (shape.cores // shape.caches)
        in_cache = [
            c + total * t for c in range(shared, shared + shape.cores // shape.caches) for t in range(shape.threads)
        ]
        for cpu in siblings:
            own = system / f"cpu/cpu{cpu}"
            _write(own / "topology/physical_package_id", str(core // (shape.cores * shape.nodes)))
            _write(own / "topology/thread_siblings_list", ",".join(map(str, siblings)))
            _write(own / "cache/index3/level", "3")
            _write(own / "cache/index3/id", str(shared))
            _write(own / "cache/index3/shared_cpu_list", ",".join(map(str, in_cache)))
    for number in range(nodes):
        own = system / f"node/node{number}"
        first = [number * shape.cores + c for c in range(shape.cores)]
        _write(own / "cpulist", ",".join(str(c + total * t) for c in first for t in range(shape.threads)))
        _write(own / "meminfo", f"Node {number} MemTotal:       {shape.memory_bytes // 1024} kB")
        _write(own / "hugepages/hugepages-2048kB/nr_hugepages", str(shape.hugepages_2m))
        _write(own / "distance", shape.distances[number] if shape.distances else " ".join(["10"] * nodes))
    return str(root)


def machine(root: Path, shape: Shape) -> Topology:
    return read_topology(write_sys(root, shape))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
