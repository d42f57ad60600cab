"""Reading a KubeletConfiguration into Settings, and what does not go together.

Source: kubelet's apis/config/validation (1.36), messages as there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from agent.kubelet.settings import DEFAULT_EVICTION_HARD, FIELDS, FLAGS, Settings
from machinery.api import quantity
from machinery.api.meta import Object
from machinery.errors import SettingsError

# Fields that ask for nothing this kubelet would do differently.
HARMLESS = frozenset(
    (
        "apiVersion",
        "kind",
        "tlsCurvePreferences",
        "eventRecordQPS",
        "eventBurst",
        "enableContentionProfiling",
        "volumeStatsAggPeriod",
        "kubeletCgroups",
        "hairpinMode",
        "maxOpenFiles",
        "contentType",
        "kubeAPIQPS",
        "kubeAPIBurst",
        "enableControllerAttachDetach",
        "makeIPTablesUtilChains",
        "iptablesMasqueradeBit",
        "iptablesDropBit",
        "configMapAndSecretChangeDetectionStrategy",
        "showHiddenMetricsForVersion",
        "volumePluginDir",
        "kernelMemcgNotification",
        "logging",
        "enableSystemLogQuery",
        "enableProfilingHandler",
        "enableDebugFlagsHandler",
        "memoryThrottlingFactor",
        "imagePullCredentialsVerificationPolicy",
        "preloadedImagesVerificationAllowlist",
        "podHousekeepingPeriod",
    )
)

# Fields of what is missing here, with the values that ask for nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "systemCgroups": ("",),
    "runOnce": (False,),
    "tracing": (None,),
}


def parse(document: Object, where: str) -> dict[str, Any]:
    """Values by attribute name of Settings. Raises SettingsError naming the field."""
    values: dict[str, Any] = {}
    _walk(document, "", where, values)
    return values


def _walk(node: Mapping[str, Any], prefix: str, where: str, values: dict[str, Any]) -> None:
    for name, value in node.items():
        path = prefix + name
        field = FIELDS.get(path)
        if field is not None:
            # Upstream takes zero values for "not set".
            unset = value == "" and field.name != "resolv_conf" and field.default not in ("", dataclasses.MISSING)
            if value is not None and not unset:
                values[field.name] = _parsed(field, value, f"{where}: {path}")
        elif path in HARMLESS:
            continue
        elif path in UNSUPPORTED:
            if value not in UNSUPPORTED[path]:
                raise SettingsError(f"{where}: {path}: {value!r} is not supported")
        elif any(known.startswith(path + ".") for known in FIELDS):
            if not isinstance(value, dict):
                raise SettingsError(f"{where}: {path}: an object is needed")
            _walk(value, path + ".", where, values)
        else:
            raise SettingsError(f'{where}: strict decoding error: unknown field "{path}"')


def _parsed(field: dataclasses.Field[Any], value: Any, where: str) -> Any:
    try:
        parsed = field.metadata["parse"](value)
    except ValueError as error:
        raise SettingsError(f"{where}: {value!r}: {error}") from error
    default = field.default
    # A zero duration or port in the file means the default, except where zero says something.
    zero_means_default = isinstance(default, float) and default > 0 and parsed == 0
    return default if zero_means_default else parsed


def flag_value(flag: str, text: str) -> Any:
    """The value of a flag that stands for a field. Raises ValueError."""
    return FLAGS[flag].metadata["parse"](text)


def build(file_values: Mapping[str, Any], flag_values: Mapping[str, Any]) -> Settings:
    """Flags over file over defaults. Raises SettingsError for what does not go together."""
    chosen = Settings(**{**file_values, **flag_values})
    if "status_update_seconds" in file_values and "status_report_seconds" not in file_values:
        chosen = dataclasses.replace(chosen, status_report_seconds=chosen.status_update_seconds)
    if chosen.max_parallel_pulls > 1 and "serialize_pulls" not in {*file_values, *flag_values}:
        chosen = dataclasses.replace(chosen, serialize_pulls=False)
    if chosen.merge_eviction_defaults:
        merged = {**DEFAULT_EVICTION_HARD, **chosen.eviction_hard}
        chosen = dataclasses.replace(chosen, eviction_hard=merged)
    _validate(chosen)
    return chosen


_ENFORCED = ("pods", "system-reserved", "kube-reserved", "none")
_COMPRESSIBLE = "-compressible"
_ID_BLOCK = 65536


def _validate(chosen: Settings) -> None:
    problems = [
        (not 0 <= chosen.image_gc_low_percent <= 100, "imageGCLowThresholdPercent must be between 0 and 100"),
        (not 0 <= chosen.image_gc_high_percent <= 100, "imageGCHighThresholdPercent must be between 0 and 100"),
        (
            chosen.image_gc_low_percent > chosen.image_gc_high_percent,
            "imageGCLowThresholdPercent must be less than imageGCHighThresholdPercent",
        ),
        (chosen.max_pods < 0, "maxPods must not be a negative number"),
        (not 0 <= chosen.healthz_port <= 65535, "healthzPort must be between 0 and 65535"),
        (not 0 <= chosen.port <= 65535, "port must be between 0 and 65535"),
        (not 0 <= chosen.read_only_port <= 65535, "readOnlyPort must be between 0 and 65535"),
        (not -1000 <= chosen.oom_score_adj <= 1000, "oomScoreAdj must be between -1000 and 1000"),
        (chosen.log_max_files <= 1, "containerLogMaxFiles must be greater than 1"),
        (chosen.log_max_workers < 1, "containerLogMaxWorkers must be greater than or equal to 1"),
        (chosen.lease_seconds <= 0, "nodeLeaseDurationSeconds must be greater than 0"),
        (bool(chosen.tls_cert_file) != bool(chosen.tls_key_file), "tlsCertFile and tlsPrivateKeyFile go together"),
        (
            chosen.swap_behavior not in ("", "NoSwap", "LimitedSwap"),
            f'memorySwap.swapBehavior "{chosen.swap_behavior}" must be one of: "", "LimitedSwap" or "NoSwap"',
        ),
        (
            chosen.user_ids_per_pod <= 0 or chosen.user_ids_per_pod % _ID_BLOCK != 0,
            f"userNamespaces.idsPerPod must be a multiple of {_ID_BLOCK}",
        ),
        *_of_enforcement(chosen),
        *_of_reserved_memory(chosen),
    ]
    for wrong, message in problems:
        if wrong:
            raise SettingsError(f"invalid configuration: {message}")


def _of_enforcement(chosen: Settings) -> Iterator[tuple[bool, str]]:
    flag = "enforceNodeAllocatable (--enforce-node-allocatable)"
    cgroups = {
        "system-reserved": (chosen.system_reserved_cgroup, "systemReservedCgroup (--system-reserved-cgroup)"),
        "kube-reserved": (chosen.kube_reserved_cgroup, "kubeReservedCgroup (--kube-reserved-cgroup)"),
    }
    for key in chosen.enforce_allocatable:
        kind = key.removesuffix(_COMPRESSIBLE)
        known = kind in _ENFORCED and (kind == key or kind in cgroups)
        valid = ", ".join(f'"{name}"' for name in _ENFORCED[:-1])
        yield not known, f'option "{key}" specified for {flag}. Valid options are {valid}, or "{_ENFORCED[-1]}"'
        if kind in cgroups:
            yield not cgroups[kind][0], f'{cgroups[kind][1]} must be specified when "{key}" contained in {flag}'
    alone = "none" in chosen.enforce_allocatable and len(chosen.enforce_allocatable) > 1
    yield alone, f'{flag} may not contain additional enforcements when "none" is specified'
    yield (
        bool(chosen.reserved_cpus and (chosen.system_reserved_cgroup or chosen.kube_reserved_cgroup)),
        "can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup (--system-reserved-cgroup) or "
        "kubeReservedCgroup (--kube-reserved-cgroup)",
    )
    for name, share in chosen.qos_reserved.items():
        yield name != "memory", f'qosReserved (--qos-reserved): "{name}" is not supported, only "memory" is accepted'
        number = share.removesuffix("%")
        percent = share.endswith("%") and number.isdigit() and int(number) <= 100
        yield not percent, f'qosReserved (--qos-reserved): "{share}" is not a percentage between 0% and 100%'


def _of_reserved_memory(chosen: Settings) -> Iterator[tuple[bool, str]]:
    seen = set()
    for entry in chosen.reserved_memory:
        node = entry.get("numaNode") or 0
        for kind, amount in (entry.get("limits") or {}).items():
            supported = kind == "memory" or kind.startswith("hugepages-")
            yield (
                not supported,
                f'the limit type "{kind}" for NUMA node {node} is not supported, '
                "only [memory hugepages-<HugePageSize>] is accepted",
            )
            yield _is_zero(amount), f'reserved memory may not be zero for NUMA node {node} and resource "{kind}"'
            again = (node, kind) in seen
            yield again, f'the reserved memory has a duplicate value for NUMA node {node} and resource "{kind}"'
            seen.add((node, kind))


def _is_zero(amount: Any) -> bool:
    try:
        return not quantity.parse(amount)
    except ValueError as error:
        raise SettingsError(f"reservedMemory: {amount!r}: {error}") from error
