"""Nodes that join: what the cloud knows of them is written down, and the taint that kept pods away goes.

Source: k8s.io/cloud-provider/controllers/node/node_controller.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.cloud.contract import CloudError, Instance, Instances
from controlplane.cloud.environment import Environment
from machinery.api.catalogue import NODES
from machinery.api.meta import Object, annotations_of, is_deleting, labels_of, name_of
from machinery.cache.informer import Informer
from machinery.client.rest import MERGE, Client
from machinery.controller import Controller
from machinery.errors import NotFound
from machinery.events import EventRecorder
from machinery.periodic import every

ACCOUNT = "node-controller"
UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
PROVIDED_IP = "alpha.kubernetes.io/provided-node-ip"
_LABELS = {
    "instance_type": ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    "zone": ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    "region": ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
}


def is_uninitialized(node: Object) -> bool:
    """Whether the node waits for the cloud to describe it."""
    return any(t.get("key") == UNINITIALIZED for t in (node.get("spec") or {}).get("taints") or ())


def node_addresses(node: Object, instance: Instance) -> list[Object]:
    """status.addresses: the cloud's, those of the kubelet's --node-ip alone if it has one, and the host name.

    Raises CloudError when the kubelet uses an address that the cloud does not know.
    """
    found = [{"type": kind, "address": address} for kind, address in instance.addresses]
    provided = [ip.strip() for ip in annotations_of(node).get(PROVIDED_IP, "").split(",") if ip.strip()]
    if provided:
        found = _preferring(found, provided)
    hostname = next((a for a in (node.get("status") or {}).get("addresses") or () if a["type"] == "Hostname"), None)
    if hostname is not None and all(a["type"] != "Hostname" for a in found):
        found.append(dict(hostname))
    return found


def _preferring(addresses: list[Object], provided: Sequence[str]) -> list[Object]:
    chosen: list[Object] = []
    for ip in provided:
        kinds = [a["type"] for a in addresses if a["address"] == ip]
        if not kinds:
            raise CloudError(f"failed to get node address from cloud provider that matches ip: {ip}")
        chosen += [{"type": kind, "address": ip} for kind in kinds]
    settled = {a["type"] for a in chosen}
    return chosen + [a for a in addresses if a["type"] not in settled]


def described(node: Object, instance: Instance) -> Object:
    """The merge patch that initialises a node: its identity, its labels, and no taint."""
    spec: Object = {
        "taints": [t for t in node["spec"].get("taints") or () if t.get("key") != UNINITIALIZED] or None,
    }
    if not node["spec"].get("providerID") and instance.provider_id:
        spec["providerID"] = instance.provider_id
    labels = dict(instance.labels)
    for source, names in _LABELS.items():
        if value := getattr(instance, source):
            labels |= dict.fromkeys(names, value)
    changed = {name: value for name, value in labels.items() if labels_of(node).get(name) != value}
    metadata: Object = {"resourceVersion": node["metadata"]["resourceVersion"]}
    if changed:
        metadata["labels"] = changed
    return {"metadata": metadata, "spec": spec}


@dataclass(frozen=True)
class CloudNodes:
    """Describes one node at a time."""

    nodes: Informer
    instances: Instances
    client: Client
    recorder: EventRecorder

    async def reconcile(self, key: str) -> float | None:
        """Initialise the node if it waits for that, and keep its addresses."""
        node = self.nodes.get(key)
        if node is None or is_deleting(node):
            return None
        waits = is_uninitialized(node)
        if not waits and not node["spec"].get("providerID"):
            return None  # it was never the cloud's
        instance = await self.instances.find(node)
        if instance is None:
            if waits:
                raise CloudError(f"failed to find the instance of node {key}: instance not found")
            return None  # the lifecycle controller decides about it
        try:
            await self._write_addresses(node, instance)
            if waits:
                await self.client.patch(NODES, key, described(node, instance), content_type=MERGE)
                self.recorder.normal(node, "Synced", "Node synced successfully")
        except NotFound:
            return None
        return None

    async def _write_addresses(self, node: Object, instance: Instance) -> None:
        wanted = node_addresses(node, instance)
        status: dict[str, Any] = node.get("status") or {}
        if wanted and wanted != (status.get("addresses") or []):
            patch = {"status": {"addresses": wanted}}
            await self.client.patch(NODES, name_of(node), patch, content_type=MERGE, subresource="status")


def build(env: Environment) -> list[Controller]:
    """The controller of joining nodes; nothing without instances."""
    if env.cloud.instances is None:
        return []
    nodes = env.informers.of(NODES)
    cloud_nodes = CloudNodes(
        nodes, env.cloud.instances, env.client_for(ACCOUNT), env.recorder("cloud-node-controller", ACCOUNT)
    )
    workers = int(env.flags["concurrent-node-syncs"])
    controller = Controller("cloud_node", cloud_nodes.reconcile, workers=workers)

    addresses = Controller(
        "cloud_node_addresses",
        cloud_nodes.reconcile,
        workers=int(env.flags["concurrent-node-status-updates"]) or workers,
    )

    def changed(old: Object | None, new: Object | None) -> None:
        if new is not None and is_uninitialized(new) and (old is None or not is_uninitialized(old)):
            controller.enqueue(name_of(new))

    async def all_addresses() -> None:
        for node in nodes.list():
            addresses.enqueue(name_of(node))

    nodes.on_change(changed)
    period = float(env.flags["node-status-update-frequency"])
    return [controller, addresses, every("cloud_node_status", period, all_addresses)]
