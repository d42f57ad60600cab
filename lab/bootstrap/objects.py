"""What kubeadm puts into a new cluster once its API server answers: roles, bindings and the configuration for later.

Source: kubeadm, phases/kubeconfig (admin's binding), uploadconfig, bootstraptoken/node, kubelet, addons/proxy;
https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence

import ryaml

from lab.bootstrap import addons, dns, images, manifests
from lab.bootstrap.certificates import ADMINISTRATORS
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.manifests import BOOTSTRAPPERS, RBAC, SYSTEM, Planned
from lab.bootstrap.nodefiles import kubelet_configuration
from lab.errors import PASSING, failing_as_one
from machinery.api.meta import Object, name_of, namespace_of
from machinery.api.resource import ResourceType
from machinery.client.rest import Client
from machinery.errors import AlreadyExists, Invalid, NotFound

NODES_GROUP = "system:nodes"
PUBLIC = "kube-public"
_PATIENCE_SECONDS = 30.0
_RETRY_SECONDS = 0.3


def plan(config: ClusterConfiguration, documents: str) -> list[Planned]:
    """Every object; `documents` is the kubeadm configuration to keep in the cluster."""
    return [
        *_administrators(),
        *_nodes(),
        *_configuration(config, documents),
        *([] if config.proxy_disabled else addons.proxy(config)),
        *addons.network(config),
        *([] if config.dns_disabled else dns.plan(config, images.dns(config))),
    ]


async def apply(client: Client, objects: Sequence[Planned]) -> None:
    """Create each, or bring the one that is there to what it should be; several at a time.

    A connection that breaks (a load balancer may change its mind while API servers start) is tried again for a while,
    and so is what a server could not do: on a busy machine it may not know whether etcd wrote. Source: kubeadm's
    apiclient, which tries again whatever the error is.
    """
    limit = asyncio.Semaphore(8)
    deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS

    async def one(resource: ResourceType, obj: Object) -> None:
        async with limit:
            while True:
                try:
                    return await _put(client, resource, obj)
                except PASSING:
                    if asyncio.get_running_loop().time() > deadline:
                        raise
                    await asyncio.sleep(_RETRY_SECONDS)

    async with failing_as_one() as group:
        for resource, obj in objects:
            group.create_task(one(resource, obj))


async def _put(client: Client, resource: ResourceType, obj: Object) -> None:
    try:
        await client.create(resource, obj)
    except (AlreadyExists, Invalid) as exc:
        # A Service with an address of its own is told, before its name is looked at, that the address is taken.
        if isinstance(exc, Invalid) and not await _exists(client, resource, obj):
            raise
        content = {k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "metadata", "roleRef")}
        if content:
            await client.patch(resource, name_of(obj), content, namespace_of(obj))


async def _exists(client: Client, resource: ResourceType, obj: Object) -> bool:
    try:
        await client.get(resource, name_of(obj), namespace_of(obj))
    except NotFound:
        return False
    return True


def _administrators() -> list[Planned]:
    return [manifests.cluster_binding(ADMINISTRATORS, "cluster-admin", manifests.group(ADMINISTRATORS))]


def _nodes() -> list[Planned]:
    requests = "system:certificates.k8s.io:certificatesigningrequests"
    return [
        manifests.cluster_role("kubeadm:get-nodes", manifests.rule(["get"], "", "nodes")),
        manifests.cluster_binding("kubeadm:get-nodes", "kubeadm:get-nodes", manifests.group(BOOTSTRAPPERS)),
        manifests.cluster_binding(
            "kubeadm:kubelet-bootstrap", "system:node-bootstrapper", manifests.group(BOOTSTRAPPERS)
        ),
        manifests.cluster_binding(
            "kubeadm:node-autoapprove-bootstrap", f"{requests}:nodeclient", manifests.group(BOOTSTRAPPERS)
        ),
        manifests.cluster_binding(
            "kubeadm:node-autoapprove-certificate-rotation", f"{requests}:selfnodeclient", manifests.group(NODES_GROUP)
        ),
    ]


def _configuration(config: ClusterConfiguration, documents: str) -> list[Planned]:
    kubelet = ryaml.dumps(kubelet_configuration(config))
    readers = (manifests.group(BOOTSTRAPPERS), manifests.group(NODES_GROUP))
    return [
        manifests.config_map(SYSTEM, "kubeadm-config", {"ClusterConfiguration": documents}),
        manifests.role(
            SYSTEM, "kubeadm:nodes-kubeadm-config", manifests.rule(["get"], "", "configmaps", ["kubeadm-config"])
        ),
        manifests.binding(SYSTEM, "kubeadm:nodes-kubeadm-config", *readers),
        manifests.config_map(SYSTEM, "kubelet-config", {"kubelet": kubelet}),
        manifests.role(SYSTEM, "kubeadm:kubelet-config", manifests.rule(["get"], "", "configmaps", ["kubelet-config"])),
        manifests.binding(SYSTEM, "kubeadm:kubelet-config", *readers),
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
        manifests.config_map(PUBLIC, "cluster-info", {"kubeconfig": ryaml.dumps(kubeconfig)}),
        manifests.role(PUBLIC, name, manifests.rule(["get"], "", "configmaps", ["cluster-info"])),
        manifests.binding(PUBLIC, name, anonymous),
    ]
