"""CSI drivers of this node: registered with the plugin registry, and shown in the node's CSINode.

Source: k8s.io/kubernetes pkg/volume/csi/csi_plugin.go and nodeinfomanager.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from agent.kubelet.container.errors import VolumeError
from agent.kubelet.plugins.api import csi_pb2 as pb
from agent.kubelet.plugins.channel import PluginChannel
from agent.kubelet.plugins.registry import PluginInfo, PluginRefused
from machinery.api import meta
from machinery.api.catalogue import CSINODES, NODES
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC, Client
from machinery.errors import AlreadyExists, Conflict, NotFound

_Answer = TypeVar("_Answer")

_NODE = "/csi.v1.Node"
_TRIES = 10
_ANNOTATION = "csi.volume.kubernetes.io/nodeid"


@dataclass(frozen=True)
class CsiDriver:
    """One driver: how to call it, and what it can do."""

    name: str
    channel: PluginChannel
    capabilities: frozenset[str]

    def has(self, capability: str) -> bool:
        """Whether it has one of the capabilities of csi.v1 NodeServiceCapability."""
        return capability in self.capabilities

    async def call(self, method: str, request: Any, answer: type[_Answer]) -> _Answer:
        """A call of its Node service. Raises CriError."""
        return await self.channel.call(f"{_NODE}/{method}", request, answer)


class CsiDrivers:
    """The registered drivers, by name."""

    def __init__(self, client: Client | None, node_name: str, node: Callable[[], Object | None]) -> None:
        """`node()` is this node's object, once it is registered."""
        self._client, self._node_name, self._node = client, node_name, node
        self._drivers: dict[str, CsiDriver] = {}
        self._writing = asyncio.Lock()

    def get(self, name: str) -> CsiDriver:
        """A driver. Raises VolumeError while it isn't registered."""
        driver = self._drivers.get(name)
        if driver is None:
            raise VolumeError(f"driver name {name} not found in the list of registered CSI drivers")
        return driver

    async def register(self, info: PluginInfo) -> None:
        """Take a driver. Raises PluginRefused, CriError."""
        if not any(version.removeprefix("v").startswith("1.") for version in info.versions):
            raise PluginRefused(
                f"rejected CSI driver {info.name}: none of its versions {', '.join(info.versions)} is supported"
            )
        channel = PluginChannel(info.endpoint)
        answer = await channel.call(
            f"{_NODE}/NodeGetCapabilities", pb.NodeGetCapabilitiesRequest(), pb.NodeGetCapabilitiesResponse
        )
        names = pb.NodeServiceCapability.RPC.Type
        capabilities = frozenset(names.Name(c.rpc.type) for c in answer.capabilities)
        told = await channel.call(f"{_NODE}/NodeGetInfo", pb.NodeGetInfoRequest(), pb.NodeGetInfoResponse)
        await self._show(info.name, told)
        before = self._drivers.get(info.name)
        self._drivers[info.name] = CsiDriver(info.name, channel, capabilities)
        if before is not None:
            await before.channel.close()

    async def deregister(self, info: PluginInfo) -> None:
        """The driver's socket is gone."""
        driver = self._drivers.get(info.name)
        if driver is None or driver.channel.path != info.endpoint:
            return
        del self._drivers[info.name]
        await driver.channel.close()
        await self._update_csinode(lambda drivers: [d for d in drivers if d["name"] != info.name])

    async def _show(self, name: str, told: pb.NodeGetInfoResponse) -> None:
        """Tell the cluster that this node has the driver."""
        segments = dict(told.accessible_topology.segments)
        entry: Object = {"name": name, "nodeID": told.node_id, "topologyKeys": sorted(segments) or None}
        if told.max_volumes_per_node > 0:
            entry["allocatable"] = {"count": told.max_volumes_per_node}
        if self._client is not None:
            node = self._node() or {}
            ids = orjson.loads(meta.annotations_of(node).get(_ANNOTATION, "{}")) if node else {}
            annotation = orjson.dumps({**ids, name: told.node_id}, option=orjson.OPT_SORT_KEYS).decode()
            patch = {"metadata": {"labels": segments, "annotations": {_ANNOTATION: annotation}}}
            await self._client.patch(NODES, self._node_name, patch, content_type=STRATEGIC)
        await self._update_csinode(lambda drivers: [*(d for d in drivers if d["name"] != name), entry])

    async def ensure(self) -> None:
        """Make the node's CSINode, if there is none: without it nothing is scheduled that needs a driver."""
        await self._update_csinode(lambda drivers: drivers)

    async def _update_csinode(self, change: Callable[[list[Object]], list[Object]]) -> None:
        if self._client is None:
            return
        async with self._writing:
            for _ in range(_TRIES):
                try:
                    found = await self._client.get(CSINODES, self._node_name)
                    before = (found.get("spec") or {}).get("drivers") or []
                    after = change(before)
                    if after != before:
                        await self._client.update(CSINODES, {**found, "spec": {"drivers": after}})
                except NotFound:
                    await self._create(change([]))
                except Conflict:
                    continue
                return

    async def _create(self, drivers: list[Object]) -> None:
        node = self._node()
        if self._client is None or node is None:
            return
        owner = {"apiVersion": "v1", "kind": "Node", "name": meta.name_of(node), "uid": meta.uid_of(node)}
        made = {
            "apiVersion": CSINODES.api_version,
            "kind": CSINODES.kind,
            "metadata": {"name": self._node_name, "ownerReferences": [owner]},
            "spec": {"drivers": drivers},
        }
        try:
            await self._client.create(CSINODES, made)
        except AlreadyExists:
            return

    async def close(self) -> None:
        """Close the connections to all drivers."""
        for driver in self._drivers.values():
            await driver.channel.close()
