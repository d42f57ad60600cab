"""Keeps virtual servers, addresses, sets and rules as the PortRules say.

IPVS knows no transactions, so the order says what packets may meet: what is new is there before it is led to, and
what is old is led to no more before it goes.  An endpoint that goes keeps its TCP connections for a while.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.proxy import kernel as sysctl
from agent.proxy.iptables import saved
from agent.proxy.iptables.backend import LOCK_SECONDS, checked
from agent.proxy.iptables.restore import takeover_text
from agent.proxy.ipvs import ipset
from agent.proxy.ipvs.claims import Claims
from agent.proxy.ipvs.kernel import IpvsKernel, is_within
from agent.proxy.ipvs.rendering import Member, Rendered, Service, VirtualServer, render
from agent.proxy.ipvs.skeleton import JUMPS, chains
from agent.proxy.model import Endpoint, Family, PortRules, ServicePortName
from agent.proxy.settings import RuleSettings

_DRAIN_SECONDS = 900.0  # how long the connections of an endpoint that is gone may go on
_SYSCTLS = {
    "ipv4/vs/conntrack": 1,  # or masquerading does not see what IPVS does
    "ipv4/vs/conn_reuse_mode": 0,
    "ipv4/vs/expire_nodest_conn": 1,
    "ipv4/vs/expire_quiescent_template": 1,
    "ipv4/ip_forward": 1,
}
_STRICT_ARP = {"ipv4/conf/all/arp_ignore": 1, "ipv4/conf/all/arp_announce": 2}


@dataclass(frozen=True, slots=True)
class _Draining:
    server: VirtualServer
    endpoint: Endpoint


class IpvsBackend:
    """One IP family."""

    def __init__(self, settings: RuleSettings) -> None:
        self._settings = settings
        self._family = settings.family
        self._rules: dict[ServicePortName, PortRules] = {}
        self._rendered: dict[ServicePortName, Rendered] = {}
        self._node_ips: tuple[str, ...] = ()
        self._servers: Claims[VirtualServer, Service] = Claims()
        self._addresses: Claims[str, None] = Claims()
        self._members: Claims[Member, None] = Claims()
        self._draining: dict[_Draining, float] = {}
        self._ruleset: bytes = b""

    def configure(self, settings: RuleSettings) -> None:
        """Use other settings from the next `replace` on."""
        self._settings = settings

    async def change(self, changes: Mapping[ServicePortName, PortRules | None]) -> None:
        """Make these service ports as they are here (None: gone)."""
        servers, addresses, members = self._servers.mark(), self._addresses.mark(), self._members.mark()
        for name, new in sorted(changes.items()):
            self._enter(name, new)
        added, removed = members.difference()
        async with IpvsKernel(self._family) as kernel:
            await ipset.restore(ipset.change_text(self._family, added, ()))
            new_ips, old_ips = addresses.difference()
            await self._bind(kernel, new_ips)
            for server in sorted(servers.touched()):
                await self._serve(kernel, server, servers.before(server), self._servers.get(server))
            await self._unbind(kernel, old_ips)
        await ipset.restore(ipset.change_text(self._family, (), removed))

    async def replace(self, everything: Mapping[ServicePortName, PortRules]) -> None:
        """Make exactly these true, whatever the kernel holds."""
        self._rules, self._rendered = {}, {}
        self._servers, self._addresses, self._members = Claims(), Claims(), Claims()
        for name, value in _SYSCTLS.items():
            sysctl.write(name, value)
        if self._settings.ipvs_strict_arp:
            for name, value in _STRICT_ARP.items():
                sysctl.write(name, value)
        async with IpvsKernel(self._family) as kernel:
            await kernel.set_timeouts(*self._settings.ipvs_timeouts)
            local = await kernel.addresses()
            self._node_ips = self._serving(ip for ip, ours in local.items() if not ours)
            for port, rules in sorted(everything.items()):
                self._enter(port, rules)
            there = await ipset.present(self._family)
            await ipset.restore(ipset.replace_text(self._family, self._wanted_members(), there))
            await self._write_rules()
            await self._bind(kernel, self._addresses.wanted - {ip for ip, ours in local.items() if ours})
            present = await kernel.services()
            for server in sorted(self._servers.wanted | present.keys()):
                if not is_within(server.ip, self._settings.ipvs_excluded):
                    was = present.get(server)
                    await self._serve(
                        kernel, server, was[0] if was else None, self._servers.get(server), was and was[1]
                    )
            await self._unbind(kernel, {ip for ip, ours in local.items() if ours} - self._addresses.wanted)

    async def disturbed(self) -> bool:
        """Whether somebody else has been at what is ours. Endpoints whose last connection has ended go, too."""
        async with IpvsKernel(self._family) as kernel:
            await self._finish_draining(kernel)
            local = await kernel.addresses()
            if {ip for ip, ours in local.items() if ours} != set(self._addresses.wanted):
                return True
            if self._serving(ip for ip, ours in local.items() if not ours) != self._node_ips:
                return True
            present = await kernel.services()
        draining = set(self._draining)
        for server, (service, weights) in present.items():
            wanted = self._servers.get(server)
            live = tuple(sorted(e for e in weights if _Draining(server, e) not in draining))
            if is_within(server.ip, self._settings.ipvs_excluded):
                continue
            if wanted is None or (wanted.scheduler, wanted.affinity_seconds) != (
                service.scheduler,
                service.affinity_seconds,
            ):
                return True
            if live != tuple(sorted(wanted.endpoints)):
                return True
        if self._servers.wanted - present.keys():
            return True
        members = {name: sorted(texts) for name, texts in (await ipset.present(self._family)).items()}
        wanted_members = {name: sorted(texts) for name, texts in self._wanted_members().items()}
        if {name: texts for name, texts in members.items() if texts} != wanted_members:
            return True
        return self._ruleset != saved.digest((await checked(f"{self._program}-save")).stdout)

    async def cleanup(self) -> None:
        """Remove everything."""
        await clean_up(self._family, self._settings.ipvs_excluded)

    # -- what is wanted ----------------------------------------------------------------------------------------------

    def _enter(self, name: ServicePortName, new: PortRules | None) -> None:
        was = self._rendered.pop(name, Rendered())
        now = render(new, self._settings, self._node_ips) if new else Rendered()
        self._servers.change(name, was.servers, now.servers)
        self._addresses.change(name, dict.fromkeys(was.addresses), dict.fromkeys(now.addresses))
        self._members.change(name, dict.fromkeys(was.members), dict.fromkeys(now.members))
        if new is not None:
            self._rendered[name] = now

    def _wanted_members(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for member in self._members.wanted:
            found.setdefault(member.set, []).append(member.text)
        return found

    def _serving(self, ips: Iterable[str]) -> tuple[str, ...]:
        """Those of the host's addresses that serve NodePorts."""
        ranges = self._settings.node_port_ranges
        return tuple(sorted(ip for ip in ips if ranges is None or is_within(ip, ranges)))

    # -- carrying out ------------------------------------------------------------------------------------------------

    @property
    def _program(self) -> str:
        return "iptables" if self._family is Family.IPV4 else "ip6tables"

    async def _write_rules(self) -> None:
        now = saved.parse((await checked(f"{self._program}-save")).text)
        text = takeover_text(chains(self._settings), now, JUMPS)
        await checked(f"{self._program}-restore", "--noflush", "-w", LOCK_SECONDS, stdin=text)
        self._ruleset = saved.digest((await checked(f"{self._program}-save")).stdout)

    async def _bind(self, kernel: IpvsKernel, ips: Iterable[str]) -> None:
        device = await kernel.device(make=True)
        for ip in sorted(ips):
            if device is not None:
                await kernel.add_address(device, ip)

    @staticmethod
    async def _unbind(kernel: IpvsKernel, ips: Iterable[str]) -> None:
        device = await kernel.device(make=False)
        for ip in sorted(ips):
            if device is not None:
                await kernel.delete_address(device, ip)

    async def _serve(
        self,
        kernel: IpvsKernel,
        server: VirtualServer,
        was: Service | None,
        now: Service | None,
        weights: Mapping[Endpoint, int] | None = None,
    ) -> None:
        """From one state of a virtual server to the next; `weights` are its endpoints', where they are not all 1."""
        if now is None:
            await kernel.delete_service(server)
            self._draining = {d: until for d, until in self._draining.items() if d.server != server}
            return
        how, before = (now.scheduler, now.affinity_seconds), was and (was.scheduler, was.affinity_seconds)
        if how != before:
            await kernel.put_service(server, now, new=was is None)
        there = dict(weights or dict.fromkeys(was.endpoints if was else (), 1))
        for draining in [d for d in self._draining if d.server == server]:
            there[draining.endpoint] = 0
        for endpoint in now.endpoints:
            if there.get(endpoint) != 1:
                await kernel.put_endpoint(server, endpoint, 1, new=endpoint not in there)
            self._draining.pop(_Draining(server, endpoint), None)
        for endpoint in sorted(there.keys() - set(now.endpoints)):
            await self._let_go(kernel, server, endpoint)

    async def _let_go(self, kernel: IpvsKernel, server: VirtualServer, endpoint: Endpoint) -> None:
        """TCP connections go on; the datagrams of a client do not stay with an endpoint that is gone."""
        _, connections = (await kernel.endpoints(server)).get(endpoint, (0, 0))
        if server.protocol != "tcp" or not connections:
            await kernel.delete_endpoint(server, endpoint)
            self._draining.pop(_Draining(server, endpoint), None)
            return
        await kernel.put_endpoint(server, endpoint, 0, new=False)
        self._draining.setdefault(_Draining(server, endpoint), time.monotonic() + _DRAIN_SECONDS)

    async def _finish_draining(self, kernel: IpvsKernel) -> None:
        for draining, until in list(self._draining.items()):
            _, connections = (await kernel.endpoints(draining.server)).get(draining.endpoint, (0, 0))
            if not connections or time.monotonic() > until:
                await kernel.delete_endpoint(draining.server, draining.endpoint)
                self._draining.pop(draining, None)


async def clean_up(family: Family, excluded: tuple[str, ...] = ()) -> None:
    """Remove virtual servers, the dummy link, the rules and the sets of a family. Raises BackendError."""
    async with IpvsKernel(family) as kernel:
        if await kernel.device(make=False) is not None:
            for server in await kernel.services():
                if not is_within(server.ip, excluded):
                    await kernel.delete_service(server)
        await kernel.remove_device()
    program = "iptables" if family is Family.IPV4 else "ip6tables"
    now = saved.parse((await checked(f"{program}-save")).text)
    if any(chain.chain.startswith("KUBE-IPVS-") for chain in now.chains):
        await checked(f"{program}-restore", "--noflush", "-w", LOCK_SECONDS, stdin=takeover_text({}, now, ()))
    await ipset.remove(family)
