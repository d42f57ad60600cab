"""Every node gets its own part of the pods' network.

Source: k8s.io/kubernetes/pkg/controller/nodeipam/ipam/range_allocator.go.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from controlplane.controllers.environment import Environment
from controlplane.controllers.options import Network
from machinery.api.catalogue import NODES
from machinery.api.meta import Object, is_deleting, name_of
from machinery.cache.informer import Informer
from machinery.client.rest import STRATEGIC, Client
from machinery.controller import Controller
from machinery.errors import NavarchError, NotFound
from machinery.events import EventRecorder

ACCOUNT = "node-controller"


class NetworkExhausted(NavarchError):
    """No part of the cluster's network is free."""


@dataclass
class NetworkPool:
    """The equal parts of one network, and who has them."""

    whole: Network
    part_size: int  # prefix length
    _holders: dict[int, set[str]] = field(default_factory=dict)
    _next: int = 0

    @property
    def parts(self) -> int:
        """How many there are."""
        return 1 << (self.part_size - self.whole.prefixlen)

    def take(self, holder: str) -> Network:
        """A free part, given to `holder`; the longest unused first. Raises NetworkExhausted."""
        for step in range(self.parts):
            index = (self._next + step) % self.parts
            if index not in self._holders:
                self._holders[index] = {holder}
                self._next = index + 1
                return self._part(index)
        raise NetworkExhausted(f"CIDR allocation failed; there are no remaining CIDRs left to allocate in {self.whole}")

    def occupy(self, network: Network, holder: str) -> None:
        """`holder` has this network (which may overlap several parts, or lie outside)."""
        for index in self._indices(network):
            self._holders.setdefault(index, set()).add(holder)

    def release(self, network: Network, holder: str) -> None:
        """`holder` has it no longer."""
        for index in self._indices(network):
            holders = self._holders.get(index)
            if holders is not None:
                holders.discard(holder)
                if not holders:
                    del self._holders[index]

    def _part(self, index: int) -> Network:
        address = int(self.whole.network_address) + (index << (self.whole.max_prefixlen - self.part_size))
        return ipaddress.ip_network((address, self.part_size))

    def _indices(self, network: Network) -> Iterable[int]:
        if network.version != self.whole.version:
            return ()
        shift = self.whole.max_prefixlen - self.part_size
        base = int(self.whole.network_address) >> shift
        first = (int(network.network_address) >> shift) - base
        last = (int(network.broadcast_address) >> shift) - base
        return range(max(0, first), min(self.parts - 1, last) + 1)


def networks_of(node: Object) -> list[Network]:
    """The pod networks that a node has; what can't be read is left out."""
    spec = node.get("spec") or {}
    texts = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue
    return found


@dataclass(frozen=True)
class NodeNetworks:
    """Gives each node one part of every pool."""

    nodes: Informer
    client: Client
    recorder: EventRecorder
    pools: list[NetworkPool]
    given: dict[str, list[Network]] = field(default_factory=dict)
    """What was given and not yet seen on the node."""

    def node_changed(self, old: Object | None, new: Object | None) -> None:
        """Keep the pools true to what nodes have."""
        if new is not None:
            held = networks_of(new)
            if held:
                for network in held:
                    self._occupy(network, name_of(new))
                self._take_back(name_of(new), held)
        elif old is not None:
            for network in networks_of(old):
                self._release(network, name_of(old))
            self._take_back(name_of(old), [])

    async def reconcile(self, key: str) -> float | None:
        """Give the node its networks, if it has none."""
        node = self.nodes.get(key)
        if node is None or is_deleting(node) or networks_of(node):
            return None
        if key not in self.given:
            try:
                self.given[key] = self._take(key)
            except NetworkExhausted:
                self.recorder.normal(node, "CIDRNotAvailable", f"Node {key} status is now: CIDRNotAvailable")
                raise
        texts = [str(network) for network in self.given[key]]
        patch = {"spec": {"podCIDR": texts[0], "podCIDRs": texts}}
        try:
            await self.client.patch(NODES, key, patch, content_type=STRATEGIC)
        except NotFound:
            self._take_back(key, [])
        return None

    def _take(self, node: str) -> list[Network]:
        taken: list[Network] = []
        try:
            for pool in self.pools:
                taken.append(pool.take(node))  # noqa: PERF401 - what was taken is given back if a later pool is empty
        except NetworkExhausted:
            for network in taken:
                self._release(network, node)
            raise
        return taken

    def _take_back(self, node: str, kept: list[Network]) -> None:
        for network in self.given.pop(node, ()):
            if network not in kept:
                self._release(network, node)

    def _occupy(self, network: Network, node: str) -> None:
        for pool in self.pools:
            pool.occupy(network, node)

    def _release(self, network: Network, node: str) -> None:
        for pool in self.pools:
            pool.release(network, node)


def build(env: Environment) -> list[Controller]:
    """The allocator of nodes' pod networks; nothing unless --allocate-node-cidrs is set."""
    if not env.options["allocate-node-cidrs"]:
        return []
    pools = [NetworkPool(network, env.options.node_mask_size(network)) for network in env.options["cluster-cidr"]]
    for pool in pools:
        for network in env.options["service-cluster-ip-range"]:
            pool.occupy(network, "services")
    nodes = env.informer(NODES)
    allocator = NodeNetworks(nodes, env.client_for(ACCOUNT), env.recorder("cidrAllocator", ACCOUNT), pools)
    controller = Controller("node_ipam", allocator.reconcile, workers=5)

    def node_changed(old: Object | None, new: Object | None) -> None:
        allocator.node_changed(old, new)
        if new is not None and not networks_of(new):
            controller.enqueue(name_of(new))

    nodes.on_change(node_changed)
    return [controller]
