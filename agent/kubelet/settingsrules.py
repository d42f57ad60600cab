"""What does not go together in a KubeletConfiguration: all of it at once, in upstream's words.

Source: kubelet's apis/config/validation (1.36), messages as there.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from typing import Any

from agent.kubelet.resources.cpuset import parse_set
from agent.kubelet.settings import Settings
from machinery.api import quantity
from machinery.api.fielderror import show
from machinery.errors import SettingsError
from machinery.settings import show_duration

TOPOLOGY_POLICIES = ("none", "best-effort", "restricted", "single-numa-node")
TOPOLOGY_SCOPES = ("container", "pod")

_COMPRESSIBLE = "-compressible"
_RESERVED = ("system-reserved", "kube-reserved")
_ENFORCED = ("pods", *(f"{key}{suffix}" for key in _RESERVED for suffix in ("", _COMPRESSIBLE)), "none")
_ENFORCEMENT = "enforceNodeAllocatable (--enforce-node-allocatable)"
_RESERVED_CGROUPS = "systemReservedCgroup (--system-reserved-cgroup)", "kubeReservedCgroup (--kube-reserved-cgroup)"
_ID_BLOCK = 65536


def check(chosen: Settings) -> None:
    """Raises SettingsError that tells everything that is wrong."""
    found = [
        *_of_numbers(chosen),
        *_of_images(chosen),
        *_of_topology(chosen),
        *_of_shutdown(chosen),
        *_of_enforcement(chosen),
        *_of_reserved_memory(chosen),
        *_of_logs(chosen),
    ]
    texts = [f"invalid configuration: {text}" for text in dict.fromkeys(found)]
    if texts:
        raise SettingsError(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")


def _of_numbers(chosen: Settings) -> Iterator[str]:
    if chosen.lease_seconds <= 0:
        yield "nodeLeaseDurationSeconds must be greater than 0"
    for name, port, lowest in (
        ("healthzPort (--healthz-port)", chosen.healthz_port, 1),
        ("port (--port)", chosen.port, 1),
        ("readOnlyPort (--read-only-port)", chosen.read_only_port, 0),
    ):
        if not 0 <= port <= 65535:
            yield f"{name} {port} must be between {lowest} and 65535, inclusive"
    if not 0.001 <= chosen.cpu_cfs_period_seconds <= 1:
        shown = show_duration(chosen.cpu_cfs_period_seconds)
        yield f"cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {shown} must be between 1ms and 1sec, inclusive"
    if chosen.max_images_shown < -1:
        yield f"nodeStatusMaxImages (--node-status-max-images) {chosen.max_images_shown} must be -1 or greater"
    for name, number in (
        ("maxPods (--max-pods)", chosen.max_pods),
        ("podsPerCore (--pods-per-core)", chosen.pods_per_core),
        ("registryBurst (--registry-burst)", chosen.pull_burst),
        ("registryPullQPS (--registry-qps)", chosen.pull_qps),
    ):
        if number < 0:
            yield f"{name} {number} must not be a negative number"
    if not -1000 <= chosen.oom_score_adj <= 1000:
        yield f"oomScoreAdj (--oom-score-adj) {chosen.oom_score_adj} must be between -1000 and 1000, inclusive"
    if bool(chosen.tls_cert_file) != bool(chosen.tls_key_file):
        yield "tlsCertFile and tlsPrivateKeyFile go together"
    if chosen.user_ids_per_pod <= 0 or chosen.user_ids_per_pod % _ID_BLOCK != 0:
        yield f"userNamespaces.idsPerPod must be a multiple of {_ID_BLOCK}"
    if not 1 <= chosen.crash_loop_max_seconds <= 300:
        got = f"{chosen.crash_loop_max_seconds:g}"
        yield f"CrashLoopBackOff.MaxContainerRestartPeriod (got: {got} seconds) must be set between 1s and 300s"


def _of_images(chosen: Settings) -> Iterator[str]:
    high, low = chosen.image_gc_high_percent, chosen.image_gc_low_percent
    of_high, of_low = (f"imageGC{end}ThresholdPercent (--image-gc-{end.lower()}-threshold)" for end in ("High", "Low"))
    for name, percent in ((of_high, high), (of_low, low)):
        if not 0 <= percent <= 100:
            yield f"{name} {percent} must be between 0 and 100, inclusive"
    if low >= high:
        yield f"{of_low} {low} must be less than {of_high} {high}"
    youngest, oldest = chosen.image_min_age_seconds, chosen.image_max_age_seconds
    for name, seconds in (("imageMinimumGCAge", youngest), ("imageMaximumGCAge", oldest)):
        if seconds < 0:
            yield f"{name} {show_duration(seconds)} must not be negative"
    if 0 < oldest <= youngest:
        old, young = show_duration(oldest), show_duration(youngest)
        yield f"imageMaximumGCAge {old} must be greater than imageMinimumGCAge {young}"
    if chosen.max_parallel_pulls < 0:
        yield f"maxParallelImagePulls {chosen.max_parallel_pulls} must be a positive number"
    if chosen.serialize_pulls and chosen.max_parallel_pulls > 1:
        yield (
            "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) "
            "is set to false"
        )


def _of_topology(chosen: Settings) -> Iterator[str]:
    policy, scope = chosen.topology_manager_policy, chosen.topology_manager_scope
    if policy and policy not in TOPOLOGY_POLICIES:
        known = " ".join(show(name) for name in TOPOLOGY_POLICIES)
        yield f"topologyManagerPolicy (--topology-manager-policy) {show(policy)} must be one of: [{known}]"
    if scope and scope not in TOPOLOGY_SCOPES:
        known = ", or ".join(show(name) for name in TOPOLOGY_SCOPES)
        yield f"topologyManagerScope (--topology-manager-scope) {show(scope)} must be one of: {known}"


def _of_shutdown(chosen: Settings) -> Iterator[str]:
    whole, critical = chosen.shutdown_seconds, chosen.shutdown_critical_seconds
    if critical > whole:
        yield (
            f"shutdownGracePeriodCriticalPods {show_duration(critical)} must be <= "
            f"shutdownGracePeriod {show_duration(whole)}"
        )
    for name, seconds in (("shutdownGracePeriod", whole), ("shutdownGracePeriodCriticalPods", critical)):
        if seconds < 0 or 0 < seconds < 1:
            yield f"{name} {show_duration(seconds)} must be either zero or otherwise >= 1 sec"
    if chosen.shutdown_by_priority and (whole > 0 or critical > 0):
        yield "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time"
    if chosen.swap_behavior not in ("", "NoSwap", "LimitedSwap"):
        yield f'memorySwap.swapBehavior {show(chosen.swap_behavior)} must be one of: "", "LimitedSwap" or "NoSwap"'


def _of_enforcement(chosen: Settings) -> Iterator[str]:
    cgroups = dict(zip(_RESERVED, (chosen.system_reserved_cgroup, chosen.kube_reserved_cgroup), strict=True))
    keys = chosen.enforce_allocatable
    for key in _RESERVED:
        if key in keys and key + _COMPRESSIBLE in keys:
            yield f"both {show(key)} and {show(key + _COMPRESSIBLE)} cannot be specified together in {_ENFORCEMENT}"
    for position, key in enumerate(keys):
        if key in keys[:position]:
            yield f"duplicated enforcements {show(key)} in {_ENFORCEMENT}"
        elif key == "none":
            if len(keys) > 1:
                yield f'{_ENFORCEMENT} may not contain additional enforcements when "none" is specified'
        elif key not in _ENFORCED:
            valid = ", ".join(show(name) for name in _ENFORCED[:-1])
            yield f"option {show(key)} specified for {_ENFORCEMENT}. Valid options are {valid} or {show(_ENFORCED[-1])}"
        else:
            yield from _of_enforced(chosen, key, cgroups)
    if chosen.reserved_cpus:
        if any(cgroups.values()):
            yield f"can't use reservedSystemCPUs (--reserved-cpus) with {' or '.join(_RESERVED_CGROUPS)}"
        try:
            parse_set(chosen.reserved_cpus)
        except ValueError as error:
            yield f"unable to parse reservedSystemCPUs (--reserved-cpus) {chosen.reserved_cpus}, error: {error}"
    for name, share in chosen.qos_reserved.items():
        if name != "memory":
            yield f'qosReserved (--qos-reserved): "{name}" is not supported, only "memory" is accepted'
        number = share.removesuffix("%")
        if not (share.endswith("%") and number.isdigit() and int(number) <= 100):
            yield f'qosReserved (--qos-reserved): "{share}" is not a percentage between 0% and 100%'


def _of_enforced(chosen: Settings, key: str, cgroups: dict[str, str]) -> Iterator[str]:
    kind = key.removesuffix(_COMPRESSIBLE)
    if kind in cgroups and not cgroups[kind]:
        cgroup = _RESERVED_CGROUPS[_RESERVED.index(kind)]
        yield f"{cgroup} must be specified when {show(kind)} or {show(kind + _COMPRESSIBLE)} included in {_ENFORCEMENT}"
    if not chosen.cgroups_per_qos:
        yield f"cgroupsPerQOS (--cgroups-per-qos) must be set to true when {show(key)} contained in {_ENFORCEMENT}"


def _of_reserved_memory(chosen: Settings) -> Iterator[str]:
    seen = set()
    for entry in chosen.reserved_memory:
        node = entry.get("numaNode") or 0
        for kind, amount in (entry.get("limits") or {}).items():
            if kind != "memory" and not kind.startswith("hugepages-"):
                yield (
                    f'the limit type "{kind}" for NUMA node {node} is not supported, '
                    "only [memory hugepages-<HugePageSize>] is accepted"
                )
            if _is_zero(amount):
                yield f'reserved memory may not be zero for NUMA node {node} and resource "{kind}"'
            if (node, kind) in seen:
                yield f'the reserved memory has a duplicate value for NUMA node {node} and resource "{kind}"'
            seen.add((node, kind))


def _is_zero(amount: Any) -> bool:
    try:
        return not quantity.parse(amount)
    except ValueError as error:
        raise SettingsError(f"reservedMemory: {amount!r}: {error}") from error


def _of_logs(chosen: Settings) -> Iterator[str]:
    if not chosen.runtime_endpoint:
        yield "the containerRuntimeEndpoint was not specified or empty"
    if chosen.log_max_workers < 1:
        yield "containerLogMaxWorkers must be greater than or equal to 1"
    if chosen.log_monitor_seconds < 3:
        yield "containerLogMonitorInterval must be a positive time duration greater than or equal to 3s"
    if chosen.log_max_files <= 1:
        yield "containerLogMaxFiles must be greater than 1"
    where = chosen.pod_logs_dir
    if not where:
        yield "podLogsDir was not specified"
    if not os.path.isabs(where):
        yield f"pod logs path {show(where)} must be absolute path"
    if where != os.path.normpath(where):
        yield f"pod logs path {show(where)} must be normalized"
    if not where.isascii():
        yield f"pod logs path {show(where)} mut contains ASCII characters only"
