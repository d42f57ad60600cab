"""The APIServices of what this server serves itself: they are made without anybody asking. Pure.

Source: pkg/controlplane/apiserver/aggregator.go (priorities), kube-aggregator autoregister,
pkg/controlplane/controller/crdregistration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from controlplane.apiserver.registry.objects import sub, text
from controlplane.apiserver.resources import Resources
from machinery.api.meta import Object, labels_of, name_of

MANAGED: Final = "kube-aggregator.kubernetes.io/automanaged"
_ON_START, _ALWAYS = "onstart", "true"
_CUSTOM: Final = (1000, 100)
_GROUPS: Final[Mapping[str, int]] = {
    "": 18000, "apps": 17800, "events.k8s.io": 17750, "authentication.k8s.io": 17700, "authorization.k8s.io": 17600,
    "autoscaling": 17500, "batch": 17400, "certificates.k8s.io": 17300, "networking.k8s.io": 17200, "policy": 17100,
    "rbac.authorization.k8s.io": 17000, "storage.k8s.io": 16800, "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700, "scheduling.k8s.io": 16600, "coordination.k8s.io": 16500,
    "node.k8s.io": 16300, "discovery.k8s.io": 16200, "flowcontrol.apiserver.k8s.io": 16100,
    "internal.apiserver.k8s.io": 16000, "resource.k8s.io": 15900, "storagemigration.k8s.io": 15800,
}  # fmt: skip
_VERSIONS: Final[Mapping[tuple[str, str], int]] = {
    ("", "v1"): 1, ("autoscaling", "v2"): 30, ("flowcontrol.apiserver.k8s.io", "v1"): 21,
}  # fmt: skip
_OWN: Final = "apiregistration.k8s.io"


def group_priority(group: str) -> int:
    """How far to the front of discovery a group of this server's stands."""
    return _GROUPS.get(group, _CUSTOM[0])


def wanted(resources: Resources) -> dict[str, Object]:
    """The APIServices there should be, by name."""
    made = {}
    for group, versions in resources.group_versions().items():
        if group == _OWN:
            continue
        custom = resources.is_custom(group)
        for version in versions:
            name = f"{version}.{group}"
            made[name] = {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": name, "labels": {MANAGED: _ALWAYS if custom else _ON_START}},
                "spec": {
                    **({"group": group} if group else {}),
                    "version": version,
                    "groupPriorityMinimum": _CUSTOM[0] if custom else group_priority(group),
                    "versionPriority": _CUSTOM[1] if custom else _VERSIONS.get((group, version), 15),
                },
            }
    return made


def superfluous(present: Iterable[Object], names: Iterable[str]) -> list[str]:
    """The names of APIServices that were made for something that is not served any more."""
    kept = set(names)
    return [
        name_of(service)
        for service in present
        if labels_of(service).get(MANAGED) in (_ALWAYS, _ON_START)
        and is_local(service)
        and name_of(service) not in kept
    ]


def is_local(service: Object) -> bool:
    """Whether this server serves it itself."""
    return not sub(service, "spec", "service")


def group_version(service: Object) -> tuple[str, str]:
    """What an APIService is for."""
    return text(service, "spec", "group"), text(service, "spec", "version")
