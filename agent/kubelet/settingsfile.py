"""Reading a KubeletConfiguration into Settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from agent.kubelet import settingsrules
from agent.kubelet.settings import DEFAULT_EVICTION_HARD, FIELDS, FLAGS, Settings
from machinery.api.meta import Object
from machinery.errors import SettingsError
from machinery.log import get_logger

log = get_logger(__name__)

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
            # As upstream: a file for another version is no reason not to run.
            log.warning("using lenient decoding as strict decoding failed", file=where, unknown_field=path)


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
    settingsrules.check(chosen)
    return chosen
