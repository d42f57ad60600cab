"""The few kinds of object that clusters are begun with, in short words."""

from __future__ import annotations

from typing import Any

from machinery.api.catalogue import CLUSTERROLEBINDINGS, CLUSTERROLES, CONFIGMAPS, ROLEBINDINGS, ROLES
from machinery.api.meta import Object
from machinery.api.resource import ResourceType

RBAC = "rbac.authorization.k8s.io"
SYSTEM = "kube-system"
BOOTSTRAPPERS = "system:bootstrappers:kubeadm:default-node-token"

Subject = dict[str, str]
Planned = tuple[ResourceType, Object]


def meta(name: str, namespace: str = "") -> Object:
    """An object's metadata."""
    return {"name": name, **({"namespace": namespace} if namespace else {})}


def group(name: str) -> Subject:
    """A group of users, as a subject of bindings."""
    return {"kind": "Group", "name": name, "apiGroup": RBAC}


def account(name: str) -> Subject:
    """A ServiceAccount of kube-system, as a subject of bindings."""
    return {"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}


def rule(verbs: list[str], group: str, resource: str, names: list[str] | None = None) -> dict[str, Any]:
    """A rule of a role: verbs on one resource, perhaps on named objects alone."""
    rule: dict[str, Any] = {"verbs": verbs, "apiGroups": [group], "resources": [resource]}
    return rule | {"resourceNames": names} if names else rule


def cluster_role(name: str, *rules: dict[str, Any]) -> Planned:
    """A ClusterRole."""
    body = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": meta(name), "rules": list(rules)}
    return CLUSTERROLES, body


def cluster_binding(name: str, role: str, *subjects: Subject) -> Planned:
    """A ClusterRoleBinding."""
    return CLUSTERROLEBINDINGS, {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": meta(name),
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": list(subjects),
    }


def role(namespace: str, name: str, *rules: dict[str, Any]) -> Planned:
    """A Role."""
    body = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": meta(name, namespace), "rules": list(rules)}
    return ROLES, body


def binding(namespace: str, name: str, *subjects: Subject) -> Planned:
    """A RoleBinding to the Role of the same name."""
    return ROLEBINDINGS, {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": meta(name, namespace),
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
        "subjects": list(subjects),
    }


def config_map(namespace: str, name: str, data: dict[str, str]) -> Planned:
    """A ConfigMap."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(name, namespace), "data": data}
    return CONFIGMAPS, body
