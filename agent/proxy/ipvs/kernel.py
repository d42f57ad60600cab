"""The hand that brings virtual servers, and the addresses that they need on a dummy link, about.

Source: ip_vs(8) over generic netlink (pyroute2.ipvs); rtnetlink(7).
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Self

from pyroute2 import AsyncIPRoute
from pyroute2.ipvs import AsyncIPVS, IPVSDest, IPVSService
from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic.ipvs import GENL_NAME, GENL_VERSION, IPVS_CMD_SET_CONFIG, ipvsmsg

from agent.proxy.errors import BackendError
from agent.proxy.ipvs.rendering import Service, VirtualServer
from agent.proxy.model import Endpoint, Family, Protocol4

DEVICE = "kube-ipvs0"

_PROTOCOLS: dict[Protocol4, int] = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
_NAMES = {number: name for name, number in _PROTOCOLS.items()}
_AF = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
_MASQUERADE = 0  # IP_VS_CONN_F_MASQ
_PERSISTENT, _HASHED = 0x1, 0x2  # IP_VS_SVC_F_…
_ALL_BITS = 0xFFFFFFFF
# For IPv6 the field holds a prefix' length, as a number of the machine's own byte order.
_FULL_MASK = {Family.IPV4: "255.255.255.255", Family.IPV6: socket.inet_ntoa(struct.pack("=I", 128))}
_LINK_SCOPE, _NO_DAD = 253, 0x02


class _Config(genlmsg):  # type: ignore[misc]
    """A message about IPVS as a whole; pyroute2's has no types for it."""

    prefix = "IPVS_CMD_ATTR_"
    nla_map = (
        ("IPVS_CMD_ATTR_UNSPEC", "none"),
        ("IPVS_CMD_ATTR_SERVICE", "hex"),
        ("IPVS_CMD_ATTR_DEST", "hex"),
        ("IPVS_CMD_ATTR_DAEMON", "hex"),
        ("IPVS_CMD_ATTR_TIMEOUT_TCP", "uint32"),
        ("IPVS_CMD_ATTR_TIMEOUT_TCP_FIN", "uint32"),
        ("IPVS_CMD_ATTR_TIMEOUT_UDP", "uint32"),
    )


class _Servers(AsyncIPVS):  # type: ignore[misc]
    """IPVS' own netlink, with what pyroute2 does not send."""

    async def set_config(self, attributes: Sequence[tuple[str, int]]) -> None:
        message = _Config()
        message["cmd"], message["version"] = IPVS_CMD_SET_CONFIG, GENL_VERSION
        message["attrs"] = list(attributes)
        await self._do_request(message, msg_flags=NLM_F_REQUEST | NLM_F_ACK)


class IpvsKernel:
    """Virtual servers and addresses of one family in this network namespace. Use as an async context manager."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._servers = _Servers()
        self._route = AsyncIPRoute()
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the sockets. Raises BackendError when the kernel has no IPVS."""
        try:
            with _mapped("IPVS"):
                await self._stack.enter_async_context(self._servers)
                await self._servers.bind(GENL_NAME, ipvsmsg)
                await self._stack.enter_async_context(self._route)
        except BackendError:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self._stack.aclose()

    # -- virtual servers ---------------------------------------------------------------------------------------------

    async def services(self) -> dict[VirtualServer, tuple[Service, dict[Endpoint, int]]]:
        """Every virtual server of the family, with its endpoints' weights."""
        found = {}
        with _mapped("virtual servers"):
            for message in await self._servers.service("dump"):
                said = dict(message.get_attr("IPVS_CMD_ATTR_SERVICE")["attrs"])
                if said.get("IPVS_SVC_ATTR_AF") != _AF[self._family] or "IPVS_SVC_ATTR_ADDR" not in said:
                    continue
                protocol = _NAMES.get(said["IPVS_SVC_ATTR_PROTOCOL"])
                if protocol is None:
                    continue
                server = VirtualServer(said["IPVS_SVC_ATTR_ADDR"], said["IPVS_SVC_ATTR_PORT"], protocol)
                weights = {endpoint: weight for endpoint, (weight, _) in (await self.endpoints(server)).items()}
                persistent = said["IPVS_SVC_ATTR_FLAGS"]["flags"] & _PERSISTENT
                timeout = said["IPVS_SVC_ATTR_TIMEOUT"] if persistent else 0
                found[server] = (Service(said["IPVS_SVC_ATTR_SCHED_NAME"], timeout, tuple(sorted(weights))), weights)
        return found

    async def set_timeouts(self, tcp_seconds: int, tcp_fin_seconds: int, udp_seconds: int) -> None:
        """How long connections without packets are remembered, of all virtual servers; 0 leaves it as it is."""
        names = ("TIMEOUT_TCP", "TIMEOUT_TCP_FIN", "TIMEOUT_UDP")
        pairs = zip(names, (tcp_seconds, tcp_fin_seconds, udp_seconds), strict=True)
        given = [(f"IPVS_CMD_ATTR_{name}", seconds) for name, seconds in pairs if seconds]
        if given:
            with _mapped("IPVS timeouts"):
                await self._servers.set_config(given)

    async def endpoints(self, server: VirtualServer) -> dict[Endpoint, tuple[int, int]]:
        """(weight, connections) of every endpoint of a virtual server."""
        found = {}
        with _mapped(f"endpoints of {server.ip}:{server.port}"):
            for message in await self._servers.dest("dump", service=self._key(server)):
                said = dict(message.get_attr("IPVS_CMD_ATTR_DEST")["attrs"])
                connections = said.get("IPVS_DEST_ATTR_ACTIVE_CONNS", 0) + said.get("IPVS_DEST_ATTR_INACT_CONNS", 0)
                endpoint = Endpoint(said["IPVS_DEST_ATTR_ADDR"], said["IPVS_DEST_ATTR_PORT"])
                found[endpoint] = (said["IPVS_DEST_ATTR_WEIGHT"], connections)
        return found

    async def put_service(self, server: VirtualServer, wanted: Service, *, new: bool) -> None:
        """Make a virtual server, or change how it chooses."""
        flags = _PERSISTENT | _HASHED if wanted.affinity_seconds else _HASHED
        asked = self._key(
            server,
            sched_name=wanted.scheduler,
            flags={"flags": flags, "mask": _ALL_BITS},
            timeout=wanted.affinity_seconds,
        )
        with _mapped(f"virtual server {server.ip}:{server.port}/{server.protocol}"):
            await self._servers.service("add" if new else "set", service=asked)

    async def delete_service(self, server: VirtualServer) -> None:
        """Remove a virtual server; one that is gone is well."""
        with _mapped(f"virtual server {server.ip}:{server.port}/{server.protocol}", gone_is_well=True):
            await self._servers.service("del", service=self._key(server))

    async def put_endpoint(self, server: VirtualServer, endpoint: Endpoint, weight: int, *, new: bool) -> None:
        """Add an endpoint, or change its weight: with 0 it keeps what it has and gets nothing new."""
        asked = IPVSDest(addr=endpoint.ip, port=endpoint.port, weight=weight, fwd_method=_MASQUERADE)
        with _mapped(f"endpoint {endpoint} of {server.ip}:{server.port}"):
            await self._servers.dest("add" if new else "set", service=self._key(server), dest=asked)

    async def delete_endpoint(self, server: VirtualServer, endpoint: Endpoint) -> None:
        """Remove an endpoint, and with it its connections."""
        asked = IPVSDest(addr=endpoint.ip, port=endpoint.port)
        with _mapped(f"endpoint {endpoint} of {server.ip}:{server.port}", gone_is_well=True):
            await self._servers.dest("del", service=self._key(server), dest=asked)

    def _key(self, server: VirtualServer, **more: Any) -> IPVSService:
        return IPVSService(
            af=int(_AF[self._family]),
            addr=server.ip,
            port=server.port,
            protocol=_PROTOCOLS[server.protocol],
            netmask=_FULL_MASK[self._family],
            **more,
        )

    # -- addresses ---------------------------------------------------------------------------------------------------

    async def device(self, *, make: bool) -> int | None:
        """The dummy link's index."""
        with _mapped(f"link {DEVICE}"):
            found = await self._route.link_lookup(ifname=DEVICE)
            if not found and make:
                await self._route.link("add", ifname=DEVICE, kind="dummy")
                found = await self._route.link_lookup(ifname=DEVICE)
            return int(found[0]) if found else None

    async def remove_device(self) -> None:
        """Take the dummy link away."""
        index = await self.device(make=False)
        if index is not None:
            with _mapped(f"link {DEVICE}", gone_is_well=True):
                await self._route.link("del", index=index)

    async def addresses(self) -> dict[str, bool]:
        """This host's addresses of the family, but loopback and link-local ones: whether each is on the dummy link."""
        device = await self.device(make=False)
        found: dict[str, bool] = {}
        with _mapped("addresses"):
            async for message in await self._route.addr("dump", family=int(_AF[self._family])):
                text = message.get("local") or message.get("address")
                if message["scope"] != _LINK_SCOPE and not ip_address(text).is_loopback:
                    found[text] = message["index"] == device
        return found

    async def add_address(self, device: int, ip: str) -> None:
        """Put an address on the dummy link."""
        length = 32 if self._family is Family.IPV4 else 128
        flags: Mapping[str, int] = {} if self._family is Family.IPV4 else {"flags": _NO_DAD}
        with _mapped(f"address {ip}", there_is_well=True):
            await self._route.addr("add", index=device, address=ip, prefixlen=length, **flags)

    async def delete_address(self, device: int, ip: str) -> None:
        """Take an address off the dummy link."""
        length = 32 if self._family is Family.IPV4 else 128
        with _mapped(f"address {ip}", gone_is_well=True):
            await self._route.addr("del", index=device, address=ip, prefixlen=length)


def is_within(ip: str, ranges: tuple[str, ...]) -> bool:
    """Whether an address is in one of these CIDRs."""
    address = ip_address(ip)
    return any(address in ip_network(r, strict=False) for r in ranges)


@contextlib.contextmanager
def _mapped(what: str, *, gone_is_well: bool = False, there_is_well: bool = False) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        gone = error.code in (errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL)
        if (gone_is_well and gone) or (there_is_well and error.code == errno.EEXIST):
            return
        raise BackendError(f"{what}: {error.args[-1]}") from error
    except OSError as error:
        raise BackendError(f"{what}: {error.strerror or error}") from error
