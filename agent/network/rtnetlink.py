"""The hand that brings links, neighbours and routes about, and the ear that hears when somebody changes them.

Our routes carry a routing protocol number of their own, so that they can be told from those of others.

Source: rtnetlink(7); pyroute2's documentation.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncGenerator
from ipaddress import ip_network
from types import TracebackType
from typing import Any, Self

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import (
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_IPV6_ROUTE,
    RTMGRP_LINK,
    RTMGRP_NEIGH,
)

from agent.network.cni import BRIDGE_NAME
from agent.network.errors import NetworkError
from agent.network.model import HostLink, NetworkPlan, Overlay, Peer, Route
from machinery.log import get_logger

log = get_logger(__name__)

DEVICE = "vxlan.pods"
ROUTE_PROTOCOL = 112
_PERMANENT = 128  # NUD_PERMANENT
_ON_LINK = 4  # RTNH_F_ONLINK
_GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_NEIGH
_LINK_SCOPE = 253  # RT_SCOPE_LINK
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class KernelNetwork:
    """This network namespace's links and routes. Use as an async context manager."""

    def __init__(self) -> None:
        self._route = AsyncIPRoute()
        self._heard: set[int] = set()  # links that routes lead over
        self._device: int | None = None
        self._destinations: frozenset[str] = frozenset()
        self._listening = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._route.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._route.__aexit__(kind, error, trace)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def links(self) -> list[HostLink]:
        """The links that may lead to other hosts, with their addresses: all but loopback, pods' and our own."""
        with _mapped("links"):
            addresses: dict[int, list[str]] = {}
            async for message in await self._route.addr("dump"):
                if message["scope"] == _LINK_SCOPE:
                    continue
                local = message.get("local") or message.get("address")
                addresses.setdefault(message["index"], []).append(f"{local}/{message['prefixlen']}")
            found = []
            async for link in await self._route.link("dump"):
                name = link.get("ifname")
                if name not in ("lo", BRIDGE_NAME, DEVICE) and link["index"] in addresses:
                    found.append(HostLink(name, link.get("mtu"), tuple(sorted(addresses[link["index"]]))))
                    self._heard.add(int(link["index"]))
            return sorted(found, key=lambda link: link.name)

    async def listening(self) -> None:
        """Wait until `changes` hears what happens from now on."""
        await self._listening.wait()

    def _concerns(self, message: Any) -> bool:
        """Whether a message may be about what `apply` looks after: pods' own links come and go all the time."""
        match message["event"]:
            case "RTM_NEWROUTE" | "RTM_DELROUTE":
                destination = f"{message.get('dst')}/{message['dst_len']}"
                return destination in self._destinations or int(message["proto"]) == ROUTE_PROTOCOL
            case "RTM_NEWLINK" | "RTM_DELLINK":
                return int(message["index"]) in self._heard or str(message.get("ifname")) == DEVICE
            case "RTM_NEWADDR" | "RTM_DELADDR":
                return int(message["scope"]) != _LINK_SCOPE
            case "RTM_NEWNEIGH" | "RTM_DELNEIGH":
                return bool(message["ifindex"] == self._device)
        return True

    async def changes(self) -> AsyncGenerator[None]:
        """Something about links, addresses, neighbours or routes has changed, by whomever: once for each burst."""
        async with AsyncIPRoute() as ear:
            await ear.bind(groups=_GROUPS)
            self._listening.set()
            while True:
                heard = False
                try:
                    async for message in ear.get():
                        heard = self._concerns(message) or heard
                except (NetlinkError, OSError) as error:  # messages were lost, so anything may have changed
                    log.warning("messages about links and routes were lost", reason=str(error))
                    heard = True
                if heard:
                    yield

    # -- writing -----------------------------------------------------------------------------------------------------

    async def apply(self, plan: NetworkPlan) -> None:
        """Bring links, neighbours and routes about; what is right already is left alone. Raises NetworkError."""
        self._destinations = frozenset(route.destination for route in plan.routes)
        self._device = device = await self._overlay(plan.overlay)
        if device is not None:
            await self._peers(device, plan.peers)
        await self._routes(plan.routes, device)

    async def remove(self) -> None:
        """Take away our routes, the overlay and the pods' bridge."""
        await self._routes((), None)
        await self._overlay(None)
        with _mapped(f"link {BRIDGE_NAME}"):
            for index in await self._route.link_lookup(ifname=BRIDGE_NAME):
                await self._route.link("del", index=index)

    async def _overlay(self, wanted: Overlay | None) -> int | None:
        with _mapped(f"link {DEVICE}"):
            found = await self._link(DEVICE)
            if found is not None and (wanted is None or not _is_overlay(found, wanted)):
                await self._route.link("del", index=found["index"])
                found = None
            if wanted is None:
                return None
            if found is None:
                await self._route.link(
                    "add",
                    ifname=DEVICE,
                    kind="vxlan",
                    vxlan_id=wanted.settings.vni,
                    vxlan_local=wanted.local,
                    vxlan_port=wanted.settings.port,
                    vxlan_learning=False,
                    address=wanted.mac,
                    mtu=wanted.mtu,
                )
                found = await self._link(DEVICE)
                if found is None:
                    raise NetworkError(f"link {DEVICE}: made, and gone again")
                log.info("made overlay device", device=DEVICE, local=wanted.local, mtu=wanted.mtu)
            index = int(found["index"])
            if found.get("mtu") != wanted.mtu or found["state"] != "up":
                await self._route.link("set", index=index, mtu=wanted.mtu, state="up")
            await self._addresses(index, wanted.addresses)
            return index

    async def _link(self, name: str) -> Any:
        async for link in await self._route.link("dump"):
            if link.get("ifname") == name:
                return link
        return None

    async def _addresses(self, index: int, wanted: tuple[str, ...]) -> None:
        present = set()
        async for message in await self._route.addr("dump", index=index):
            if message["scope"] != _LINK_SCOPE:  # the kernel's own
                present.add(f"{message.get('address')}/{message['prefixlen']}")
        for text in sorted(set(wanted) - present):
            address, _, length = text.partition("/")
            await self._route.addr("add", index=index, address=address, prefixlen=int(length))
        for text in sorted(present - set(wanted)):
            address, _, length = text.partition("/")
            await self._route.addr("del", index=index, address=address, prefixlen=int(length))

    async def _peers(self, device: int, peers: tuple[Peer, ...]) -> None:
        with _mapped(f"neighbours on {DEVICE}"):
            wanted = {gateway: peer.mac for peer in peers for gateway in peer.gateways}
            present: dict[str, str] = {}
            for family in _FAMILIES:
                async for entry in await self._route.neigh("dump", family=family):
                    if entry["ifindex"] == device and entry["state"] == _PERMANENT:
                        present[entry.get("dst")] = entry.get("lladdr")
            for ip in sorted(present.keys() - wanted.keys()):
                await self._route.neigh("del", family=_family(ip), dst=ip, ifindex=device)
            for ip, mac in sorted(wanted.items()):
                if present.get(ip) != mac:
                    await self._route.neigh(
                        "replace", family=_family(ip), dst=ip, lladdr=mac, ifindex=device, state=_PERMANENT
                    )
        with _mapped(f"forwarding on {DEVICE}"):
            ways = {(peer.mac, peer.ip) for peer in peers}
            there = set()
            async for entry in await self._route.fdb("dump", ifindex=device):
                if entry["ifindex"] == device and entry.get("dst") and entry.get("lladdr"):
                    there.add((entry.get("lladdr"), entry.get("dst")))
            for mac, ip in sorted(there - ways):
                await self._route.fdb("del", ifindex=device, lladdr=mac, dst=ip)
            for mac, ip in sorted(ways - there):
                await self._route.fdb("append", ifindex=device, lladdr=mac, dst=ip)

    async def _routes(self, wanted: tuple[Route, ...], device: int | None) -> None:
        with _mapped("routes"):
            present: dict[str, tuple[Any, ...]] = {}
            for family in _FAMILIES:
                async for message in await self._route.route("dump", family=family, proto=ROUTE_PROTOCOL):
                    destination = f"{message.get('dst')}/{message['dst_len']}"
                    # A route through an overlay that is gone goes with it, so the device need only be told from others.
                    present[destination] = (message.get("gateway"), message.get("oif") == device)
        names = {route.destination for route in wanted}
        for destination in sorted(present.keys() - names):
            with _mapped(f"route {destination}", gone_is_well=True):
                await self._route.route("del", dst=destination, proto=ROUTE_PROTOCOL)
        failed = []
        for route in wanted:
            if present.get(route.destination) == (route.gateway, route.overlay):
                continue
            try:
                with _mapped(f"route {route.destination} via {route.gateway}"):
                    await self._set_route(route, device)
            except NetworkError as error:  # the others need not wait for this one
                failed.append(str(error))
        if failed:
            raise NetworkError("; ".join(failed))

    async def _set_route(self, route: Route, device: int | None) -> None:
        how = {"oif": device, "flags": _ON_LINK} if route.overlay else {}
        await self._route.route("replace", dst=route.destination, gateway=route.gateway, proto=ROUTE_PROTOCOL, **how)
        log.info("set route", destination=route.destination, gateway=route.gateway, overlay=route.overlay)


def _is_overlay(link: Any, wanted: Overlay) -> bool:
    """Whether the device is as wanted in all that can't be changed afterwards."""
    info = link.get("linkinfo")
    data = info.get("data") if info is not None else None
    if info is None or info.get("kind") != "vxlan" or data is None:
        return False
    local = data.get("vxlan_local") or data.get("vxlan_local6")
    return (data.get("vxlan_id"), data.get("vxlan_port"), local, link.get("address")) == (
        wanted.settings.vni,
        wanted.settings.port,
        wanted.local,
        wanted.mac,
    )


def _family(ip: str) -> int:
    return _FAMILIES[ip_network(ip).version == 6]


@contextlib.contextmanager
def _mapped(what: str, *, gone_is_well: bool = False) -> Any:
    try:
        yield
    except NetlinkError as error:
        if gone_is_well and error.code in (errno.ESRCH, errno.ENOENT, errno.ENODEV):
            return
        raise NetworkError(f"{what}: {error.args[-1]}") from error
    except (OSError, asyncio.InvalidStateError) as error:
        raise NetworkError(f"{what}: {error}") from error
