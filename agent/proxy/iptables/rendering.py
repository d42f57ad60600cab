"""From the PortRules of one service port to its chains and its entries in the shared chains: pure, and stable.

The chains are upstream's, with three differences, for at every change the kernel goes through all chains and rules that
a jump leads to (decision 55).  KUBE-SERVICES and its like lead to one chain for each last byte of the address
(KUBE-SERVICES-2A), so that neither a packet nor a change has to do with all services.  A port without client affinity
has its endpoints in its KUBE-SVC chain and not in a KUBE-SEP chain each.  And where nothing but the port's cluster IP
would lead to that chain, and its endpoints are few, its rules stand where the jump to it would be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.proxy.iptables.skeleton import (
    FILTER_EXTERNAL,
    FILTER_FIREWALL,
    FILTER_NODEPORTS,
    FILTER_SERVICES,
    MARK_MASQ,
    NAT_HAIRPIN,
    NAT_NODEPORTS,
    NAT_SERVICES,
    ChainName,
    comment,
    from_pod,
    not_from_pod,
    refusals,
)
from agent.proxy.model import Endpoint, PortRules
from agent.proxy.naming import endpoint_hash, port_hash
from agent.proxy.nftables.rendering import allowed_sources
from agent.proxy.settings import RuleSettings

_PORTS_A_SHARD = 64
_INLINE_ENDPOINTS = 8  # more than these make their shard long for the packets of its other services


class Shard(NamedTuple):
    """One of the chains that a shared chain is split into."""

    parent: ChainName
    suffix: str
    match: str  # what leads from the parent to this shard

    @property
    def name(self) -> ChainName:
        """The chain."""
        return ChainName(self.parent.table, f"{self.parent.chain}-{self.suffix}" if self.suffix else self.parent.chain)


@dataclass(slots=True)
class Rendered:
    """What one service port contributes: chains of its own, and rules in shards of shared chains."""

    chains: dict[ChainName, tuple[str, ...]] = field(default_factory=dict)
    entries: defaultdict[Shard, list[str]] = field(default_factory=lambda: defaultdict(list))


def by_address(parent: ChainName, ip: str, option: str = "-d") -> Shard:
    """The shard of an address: the same last byte, the same shard."""
    if ":" in ip:
        last = int(ip.rpartition(":")[2] or "0", 16) & 0xFF
        return Shard(parent, f"{last:02X}", f"{option} ::{last:x}/::ff")
    last = int(ip.rpartition(".")[2])
    return Shard(parent, f"{last:02X}", f"{option} 0.0.0.{last}/0.0.0.255")


def by_port(parent: ChainName, protocol: str, port: int) -> Shard:
    """The shard of a port: neighbouring ports, one shard."""
    number, first = port // _PORTS_A_SHARD, port - port % _PORTS_A_SHARD
    match = f"-p {protocol} -m {protocol} --dport {first}:{first + _PORTS_A_SHARD - 1}"
    # Names of chains have at most 28 characters.
    return Shard(parent, f"{protocol[0].upper()}{number:03X}", match)


def whole(parent: ChainName) -> Shard:
    """The shared chain itself, for what is rare."""
    return Shard(parent, "", "")


def render(rules: PortRules, settings: RuleSettings) -> Rendered:
    """The chains and entries that make `rules` true."""
    return _Rendering(rules, settings).done()


class _Rendering:
    def __init__(self, rules: PortRules, settings: RuleSettings) -> None:
        self.rules = rules
        self.settings = settings
        self.out = Rendered()
        protocol = rules.name.protocol
        self.protocol = f"-m {protocol} -p {protocol}"

    def done(self) -> Rendered:
        rules = self.rules
        for ip in rules.external_ips:
            self._external(ip, "external IP", self._external_chain)
        for ip in rules.load_balancer_ips:
            self._external(ip, "loadbalancer IP", self._balancer_chain)
        if rules.node_port:
            self._node_port()
        self._internal()
        if rules.health_check_node_port:
            said = comment(f"{rules.name.service} health check node port")
            rule = f"{said} -m tcp -p tcp --dport {rules.health_check_node_port} -j ACCEPT"
            self.out.entries[whole(FILTER_NODEPORTS)].append(rule)
        for ip in rules.hairpin_ips:
            rule = f"-s {ip} -d {ip} -j MASQUERADE --random-fully"
            self.out.entries[by_address(NAT_HAIRPIN, ip, "-s")].append(rule)
        return self.out

    def _to(self, ip: str) -> str:
        return f"{self.protocol} -d {ip} --dport {self.rules.port}"

    def _internal(self) -> None:
        rules = self.rules
        ip = rules.cluster_ip
        if rules.internal_refusal:
            self._refuse(by_address(FILTER_SERVICES, ip), self._to(ip), rules.internal_refusal)
            return
        said = comment(f"{rules.name} cluster IP")
        outside = "" if self.settings.masquerade_all else not_from_pod(self.settings.local)
        masquerading = bool(outside) or self.settings.masquerade_all
        mark = [f"{said} {outside} {self._to(ip)} -j {MARK_MASQ}".replace("  ", " ")] if masquerading else []
        shard = self.out.entries[by_address(NAT_SERVICES, ip)]
        if self._stands_alone():
            endpoints = rules.local if rules.internal_local else rules.cluster
            choices = self._spread(endpoints, self._to(ip))
            shard += [*mark, *choices] if mark else [f"{said} {choices[0]}", *choices[1:]]
            return
        chain = self._own_chain(local=rules.internal_local)
        shard.append(f"{said} {self._to(ip)} -j {chain}")
        name = ChainName("nat", chain)
        self.out.chains[name] = (*mark, *self.out.chains[name])

    def _stands_alone(self) -> bool:
        """Whether the cluster IP's rules need no chain of their own."""
        rules = self.rules
        count = len(rules.local if rules.internal_local else rules.cluster)
        return 0 < count <= _INLINE_ENDPOINTS and not rules.affinity_seconds and not self.out.chains

    def _external(self, ip: str, what: str, chain: Callable[[], str]) -> None:
        rules = self.rules
        if rules.has_endpoints:
            rule = f"{comment(f'{rules.name} {what}')} {self._to(ip)} -j {chain()}"
            self.out.entries[by_address(NAT_SERVICES, ip)].append(rule)
        if rules.external_refusal:
            self._refuse(by_address(FILTER_EXTERNAL, ip), self._to(ip), rules.external_refusal)

    def _node_port(self) -> None:
        rules = self.rules
        protocol, port = rules.name.protocol, rules.node_port
        to = f"{self.protocol} --dport {port}"
        if rules.has_endpoints:
            rule = f"{comment(str(rules.name))} {to} -j {self._external_chain()}"
            self.out.entries[by_port(NAT_NODEPORTS, protocol, port)].append(rule)
        if rules.external_refusal:
            shard = by_port(FILTER_EXTERNAL, protocol, port)
            self._refuse(shard, f"-m addrtype --dst-type LOCAL {to}", rules.external_refusal)

    def _refuse(self, shard: Shard, match: str, refusal: str) -> None:
        if refusal == "reject":
            said = f"{self.rules.name} has no endpoints"
            self.out.entries[shard] += refusals(match, said, self.rules.name.protocol)
        else:
            self.out.entries[shard].append(f"{comment(f'{self.rules.name} has no local endpoints')} {match} -j DROP")

    def _external_chain(self) -> str:
        """The chain for traffic from outside; pods and the node itself are let in everywhere, as if from outside."""
        rules = self.rules
        name = ChainName("nat", f"KUBE-EXT-{port_hash(self.rules.name)}")
        if name in self.out.chains:
            return name.chain
        everywhere = self._own_chain(local=False)
        if not rules.external_local:
            said = comment(f"masquerade traffic for {rules.name} external destinations")
            self.out.chains[name] = (f"{said} -j {MARK_MASQ}", f"-j {everywhere}")
            return name.chain
        steps = []
        pod = from_pod(self.settings.local)
        if pod:
            said = comment(f"pod traffic for {rules.name} external destinations")
            steps.append(f"{said} {pod} -j {everywhere}")
        said = comment(f"masquerade LOCAL traffic for {rules.name} external destinations")
        steps.append(f"{said} -m addrtype --src-type LOCAL -j {MARK_MASQ}")
        said = comment(f"route LOCAL traffic for {rules.name} external destinations")
        steps.append(f"{said} -m addrtype --src-type LOCAL -j {everywhere}")
        if rules.local:
            steps.append(f"-j {self._own_chain(local=True)}")
        self.out.chains[name] = tuple(steps)
        return name.chain

    def _balancer_chain(self) -> str:
        """The chain for a load balancer's IP: the external one, behind the list of who may use it."""
        rules = self.rules
        external = self._external_chain()
        if rules.source_ranges is None:
            return external
        name = ChainName("nat", f"KUBE-FW-{port_hash(self.rules.name)}")
        if name not in self.out.chains:
            allowed = allowed_sources(rules.source_ranges, rules.load_balancer_ips, self.settings)
            said = comment(f"{rules.name} loadbalancer IP")
            self.out.chains[name] = tuple(f"{said} -s {cidr} -j {external}" for cidr in allowed)
            said = comment(f"{rules.name} traffic not accepted by {name.chain}")
            drops = [f"{said} {self._to(ip)} -j DROP" for ip in rules.load_balancer_ips]
            self.out.entries[whole(FILTER_FIREWALL)] += drops
        return name.chain

    def _own_chain(self, *, local: bool) -> str:
        """The port's chain that balances over the cluster's or the node's endpoints."""
        rules = self.rules
        name = ChainName("nat", f"{'KUBE-SVL' if local else 'KUBE-SVC'}-{port_hash(self.rules.name)}")
        if name not in self.out.chains:
            endpoints = rules.local if local else rules.cluster
            steps = self._sticky(endpoints) if rules.affinity_seconds else self._spread(endpoints)
            self.out.chains[name] = tuple(steps)
        return name.chain

    def _spread(self, endpoints: Sequence[Endpoint], match: str = "") -> list[str]:
        return [
            f"{match or self.protocol}{chance} -j DNAT --to-destination {e}"
            for e, chance in zip(endpoints, chances(len(endpoints)), strict=True)
        ]

    def _sticky(self, endpoints: Sequence[Endpoint]) -> list[str]:
        """Where the client went before, for as long as it is remembered; otherwise anywhere."""
        rules = self.rules
        remembered, choices = [], []
        for endpoint, chance in zip(endpoints, chances(len(endpoints)), strict=True):
            chain = f"KUBE-SEP-{endpoint_hash(rules.name, endpoint)}"
            said = comment(f"{rules.name} -> {endpoint}")
            recent = f"-m recent --name {chain} --rcheck --seconds {rules.affinity_seconds} --reap"
            remembered.append(f"{said} {recent} -j {chain}")
            choices.append(f"{said}{chance} -j {chain}")
            to = f"{self.protocol} -j DNAT --to-destination {endpoint}"
            self.out.chains[ChainName("nat", chain)] = (
                f"{comment(str(rules.name))} -m recent --name {chain} --set {to}",
            )
        return [*remembered, *choices]


def chances(count: int) -> list[str]:
    """The match of each of `count` rules in a row that gives all of them the same share."""
    each = [f" -m statistic --mode random --probability {1 / (count - n):.10f}" for n in range(count - 1)]
    return [*each, ""] if count else []
