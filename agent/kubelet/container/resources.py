"""Requests and limits in the kernel's terms.

Source: kubelet's cm/helpers_linux.go and kuberuntime_container_linux.go.
"""

from __future__ import annotations

from agent.cri import api_pb2 as pb
from agent.kubelet.pods import qos
from machinery.api import podresources
from machinery.api.meta import Object
from machinery.api.podresources import Resources

MIN_SHARES, MAX_SHARES = 2, 262144
MIN_QUOTA = 1000


def cpu_shares(milli_cpu: int) -> int:
    """cpu.shares of so many thousandths of a CPU."""
    return max(MIN_SHARES, min(MAX_SHARES, milli_cpu * 1024 // 1000)) if milli_cpu else MIN_SHARES


def cpu_quota(milli_cpu: int, period_us: int) -> int:
    """cpu.cfs_quota_us of so many thousandths of a CPU; 0 for no limit."""
    return max(MIN_QUOTA, milli_cpu * period_us // 1000) if milli_cpu else 0


def _milli(amounts: Resources, name: str) -> int:
    amount = amounts.get(name)
    return amount.milli_value() if amount is not None else 0


def _bytes(amounts: Resources, name: str) -> int:
    amount = amounts.get(name)
    return amount.value() if amount is not None else 0


def of_amounts(
    requests: Resources, limits: Resources, *, cfs_quota: bool, period_seconds: float
) -> pb.LinuxContainerResources:
    """Shares, quota and memory limit for these requests and limits."""
    period_us = int(period_seconds * 1_000_000)
    made = pb.LinuxContainerResources(
        # A limit without a request asks for as much as it allows.
        cpu_shares=cpu_shares(_milli(requests if "cpu" in requests else limits, "cpu")),
        memory_limit_in_bytes=_bytes(limits, "memory"),
    )
    if cfs_quota:
        made.cpu_quota = cpu_quota(_milli(limits, "cpu"), period_us)
        made.cpu_period = period_us
    for name, amount in sorted(limits.items()):
        if name.startswith("hugepages-"):
            size = name.removeprefix("hugepages-").rstrip("i") + "B"
            made.hugepage_limits.append(pb.HugepageLimit(page_size=size, limit=amount.value()))
    return made


def of_container(
    pod: Object,
    container: Object,
    *,
    memory_capacity_bytes: int,
    cfs_quota: bool,
    period_seconds: float,
    unified: bool,
    single_process_oom_kill: bool = False,
) -> pb.LinuxContainerResources:
    """A container's resources; `unified` is cgroup v2."""
    made = of_amounts(
        podresources.of_container(container, "requests"),
        podresources.of_container(container, "limits"),
        cfs_quota=cfs_quota,
        period_seconds=period_seconds,
    )
    made.oom_score_adj = qos.oom_score_adj(pod, container, memory_capacity_bytes)
    if unified:
        if not single_process_oom_kill:
            made.unified["memory.oom.group"] = "1"
        if made.memory_limit_in_bytes:
            # No swap: the sum of memory and swap is the memory.
            made.memory_swap_limit_in_bytes = made.memory_limit_in_bytes
    return made
