"""What the node, its pods and their containers use, gathered on demand.

Source: Summary API (k8s.io/kubelet/pkg/apis/stats/v1alpha1); KEP-2371 (stats from the runtime).
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from agent.cri import api_pb2 as pb
from agent.cri.client import CriClient
from agent.cri.errors import CriError
from agent.kubelet.container import identity
from agent.kubelet.node import machine


@dataclass(frozen=True, slots=True)
class Usage:
    """One thing's use. CPU in nanoseconds since it began, memory in bytes; None for unknown."""

    cpu_ns: int | None = None
    memory_usage: int | None = None
    memory_working_set: int | None = None
    memory_rss: int | None = None
    page_faults: int | None = None
    major_page_faults: int | None = None
    at: float = 0.0  # seconds since 1970


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """A container's use."""

    name: str
    id: str
    started_at: float
    usage: Usage
    disk_bytes: int | None = None
    disk_inodes: int | None = None


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface's counters."""

    name: str
    rx_bytes: int
    rx_errors: int
    tx_bytes: int
    tx_errors: int


@dataclass(slots=True)
class PodUsage:
    """A pod's use."""

    uid: str
    name: str
    namespace: str
    containers: list[ContainerUsage] = field(default_factory=list)
    interfaces: list[Interface] = field(default_factory=list)
    processes: int | None = None
    started_at: float = 0.0

    @property
    def total(self) -> Usage:
        """All containers together."""
        used = [c.usage for c in self.containers]
        return Usage(
            cpu_ns=sum(u.cpu_ns or 0 for u in used),
            memory_usage=sum(u.memory_usage or 0 for u in used),
            memory_working_set=sum(u.memory_working_set or 0 for u in used),
            memory_rss=sum(u.memory_rss or 0 for u in used),
            at=max((u.at for u in used), default=time.time()),
        )


class UsageReader:
    """Asks the runtime and the kernel. One for the whole kubelet."""

    def __init__(self, cri: CriClient) -> None:
        self._cri = cri
        self._has_sandbox_stats = True

    async def pods(self) -> list[PodUsage]:
        """All running pods' use. Raises CriError."""
        found, sandboxes = await asyncio.gather(self._cri.list_container_stats(), self._sandbox_stats())
        pods: dict[str, PodUsage] = {}
        for stats in found:
            labels = stats.attributes.labels
            uid = labels.get(identity.POD_UID)
            if uid is None:
                continue
            pod = pods.setdefault(
                uid, PodUsage(uid, labels.get(identity.POD_NAME, ""), labels.get(identity.POD_NAMESPACE, ""))
            )
            pod.containers.append(_container(stats))
        for sandbox in sandboxes:
            pod_of = pods.get(sandbox.attributes.metadata.uid)
            if pod_of is not None:
                pod_of.interfaces = _interfaces(sandbox.linux.network)
                if sandbox.linux.process.HasField("process_count"):
                    pod_of.processes = sandbox.linux.process.process_count.value
        return sorted(pods.values(), key=lambda pod: (pod.namespace, pod.name))

    async def _sandbox_stats(self) -> list[pb.PodSandboxStats]:
        if not self._has_sandbox_stats:
            return []
        try:
            return list(await self._cri.list_pod_sandbox_stats())
        except CriError:  # older runtimes don't have it, or fail for sandboxes that come and go
            return []


def _container(stats: pb.ContainerStats) -> ContainerUsage:
    memory, layer = stats.memory, stats.writable_layer
    return ContainerUsage(
        name=stats.attributes.labels.get(identity.CONTAINER_NAME, stats.attributes.metadata.name),
        id=stats.attributes.id,
        started_at=0.0,
        usage=Usage(
            cpu_ns=stats.cpu.usage_core_nano_seconds.value if stats.HasField("cpu") else None,
            memory_usage=memory.usage_bytes.value if memory.HasField("usage_bytes") else None,
            memory_working_set=memory.working_set_bytes.value if stats.HasField("memory") else None,
            memory_rss=memory.rss_bytes.value if memory.HasField("rss_bytes") else None,
            page_faults=memory.page_faults.value if memory.HasField("page_faults") else None,
            major_page_faults=memory.major_page_faults.value if memory.HasField("major_page_faults") else None,
            at=(stats.cpu.timestamp or time.time_ns()) / 1e9,
        ),
        disk_bytes=layer.used_bytes.value if layer.HasField("used_bytes") else None,
        disk_inodes=layer.inodes_used.value if layer.HasField("inodes_used") else None,
    )


def _interfaces(network: pb.NetworkUsage) -> list[Interface]:
    found = [network.default_interface, *network.interfaces] if network.HasField("default_interface") else []
    return [Interface(i.name, i.rx_bytes.value, i.rx_errors.value, i.tx_bytes.value, i.tx_errors.value) for i in found]


def node_usage() -> Usage:
    """The whole machine's use, from /proc."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    times = [int(part) for part in fields]
    busy = sum(times[:3]) + sum(times[5:8])  # all but idle and waiting for disks
    memory = machine.meminfo()
    total, free = memory["MemTotal"], memory["MemFree"]
    inactive = memory.get("Inactive(file)", 0)
    return Usage(
        cpu_ns=busy * 1_000_000_000 // ticks,
        memory_usage=total - free,
        memory_working_set=max(0, total - free - inactive),
        memory_rss=memory.get("AnonPages", 0),
        at=time.time(),
    )


def node_interfaces() -> list[Interface]:
    """The host's own network counters."""
    found = []
    for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:]:
        name, _, rest = line.partition(":")
        values = [int(part) for part in rest.split()]
        if name.strip() != "lo":
            found.append(Interface(name.strip(), values[0], values[2], values[8], values[10]))
    return found
