"""The further checks of the restricted level: current practice of hardening.

Source: k8s.io/pod-security-admission/policy/check_*.go; kubernetes.io, "Pod Security Standards".
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.admission.podsecurity.baseline import (
    CHECKS as BASELINE,
)
from controlplane.apiserver.admission.podsecurity.baseline import (
    Check,
    Finding,
    containers,
    context,
    in_user_namespace,
    masked_proc,
    quoted,
    setters,
    several,
)
from machinery.api.meta import Object

_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_PROFILES = ("RuntimeDefault", "Localhost")
_WINDOWS_SINCE = 25


def _windows(spec: Object, minor: int) -> bool:
    """Whether the pod runs where this does not apply."""
    return minor >= _WINDOWS_SINCE and (spec.get("os") or {}).get("name") == "windows"


def allow_privilege_escalation(metadata: Object, spec: Object, minor: int) -> Finding:
    """No setuid."""
    if minor < 8 or _windows(spec, minor):
        return None
    names = [c["name"] for c in containers(spec) if context(c).get("allowPrivilegeEscalation") is not False]
    if not names:
        return None
    detail = f"{several(names)} must set securityContext.allowPrivilegeEscalation=false"
    return "allowPrivilegeEscalation != false", detail


def capabilities(metadata: Object, spec: Object, minor: int) -> Finding:
    """All capabilities dropped, at most NET_BIND_SERVICE added."""
    if minor < 22 or _windows(spec, minor):
        return None
    keep: list[str] = []
    adding: list[str] = []
    added: set[str] = set()
    for container in containers(spec):
        wish = context(container).get("capabilities") or {}
        if "ALL" not in (wish.get("drop") or ()):
            keep.append(container["name"])
        bad = set(wish.get("add") or ()) - {"NET_BIND_SERVICE"}
        if bad:
            adding.append(container["name"])
            added |= bad
    details = []
    if keep:
        details.append(f'{several(keep)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        told = quoted(sorted(added))
        details.append(f"{several(adding)} must not include {told} in securityContext.capabilities.add")
    return ("unrestricted capabilities", "; ".join(details)) if details else None


def volumes(metadata: Object, spec: Object, minor: int) -> Finding:
    """Only volumes that have nothing of the host's."""
    names: list[str] = []
    types: set[str] = set()
    for volume in spec.get("volumes") or ():
        kind = next((key for key, value in volume.items() if key != "name" and value is not None), "unknown")
        if kind not in _VOLUMES:
            names.append(volume["name"])
            types.add(kind)
    if not names:
        return None
    uses = "uses" if len(names) == 1 else "use"
    called = several(sorted(types), "restricted volume type")
    return "restricted volume types", f"{several(names, 'volume')} {uses} {called}"


def run_as_non_root(metadata: Object, spec: Object, minor: int) -> Finding:
    """Somebody says that nothing runs as root, unless the pod's root is not the node's."""
    if in_user_namespace(spec, minor):
        return None
    wish = context(spec).get("runAsNonRoot")
    explicit = [c["name"] for c in containers(spec) if context(c).get("runAsNonRoot") is False]
    reason = "runAsNonRoot != true"
    if wish is False or explicit:
        return reason, f"{setters(wish is False, explicit)} must not set securityContext.runAsNonRoot=false"
    silent = [c["name"] for c in containers(spec) if context(c).get("runAsNonRoot") is None]
    if wish or not silent:
        return None
    return reason, f"pod or {several(silent)} must set securityContext.runAsNonRoot=true"


def run_as_user(metadata: Object, spec: Object, minor: int) -> Finding:
    """Nobody says that something runs as root, unless the pod's root is not the node's."""
    if minor < 23 or in_user_namespace(spec, minor):
        return None
    pod = context(spec).get("runAsUser") == 0
    names = [c["name"] for c in containers(spec) if context(c).get("runAsUser") == 0]
    return ("runAsUser=0", f"{setters(pod, names)} must not set runAsUser=0") if pod or names else None


def seccomp(metadata: Object, spec: Object, minor: int) -> Finding:
    """A seccomp profile for everything."""
    if minor < 19 or _windows(spec, minor):
        return None
    values: set[str] = set()

    def kind(holder: Any) -> str | None:
        found = (context(holder).get("seccompProfile") or {}).get("type")
        if found is not None and found not in _PROFILES:
            values.add(found)
        return found

    wish = kind(spec)
    kinds = {c["name"]: kind(c) for c in containers(spec)}
    pod = wish is not None and wish not in _PROFILES
    bad = [name for name, found in kinds.items() if found is not None and found not in _PROFILES]
    if pod or bad:
        told = quoted(sorted(values))
        return "seccompProfile", f"{setters(pod, bad)} must not set securityContext.seccompProfile.type to {told}"
    silent = [name for name, found in kinds.items() if found is None]
    if wish is not None or not silent:
        return None
    told = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return "seccompProfile", f"pod or {several(silent)} {told}"


_OWN: dict[str, tuple[Check, str, int]] = {
    "allowPrivilegeEscalation": (allow_privilege_escalation, "", 0),
    "capabilities_restricted": (capabilities, "capabilities_baseline", 22),
    "procMount_restricted": (masked_proc, "procMount", 35),
    "restrictedVolumes": (volumes, "hostPathVolumes", 0),
    "runAsNonRoot": (run_as_non_root, "", 0),
    "runAsUser": (run_as_user, "", 0),
    "seccompProfile_restricted": (seccomp, "seccompProfile_baseline", 19),
}
"""By upstream's ids: the check, the baseline check it takes the place of, and since which minor version it does."""


def checks(minor: int) -> list[Check]:
    """The checks of the restricted level: those of baseline that are not replaced, then its own."""
    replaced = {old for _, old, since in _OWN.values() if minor >= since}
    kept = [check for name, check in BASELINE.items() if name not in replaced]
    return [*kept, *(check for check, _, since in _OWN.values() if minor >= since)]
