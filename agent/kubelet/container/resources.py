"""Requests and limits in the kernel's terms.

Source: kubelet's cm/helpers_linux.go and kuberuntime_container_linux.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.cri import api_pb2 as pb
from agent.kubelet.pods import qos, spec
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


@dataclass(frozen=True, slots=True)
class Rules:
    """What of the machine and the settings decides how a container is limited."""

    memory_bytes: int = 0
    swap_bytes: int = 0
    unified: bool = False  # cgroup v2
    can_limit_swap: bool = False
    limited_swap: bool = False  # memorySwap.swapBehavior: LimitedSwap
    page_sizes: tuple[str, ...] = ()  # of huge pages, as control groups name them: 2MB
    cfs_quota: bool = True
    period_seconds: float = 0.1
    single_process_oom_kill: bool = False


def of_amounts(requests: Resources, limits: Resources, rules: Rules) -> pb.LinuxContainerResources:
    """Shares, quota and memory limit for these requests and limits."""
    period_us = int(rules.period_seconds * 1_000_000)
    made = pb.LinuxContainerResources(
        # A limit without a request asks for as much as it allows.
        cpu_shares=cpu_shares(_milli(requests if "cpu" in requests else limits, "cpu")),
        memory_limit_in_bytes=_bytes(limits, "memory"),
    )
    if rules.cfs_quota:
        made.cpu_quota = cpu_quota(_milli(limits, "cpu"), period_us)
        made.cpu_period = period_us
    pages = dict.fromkeys(rules.page_sizes, 0)
    for name, amount in limits.items():
        if name.startswith("hugepages-"):
            pages[name.removeprefix("hugepages-").rstrip("i") + "B"] = amount.value()
    for size, limit in sorted(pages.items()):
        made.hugepage_limits.append(pb.HugepageLimit(page_size=size, limit=limit))
    return made


def of_container(pod: Object, container: Object, rules: Rules) -> pb.LinuxContainerResources:
    """A container's resources. What it has no limit of is limited by the pod's, if that has one."""
    own = podresources.of_container(container, "limits")
    of_pod = podresources.of_container(pod["spec"], "limits") if pod["spec"].get("resources") else {}
    limits = {name: of_pod[name] for name in ("cpu", "memory") if name in of_pod} | own
    made = of_amounts(podresources.of_container(container, "requests"), limits, rules)
    made.oom_score_adj = qos.oom_score_adj(pod, container, rules.memory_bytes)
    if rules.unified and not rules.single_process_oom_kill:
        made.unified["memory.oom.group"] = "1"
    if rules.can_limit_swap and rules.unified:
        made.unified["memory.swap.max"] = str(swap_limit(pod, container, rules))
    elif rules.can_limit_swap:
        # The sum of memory and swap is the memory: no swap.
        made.memory_swap_limit_in_bytes = made.memory_limit_in_bytes
    return made


def swap_limit(pod: Object, container: Object, rules: Rules) -> int:
    """Bytes that a container may swap: burstable ones as much of the swap as they ask for of the memory (KEP-2400)."""
    request = podresources.of_container(container).get("memory")
    limit = podresources.of_container(container, "limits").get("memory")
    if not rules.limited_swap or spec.is_critical(pod) or qos.qos_class(pod) != qos.BURSTABLE:
        return 0
    if not request or (limit is not None and request.nanos == limit.nanos):
        return 0
    asked = request.value()
    return int(asked / rules.memory_bytes * rules.swap_bytes) if 0 < asked <= rules.memory_bytes else 0
