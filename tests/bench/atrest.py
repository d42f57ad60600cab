"""What a lab costs while nobody asks for anything: CPU and memory, by component, against the target.

    NAVARCH_LAB=lab python -P tests/bench/atrest.py [--seconds 60]

The lab must be up, and settled: wait two minutes after `navarch up`.  CPU is user and system time of every process in
the lab's cgroups, as a share of one core; memory is PSS, so that what processes share counts once.

Source: proc(5): /proc/PID/stat, smaps_rollup.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.hosts import cgroups
from lab.layout import Layout
from machinery.testing.speed import loop_milliseconds

CPU_TARGET = 15.0
"""Percent of one core, for three control planes and two workers. kube-*'s own programs: about 18."""
MEMORY_TARGET = 1.6
"""GiB. kube-*'s own programs: about 2.1."""
_TICKS = os.sysconf("SC_CLK_TCK")
_COMPONENTS = (
    "controlplane.apiserver",
    "controlplane.controllers",
    "controlplane.scheduler",
    "agent.kubelet",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "navarch-network",
    "coredns",
    "containerd-shim",
    "containerd",
    "docker-registry",
    "haproxy",
    "lab.supervisor",
    "etcd",
    "pause",
)


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment."""

    component: str
    cpu_seconds: float


def name_of(command: bytes) -> str:
    """The component that a command line runs."""
    words = [word.decode(errors="replace") for word in command.split(b"\0")[:5]]
    for component in _COMPONENTS:
        if any(word == component or word.rpartition("/")[2].startswith(component) for word in words):
            return component.rpartition(".")[2]
    return "other"


def look(pids: Iterable[int]) -> dict[int, Process]:
    """How much each has used so far."""
    found = {}
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        found[pid] = Process(name_of(command), (int(fields[11]) + int(fields[12])) / _TICKS)
    return found


def pss_bytes(pid: int) -> int:
    """The memory of a process, with its part of what it shares; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)


def total_cpu(layout: Layout) -> float | None:
    """Seconds used by all that the lab's cgroup ever held, short-lived programs included, where the kernel counts."""
    for tree in cgroups.hierarchies():
        folder = tree.child(layout.cgroup)
        usage, stat = folder / "cpuacct.usage", folder / "cpu.stat"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        if tree.version == 2 and stat.exists() and "usage_usec" in stat.read_text():
            return int(stat.read_text().split("usage_usec ")[1].split()[0]) / 1e6
    return None


def main() -> int:
    """Measure, print, and say by the exit status whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to look (60)")
    seconds = parser.parse_args().seconds
    layout = Layout.from_environment()
    trees = cgroups.hierarchies()
    pids = cgroups.processes(trees, layout.cgroup)
    if not pids:
        print(f"no lab {layout.name!r} runs", file=sys.stderr)
        return 2
    before, whole, began = look(pids), total_cpu(layout), time.monotonic()
    time.sleep(seconds)
    lasted = time.monotonic() - began
    after = look(cgroups.processes(trees, layout.cgroup))
    used, count, memory = defaultdict[str, float](float), defaultdict[str, int](int), defaultdict[str, int](int)
    for pid, process in after.items():
        since = before[pid].cpu_seconds if pid in before else 0.0
        used[process.component] += process.cpu_seconds - since
        count[process.component] += 1
        memory[process.component] += pss_bytes(pid)
    finished = total_cpu(layout)
    every = sum(used.values()) if whole is None or finished is None else finished - whole
    used["programs that ended"] = max(every - sum(used.values()), 0.0)
    print(f"{'component':<24}{'processes':>10}{'% of a core':>13}{'PSS MiB':>10}")
    for name in sorted(used, key=lambda each: -used[each]):
        print(f"{name:<24}{count[name]:>10}{used[name] / lasted * 100:>13.2f}{memory[name] / (1 << 20):>10.0f}")
    cpu, gib = every / lasted * 100, sum(memory.values()) / (1 << 30)
    print(f"{'all':<24}{len(after):>10}{cpu:>13.2f}{gib * 1024:>10.0f}")
    print(f"a loop of Python takes {loop_milliseconds():.1f} ms: compare like with like")
    print(f"target: {CPU_TARGET:g} % of one core, {MEMORY_TARGET:g} GiB; measured {cpu:.1f} %, {gib:.2f} GiB")
    return 0 if cpu <= CPU_TARGET and gib <= MEMORY_TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
