"""The Roles and RoleBindings of kube-system and kube-public that every cluster has.

Source: k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy/namespace_policy.go, v1.36.
"""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.apiserver.bootstrap.shapes import (
    EVENTS,
    RBAC_GROUP,
    READ,
    binding,
    metadata,
    rule,
    service_account,
    user,
)
from machinery.api.meta import Object

_LEADER_LOCKING = [
    rule("create get list update watch", "coordination.k8s.io", "leases"),
    rule("create get list update watch", "coordination.k8s.io", "leasecandidates"),
]

_ROLES: dict[tuple[str, str], list[Object]] = {
    ("kube-system", "extension-apiserver-authentication-reader"): [
        rule(READ, "core", "configmaps", names="extension-apiserver-authentication"),
    ],
    ("kube-system", "system::leader-locking-kube-controller-manager"): _LEADER_LOCKING,
    ("kube-system", "system::leader-locking-kube-scheduler"): _LEADER_LOCKING,
    ("kube-system", "system:controller:bootstrap-signer"): [rule(READ, "core", "secrets")],
    ("kube-system", "system:controller:cloud-provider"): [rule(f"create {READ}", "core", "configmaps")],
    ("kube-system", "system:controller:token-cleaner"): [rule(f"delete {READ}", "core", "secrets"), EVENTS],
    ("kube-public", "system:controller:bootstrap-signer"): [
        rule(READ, "core", "configmaps"),
        rule("update", "core", "configmaps", names="cluster-info"),
        EVENTS,
    ],
}

_BINDINGS: dict[tuple[str, str], tuple[str, list[Object]]] = {
    ("kube-system", "system::extension-apiserver-authentication-reader"): (
        "extension-apiserver-authentication-reader",
        [user("system:kube-controller-manager"), user("system:kube-scheduler")],
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        "",
        [
            user("system:kube-controller-manager"),
            service_account("kube-controller-manager"),
            service_account("leader-election-controller"),
        ],
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        "",
        [user("system:kube-scheduler"), service_account("kube-scheduler")],
    ),
    ("kube-system", "system:controller:bootstrap-signer"): ("", [service_account("bootstrap-signer")]),
    ("kube-system", "system:controller:cloud-provider"): ("", [service_account("cloud-provider")]),
    ("kube-system", "system:controller:token-cleaner"): ("", [service_account("token-cleaner")]),
    ("kube-public", "system:controller:bootstrap-signer"): ("", [service_account("bootstrap-signer")]),
}
"""(namespace, name) → (the role, if not of the same name; subjects)."""


def roles() -> Iterator[Object]:
    """All Roles."""
    for (namespace, name), rules in _ROLES.items():
        yield {
            "apiVersion": f"{RBAC_GROUP}/v1",
            "kind": "Role",
            "metadata": metadata(name, namespace),
            "rules": list(rules),
        }


def role_bindings() -> Iterator[Object]:
    """All RoleBindings."""
    for (namespace, name), (role, subjects) in _BINDINGS.items():
        yield binding("RoleBinding", name, "Role", role or name, subjects, namespace)
