"""What kubeadm puts into a new cluster once its API server answers: roles, bindings and the configuration for later.

Source: kubeadm, phases/kubeconfig (admin's binding), uploadconfig, bootstraptoken/node, kubelet, addons/proxy;
https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

import ryaml

from lab.bootstrap.certificates import ADMINISTRATORS
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.nodefiles import kubelet_configuration, proxy_configuration
from machinery.api.catalogue import CLUSTERROLEBINDINGS, CLUSTERROLES, CONFIGMAPS, ROLEBINDINGS, ROLES, SERVICEACCOUNTS
from machinery.api.meta import Object, name_of, namespace_of
from machinery.api.resource import ResourceType
from machinery.client.rest import Client
from machinery.errors import AlreadyExists

RBAC = "rbac.authorization.k8s.io"
BOOTSTRAPPERS = "system:bootstrappers:kubeadm:default-node-token"
NODES_GROUP = "system:nodes"
SYSTEM, PUBLIC = "kube-system", "kube-public"

Subject = dict[str, str]
Planned = tuple[ResourceType, Object]


def plan(config: ClusterConfiguration, documents: str) -> list[Planned]:
    """Every object; `documents` is the kubeadm configuration to keep in the cluster."""
    return [*_administrators(), *_nodes(), *_configuration(config, documents), *_proxy(config), *_network()]


async def apply(client: Client, objects: Sequence[Planned]) -> None:
    """Create each, or bring the one that is there to what it should be; several at a time."""
    limit = asyncio.Semaphore(8)

    async def one(resource: ResourceType, obj: Object) -> None:
        async with limit:
            try:
                await client.create(resource, obj)
            except AlreadyExists:
                content = {k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "metadata", "roleRef")}
                if content:
                    await client.patch(resource, name_of(obj), content, namespace_of(obj))

    async with asyncio.TaskGroup() as group:
        for resource, obj in objects:
            group.create_task(one(resource, obj))


def _administrators() -> list[Planned]:
    return [_cluster_binding(ADMINISTRATORS, "cluster-admin", _group(ADMINISTRATORS))]


def _nodes() -> list[Planned]:
    requests = "system:certificates.k8s.io:certificatesigningrequests"
    return [
        _cluster_role("kubeadm:get-nodes", _rule(["get"], "", "nodes")),
        _cluster_binding("kubeadm:get-nodes", "kubeadm:get-nodes", _group(BOOTSTRAPPERS)),
        _cluster_binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", _group(BOOTSTRAPPERS)),
        _cluster_binding("kubeadm:node-autoapprove-bootstrap", f"{requests}:nodeclient", _group(BOOTSTRAPPERS)),
        _cluster_binding(
            "kubeadm:node-autoapprove-certificate-rotation", f"{requests}:selfnodeclient", _group(NODES_GROUP)
        ),
    ]


def _configuration(config: ClusterConfiguration, documents: str) -> list[Planned]:
    kubelet = ryaml.dumps(kubelet_configuration(config))
    readers = (_group(BOOTSTRAPPERS), _group(NODES_GROUP))
    return [
        _config_map(SYSTEM, "kubeadm-config", {"ClusterConfiguration": documents}),
        _role(SYSTEM, "kubeadm:nodes-kubeadm-config", _rule(["get"], "", "configmaps", ["kubeadm-config"])),
        _binding(SYSTEM, "kubeadm:nodes-kubeadm-config", *readers),
        _config_map(SYSTEM, "kubelet-config", {"kubelet": kubelet}),
        _role(SYSTEM, "kubeadm:kubelet-config", _rule(["get"], "", "configmaps", ["kubelet-config"])),
        _binding(SYSTEM, "kubeadm:kubelet-config", *readers),
    ]


def cluster_info(config: ClusterConfiguration, authority: bytes) -> list[Planned]:
    """kube-public/cluster-info: where the cluster is and its CA, for hosts that want to join; readable by anybody."""
    cluster = {
        "certificate-authority-data": base64.b64encode(authority).decode(),
        "server": f"https://{config.endpoint}",
    }
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": cluster}],
        "contexts": [],
        "current-context": "",
        "users": [],
    }
    name = "kubeadm:bootstrap-signer-clusterinfo"
    anonymous = {"kind": "User", "name": "system:anonymous", "apiGroup": RBAC}
    return [
        _config_map(PUBLIC, "cluster-info", {"kubeconfig": ryaml.dumps(kubeconfig)}),
        _role(PUBLIC, name, _rule(["get"], "", "configmaps", ["cluster-info"])),
        _binding(PUBLIC, name, anonymous),
    ]


def _proxy(config: ClusterConfiguration) -> list[Planned]:
    account = {"kind": "ServiceAccount", "name": "kube-proxy", "namespace": SYSTEM}
    return [
        (SERVICEACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta("kube-proxy", SYSTEM)}),
        _cluster_binding("kubeadm:node-proxier", "system:node-proxier", account),
        _config_map(SYSTEM, "kube-proxy", {"config.conf": ryaml.dumps(proxy_configuration(config))}),
        _role(SYSTEM, "kube-proxy", _rule(["get"], "", "configmaps", ["kube-proxy"])),
        _binding(SYSTEM, "kube-proxy", _group(BOOTSTRAPPERS)),
    ]


def _network() -> list[Planned]:
    user = {"kind": "User", "name": "navarch-network", "apiGroup": RBAC}
    return [
        _cluster_role("navarch-network", _rule(["get", "list", "watch"], "", "nodes")),
        _cluster_binding("navarch-network", "navarch-network", user),
    ]


def _meta(name: str, namespace: str = "") -> Object:
    return {"name": name, **({"namespace": namespace} if namespace else {})}


def _group(name: str) -> Subject:
    return {"kind": "Group", "name": name, "apiGroup": RBAC}


def _rule(verbs: list[str], group: str, resource: str, names: list[str] | None = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"verbs": verbs, "apiGroups": [group], "resources": [resource]}
    return rule | {"resourceNames": names} if names else rule


def _cluster_role(name: str, *rules: dict[str, Any]) -> Planned:
    body = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": _meta(name), "rules": list(rules)}
    return CLUSTERROLES, body


def _cluster_binding(name: str, role: str, *subjects: Subject) -> Planned:
    return CLUSTERROLEBINDINGS, {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": _meta(name),
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": list(subjects),
    }


def _role(namespace: str, name: str, *rules: dict[str, Any]) -> Planned:
    body = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": _meta(name, namespace), "rules": list(rules)}
    return ROLES, body


def _binding(namespace: str, name: str, *subjects: Subject) -> Planned:
    """A RoleBinding to the Role of the same name."""
    return ROLEBINDINGS, {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": _meta(name, namespace),
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
        "subjects": list(subjects),
    }


def _config_map(namespace: str, name: str, data: dict[str, str]) -> Planned:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _meta(name, namespace), "data": data}
    return CONFIGMAPS, body
