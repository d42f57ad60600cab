"""Hollow nodes: each registers, keeps its Lease and its status fresh, and reports what its pods would do.

All of them share one client, one informer and one endpoint in the place of kubelets' own servers, which says what
there is to say for logs and shells of what does not run.

Source: kubelet's node status and leases; kubemark's hollow nodes.
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass, field

from aiohttp import web

from agent.kubelet.node import conditions
from agent.kubelet.node.lease import NodeLease
from lab.dev.hollow.pods import Place, plan
from machinery.api import meta
from machinery.api.catalogue import NODES, PODS
from machinery.api.meta import Object
from machinery.cache.informer import Informers
from machinery.client.config import ClientConfig
from machinery.client.rest import MERGE, STRATEGIC, Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import AlreadyExists, Conflict, NavarchError, NotFound
from machinery.log import get_logger
from machinery.serving import HealthServer, self_signed_tls
from machinery.version import KUBERNETES_VERSION

log = get_logger(__name__)

_ADDRESSES = ipaddress.ip_network("10.64.0.0/11")  # what the nodes say theirs are; nothing answers there
_LEASE_SECONDS = 40
_STATUS_SECONDS = 300.0
_AT_ONCE = 20
_CAPACITY = {"cpu": "8", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi"}
# Without a colon: old kubectls would take a line with one for YAML, and for a Status without a message.
_TOLD = "a hollow node runs no containers, so there is nothing in its pods to read, run or connect to\n"


@dataclass
class HollowNodes:
    """`count` nodes, hollow-0 and so on."""

    count: int
    clock: Clock
    registered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when all of them are there and ready."""

    async def run(self, config: ClientConfig) -> None:
        """Play until cancelled."""
        endpoint = HealthServer("127.0.0.1", 0, tls=self_signed_tls(("localhost", "127.0.0.1")))
        endpoint.app.router.add_route("*", "/{path:.*}", _refuse)
        async with Client(config, user_agent="navarch-hollow-nodes") as client, endpoint:
            players = {name: _Node(client, name, index, endpoint.port, self.clock) for index, name in self._names()}
            limit = asyncio.Semaphore(_AT_ONCE)

            async def register(node: _Node) -> None:
                async with limit:
                    await node.register()

            await asyncio.gather(*(register(node) for node in players.values()))
            self.registered.set()
            async with Informers(client) as informers, asyncio.TaskGroup() as group:
                pods = _Pods(client, informers, players, self.clock)
                group.create_task(pods.run())
                for node in players.values():
                    group.create_task(node.run())

    def _names(self) -> list[tuple[int, str]]:
        return [(index, f"hollow-{index}") for index in range(self.count)]


async def _refuse(request: web.Request) -> web.Response:
    return web.Response(status=400, text=_TOLD)


class _Node:
    """One node: its object and its heartbeats."""

    def __init__(self, client: Client, name: str, index: int, port: int, clock: Clock) -> None:
        self._client, self._name, self._port, self._clock = client, name, port, clock
        self.address = str(_ADDRESSES[index + 1])
        self._node: Object | None = None

    async def register(self) -> None:
        """Make the node's object, or take over the one that is there from an earlier run."""
        wanted: Object = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self._name,
                "labels": {
                    "kubernetes.io/hostname": self._name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                    "type": "hollow",
                },
            },
            "status": self._status([]),
        }
        try:
            self._node = await self._client.create(NODES, wanted)
        except AlreadyExists:
            self._node = await self._client.get(NODES, self._name)
            await self._report()

    async def run(self) -> None:
        """Keep it alive until cancelled."""
        lease = NodeLease(self._client, self._name, _LEASE_SECONDS, self._clock, lambda: self._node)
        async with asyncio.TaskGroup() as group:
            group.create_task(lease.run())
            while True:
                await self._clock.sleep(_STATUS_SECONDS)
                try:
                    await self._report()
                except NavarchError as exc:
                    log.warning("cannot report a hollow node", node=self._name, reason=str(exc))

    async def _report(self) -> None:
        try:
            node = await self._client.get(NODES, self._name)
        except NotFound:
            await self.register()
            return
        status = {"status": self._status((node.get("status") or {}).get("conditions") or [])}
        self._node = await self._client.patch(NODES, self._name, status, content_type=STRATEGIC, subresource="status")

    def _status(self, before: list[Object]) -> Object:
        now = meta.format_time(self._clock.now())
        return {
            "capacity": dict(_CAPACITY),
            "allocatable": dict(_CAPACITY),
            "conditions": conditions.build(frozenset(), (), before, now),
            "addresses": [
                {"type": "InternalIP", "address": self.address},
                {"type": "Hostname", "address": self._name},
                {"type": "InternalDNS", "address": "localhost"},  # where the API server finds the endpoint
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._port}},
            "nodeInfo": {
                "machineID": self._name,
                "systemUUID": self._name,
                "bootID": self._name,
                "kernelVersion": "none",
                "osImage": "hollow",
                "containerRuntimeVersion": "hollow://1",
                "kubeletVersion": KUBERNETES_VERSION,
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": "amd64",
            },
        }


class _Pods:
    """The pods on all hollow nodes."""

    def __init__(self, client: Client, informers: Informers, players: dict[str, _Node], clock: Clock) -> None:
        self._client, self._players, self._clock = client, players, clock
        self._pods = informers.of(PODS, field_selector="spec.nodeName!=")
        self._pods.add_index("address", lambda pod: [(pod.get("status") or {}).get("podIP", "")])
        self._nodes = informers.of(NODES)
        self._controller = Controller("hollow-kubelet", self._reconcile, workers=10)
        self._given: dict[str, str] = {}  # addresses by pod uid, until the API server has them
        self._pods.on_change(self._changed)
        self._nodes.on_change(self._node_changed)

    async def run(self) -> None:
        """Report until cancelled."""
        await self._nodes.synced()
        await self._controller.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                self._given.pop(meta.uid_of(old), None)
        elif new["spec"].get("nodeName") in self._players:
            self._controller.enqueue(meta.key_of(new))

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """A node that has just got its pod network: its pods were waiting for addresses."""
        if new is None or (old is not None and old["spec"].get("podCIDR")) or not new["spec"].get("podCIDR"):
            return
        for pod in self._pods.list():
            if pod["spec"].get("nodeName") == meta.name_of(new):
                self._controller.enqueue(meta.key_of(pod))

    async def _reconcile(self, key: str) -> float | None:
        pod = self._pods.get(key)
        if pod is None:
            return None
        place = self._place(pod)
        if place is None:
            return None
        step = plan(pod, place, self._clock.now())
        namespace, name = meta.split_key(key)
        try:
            if step.status is not None:
                metadata = {"uid": meta.uid_of(pod), "resourceVersion": pod["metadata"]["resourceVersion"]}
                body = {"metadata": metadata, "status": step.status}
                await self._client.patch(PODS, name, body, namespace, content_type=MERGE, subresource="status")
            if step.delete:
                await self._client.delete(PODS, name, namespace, grace_seconds=0, uid=meta.uid_of(pod))
        except (NotFound, Conflict):
            return None  # the informer will tell what there is now
        return step.again_seconds

    def _place(self, pod: Object) -> Place | None:
        """The pod's addresses; None while the node has no network for pods."""
        name = pod["spec"]["nodeName"]
        host = self._players[name].address
        if pod["spec"].get("hostNetwork"):
            return Place(host, host)
        known = (pod.get("status") or {}).get("podIP") or self._given.get(meta.uid_of(pod))
        if known:
            return Place(host, known)
        cidr = ((self._nodes.get(name) or {}).get("spec") or {}).get("podCIDR")
        if not cidr:
            return None
        taken = set(self._given.values())
        for address in ipaddress.ip_network(cidr).hosts():
            text = str(address)
            if text not in taken and not self._pods.by_index("address", text):
                self._given[meta.uid_of(pod)] = text
                return Place(host, text)
        log.warning("no address left for a pod", node=name, pod=meta.key_of(pod), network=cidr)
        return None
