"""Fields that a write through one endpoint does not own, because the server resets them there.

The main endpoint of a kind with a status resets the status, the status endpoint everything else that counts.

Source: GetResetFields in k8s.io/kubernetes/pkg/registry/*/strategy.go.
"""

from __future__ import annotations

from typing import Final

from machinery.api.patch.fieldset import LEAF, FieldSet

_NOTHING: Final[FieldSet] = {}
_STATUS: Final[FieldSet] = {"f:status": LEAF}
_SPEC: Final[FieldSet] = {"f:spec": LEAF}


def _metadata(*names: str) -> FieldSet:
    return {"f:metadata": {f"f:{name}": LEAF for name in names}}


# (group, kind, subresource), where it is not what the rule below says
_SPECIAL: Final[dict[tuple[str, str, str], FieldSet]] = {
    ("apps", "Deployment", "status"): _SPEC | _metadata("labels"),
    ("", "Pod", "status"): _SPEC | _metadata("deletionTimestamp", "ownerReferences"),
    ("", "Pod", "ephemeralcontainers"): _STATUS,
    ("", "Pod", "resize"): _STATUS,
    ("", "Namespace", "finalize"): _STATUS,
    ("storage.k8s.io", "VolumeAttachment", "status"): _SPEC | {"f:metadata": LEAF},
    ("certificates.k8s.io", "CertificateSigningRequest", ""): {
        "f:spec": {f"f:{n}": LEAF for n in ("uid", "username", "groups", "extra")},
        "f:status": LEAF,
    },
    ("certificates.k8s.io", "CertificateSigningRequest", "approval"): _SPEC | {"f:status": {"f:certificate": LEAF}},
    ("certificates.k8s.io", "CertificateSigningRequest", "status"): _SPEC | {"f:status": {"f:conditions": LEAF}},
    ("apiregistration.k8s.io", "APIService", "status"): _SPEC,
}


CUSTOM_STATUS: Final[FieldSet] = _SPEC | {"f:metadata": LEAF}
"""Of custom resources, the status endpoint takes nothing else."""


def fields(group: str, kind: str, subresource: str, *, has_status: bool) -> FieldSet:
    """What is not owned by who writes through this endpoint."""
    special = _SPECIAL.get((group, kind, subresource))
    if special is not None:
        return special
    if subresource == "status":
        return _SPEC
    return _STATUS if has_status and not subresource else _NOTHING
