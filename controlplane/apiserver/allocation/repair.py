"""What a server does about the shared pools besides single writes: the default ServiceCIDR, and putting right what
writes that were cut short have left behind.

Source: pkg/controlplane/controller/defaultservicecidr;
pkg/registry/core/service/{ipallocator,portallocator}/controller.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from controlplane.apiserver.allocation.addresses import (
    MANAGED_LABEL,
    MANAGER,
    Addresses,
    Network,
    NotAllocated,
    parse,
)
from controlplane.apiserver.allocation.ports import NodePorts
from controlplane.apiserver.allocation.services import addresses_of, ports_of
from controlplane.apiserver.handlers.contract import Loopback
from machinery.api.catalogue import IPADDRESSES, SERVICECIDRS, SERVICES
from machinery.api.meta import Object, condition, labels_of, name_of, parse_time
from machinery.clock import Clock
from machinery.errors import AlreadyExists, NavarchError, NotFound
from machinery.log import get_logger

log = get_logger(__name__)

DEFAULT_CIDR = "kubernetes"
INTERVAL_SECONDS = 180.0
_ROUNDS = 3  # how often a port must be found unused before it is given back: a write may be under way
_YOUNG_SECONDS = 60.0  # addresses younger than this may belong to a write under way


async def ensure_default_cidr(loopback: Loopback, ranges: Sequence[Network], now: str) -> None:
    """The ServiceCIDR of the server's own ranges exists and is ready."""
    try:
        found = await loopback.get(SERVICECIDRS, DEFAULT_CIDR)
    except NotFound:
        obj: Object = {"metadata": {"name": DEFAULT_CIDR}, "spec": {"cidrs": [str(network) for network in ranges]}}
        try:
            found = await loopback.create(SERVICECIDRS, obj)
        except AlreadyExists:
            found = await loopback.get(SERVICECIDRS, DEFAULT_CIDR)
    cidrs = (found.get("spec") or {}).get("cidrs") or []
    if cidrs != [str(network) for network in ranges]:
        log.warning("--service-cluster-ip-range differs from the ServiceCIDR kubernetes", cidrs=cidrs)
    status = found.get("status") or {}
    ready = condition(status.get("conditions"), "Ready")
    if ready is None or ready.get("status") != "True":
        told = {
            "type": "Ready",
            "status": "True",
            "reason": "",
            "message": "Kubernetes default Service CIDR is ready",
            "lastTransitionTime": now,
        }
        others = [c for c in status.get("conditions") or () if c.get("type") != "Ready"]
        await loopback.update(SERVICECIDRS, {**found, "status": {**status, "conditions": [*others, told]}}, "status")


@dataclass
class Repair:
    """Compares the pools with the Services there are."""

    loopback: Loopback
    addresses: Addresses
    ports: NodePorts
    clock: Clock
    _unused: dict[int, int] = field(default_factory=dict)  # port → rounds it was found unused

    async def run(self) -> None:
        """Repair every few minutes until cancelled."""
        while True:
            await self.clock.sleep(INTERVAL_SECONDS)
            try:
                await self.once()
            except NavarchError as exc:
                log.warning("repair of service addresses and ports failed", reason=str(exc))

    async def once(self) -> None:
        """One round."""
        services = await self.loopback.list(SERVICES)
        await self._repair_ports(services)
        await self._repair_addresses(services)

    async def _repair_ports(self, services: Sequence[Object]) -> None:
        used: set[int] = set().union(*(ports_of(service) for service in services)) if services else set()
        unused = await self.ports.repair(used)
        self._unused = {port: self._unused.get(port, 0) + 1 for port in unused}
        leaked = [port for port, rounds in self._unused.items() if rounds >= _ROUNDS]
        if leaked:
            log.warning("node ports of no service given back", ports=sorted(leaked))
            await self.ports.give_back(leaked)

    async def _repair_addresses(self, services: Sequence[Object]) -> None:
        owners = {str(parse(ip)): service for service in services for ip in addresses_of(service)}
        known = {name_of(obj): obj for obj in await self.loopback.list(IPADDRESSES)}
        for ip, service in owners.items():
            if ip not in known:
                try:
                    await self.addresses.take(ip, service)
                except NotAllocated as exc:
                    log.warning("cluster IP of a service can't be held for it", ip=ip, reason=str(exc))
        for ip, obj in known.items():
            managed = labels_of(obj).get(MANAGED_LABEL) == MANAGER
            if not managed or ip in owners or self._young(obj):
                continue
            parent = (obj.get("spec") or {}).get("parentRef") or {}
            log.warning("cluster IP of no service given back", ip=ip, service=parent.get("name"))
            try:
                await self.loopback.delete(IPADDRESSES, ip, uid=obj["metadata"]["uid"])
            except NotFound:
                continue

    def _young(self, obj: Object) -> bool:
        created = obj["metadata"].get("creationTimestamp")
        return bool(created) and (self.clock.now() - parse_time(created)).total_seconds() < _YOUNG_SECONDS


def networks(ranges: Sequence[str]) -> tuple[Network, ...]:
    """The ranges of the settings."""
    return tuple(ipaddress.ip_network(text) for text in ranges)
