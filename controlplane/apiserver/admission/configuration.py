"""--admission-control-config-file: an AdmissionConfiguration with what each plugin needs.

Source: apiserver.config.k8s.io/v1 AdmissionConfiguration, ResourceQuotaConfiguration;
pod-security.admission.config.k8s.io/v1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ryaml

from controlplane.apiserver.admission.podsecurity.levels import (
    LATEST,
    LEVELS,
    PRIVILEGED,
    Policy,
    Standard,
    parse_version,
)
from controlplane.apiserver.admission.podsecurity.plugin import Settings as PodSecuritySettings
from machinery.api.meta import Object
from machinery.errors import SettingsError

_FLAG = "--admission-control-config-file"


def load(path: str) -> dict[str, Object]:
    """The configuration of each plugin that has one. Raises SettingsError."""
    if not path:
        return {}
    whole = _read(Path(path))
    if whole.get("kind") != "AdmissionConfiguration":
        raise SettingsError(f"{_FLAG}: {path} is not an AdmissionConfiguration")
    found: dict[str, Object] = {}
    for plugin in whole.get("plugins") or ():
        if not isinstance(plugin, dict) or not isinstance(plugin.get("name"), str):
            raise SettingsError(f"{_FLAG}: {path}: a plugin without a name")
        own = plugin.get("configuration")
        if own is None and plugin.get("path"):
            own = _read(Path(path).parent / plugin["path"])
        found[plugin["name"]] = own if isinstance(own, dict) else {}
    return found


def _read(path: Path) -> Object:
    try:
        whole = ryaml.loads(path.read_text())
    except (OSError, ValueError, ryaml.InvalidYamlError) as exc:
        raise SettingsError(f"{_FLAG}: can't read {path}: {exc}") from exc
    if not isinstance(whole, dict):
        raise SettingsError(f"{_FLAG}: {path} holds no object")
    return whole


def limited_resources(configuration: Object | None) -> list[Object]:
    """What a ResourceQuotaConfiguration lets be used within a quota only. Raises SettingsError."""
    limited = (configuration or {}).get("limitedResources") or []
    if not isinstance(limited, list) or not all(isinstance(item, dict) and item.get("resource") for item in limited):
        raise SettingsError("ResourceQuota: limitedResources must be a list of resources")
    return limited


def pod_security(configuration: Object | None) -> PodSecuritySettings:
    """PodSecurityConfiguration. Raises SettingsError."""
    defaults: Any = (configuration or {}).get("defaults") or {}
    exemptions: Any = (configuration or {}).get("exemptions") or {}
    return PodSecuritySettings(
        Policy(*(_standard(defaults, mode) for mode in ("enforce", "audit", "warn"))),
        frozenset(exemptions.get("usernames") or ()),
        frozenset(exemptions.get("namespaces") or ()),
        frozenset(exemptions.get("runtimeClasses") or ()),
    )


def _standard(defaults: Any, mode: str) -> Standard:
    level = defaults.get(mode) or PRIVILEGED
    minor = parse_version(defaults.get(f"{mode}-version") or "latest")
    if level not in LEVELS:
        raise SettingsError(f"PodSecurity: defaults.{mode}: {level!r} must be one of {', '.join(LEVELS)}")
    if minor is None:
        raise SettingsError(f'PodSecurity: defaults.{mode}-version must be "latest" or "v1.x"')
    return Standard(level, minor if minor != LATEST else LATEST)
