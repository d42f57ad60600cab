"""From the PortRules of one service port to its map elements and chains: pure, and stable for equal input.

Most services need nothing but map elements: `service-ips` says how many endpoints there are, and a map shared by all
services with that many picks one.  A destination is then two lookups, whatever the number of services, and a change
is a few elements:

    map service-ips { 10.96.0.10 . udp . 53 : goto balance-udp-3 }
    chain balance-udp-3 { dnat ip to ip daddr . udp dport . numgen random mod 3 map @endpoints-udp-3 }

Client affinity, and external traffic that must stay on its node, need chains of the service's own (`service-…`,
`external-…`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import collapse_addresses, ip_address, ip_network

from agent.proxy.model import Endpoint, Family, PortRules
from agent.proxy.naming import nft_base, nft_endpoint_base
from agent.proxy.nftables.skeleton import (
    CLUSTER_IPS,
    FIREWALL_IPS,
    HAIRPIN,
    MARK,
    NO_ENDPOINT_NODEPORTS,
    NO_ENDPOINT_SERVICES,
    REJECT,
    SERVICE_IPS,
    SERVICE_NODEPORTS,
    from_pod,
    nft_family,
)
from agent.proxy.settings import RuleSettings

Element = tuple[str, str]  # the set's or map's name, the key


@dataclass(slots=True)
class Rendered:
    """What one service port contributes to the table.

    `elements` maps to what follows the key where the element is added (comment and value; "" in a set); `chains` and
    `sets` are the port's own; `shared` are the balancing maps and chains that it uses together with others.
    """

    elements: dict[Element, str] = field(default_factory=dict)
    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)
    shared: set[Balance] = field(default_factory=set)


@dataclass(frozen=True, slots=True, order=True)
class Balance:
    """A chain that spreads connections over `count` endpoints by a map that all services with as many share.

    Each protocol has its own: nft 1.0.6 can't read a map's declaration with `th dport` back from the kernel.
    """

    kind: str  # "": to a service's IP; "external": the same, masqueraded; "nodeport": to a node port, masqueraded
    protocol: str
    count: int

    @property
    def chain(self) -> str:
        """The chain's name."""
        return "-".join(part for part in ("balance", self.kind, self.protocol, str(self.count)) if part)

    @property
    def map(self) -> str:
        """The map's name."""
        return f"endpoints-{'nodeport-' if self.kind == 'nodeport' else ''}{self.protocol}-{self.count}"

    def key(self, ip: str) -> str:
        """What the map's key is made of."""
        where = f"{self.protocol} dport" if self.kind == "nodeport" else f"{ip} daddr . {self.protocol} dport"
        return where if self.count == 1 else f"{where} . numgen random mod {self.count}"

    def declaration(self, ip: str) -> str:
        """The map's declaration."""
        return f"typeof {self.key(ip)} : {ip} daddr . {self.protocol} dport;"

    def rules(self, ip: str) -> tuple[str, ...]:
        """The chain's rules."""
        translate = f"dnat {ip} to {self.key(ip)} map @{self.map}"
        return (f"jump {MARK}", translate) if self.kind else (translate,)


def render(rules: PortRules, settings: RuleSettings) -> Rendered:
    """The map elements, chains and sets that make `rules` true."""
    return _Rendering(rules, settings).done()


class _Rendering:
    def __init__(self, rules: PortRules, settings: RuleSettings) -> None:
        self.rules = rules
        self.settings = settings
        self.ip = nft_family(settings.family)
        self.out = Rendered()
        self.comment = f' comment "{rules.name}"'

    def done(self) -> Rendered:
        rules, elements = self.rules, self.out.elements
        elements[CLUSTER_IPS, rules.cluster_ip] = ""
        self._internal()
        if rules.externally_accessible:
            self._external()
        if rules.source_ranges is not None and rules.load_balancer_ips:
            self._firewall(rules.source_ranges)
        for ip in rules.hairpin_ips:
            elements[HAIRPIN, f"{ip} . {ip}"] = ""
        return self.out

    def _destination(self, ip: str) -> str:
        return f"{ip} . {self.rules.name.protocol} . {self.rules.port}"

    def _internal(self) -> None:
        rules = self.rules
        where = self._destination(rules.cluster_ip)
        if rules.internal_refusal:
            self._say(NO_ENDPOINT_SERVICES, where, _refusal(rules.internal_refusal))
        elif rules.affinity_seconds:
            self._say(SERVICE_IPS, where, f"goto {self._own_chain(local=rules.internal_local)}")
        else:
            self._balance("", SERVICE_IPS, where, rules.internal)

    def _external(self) -> None:
        rules = self.rules
        places = [(SERVICE_IPS, NO_ENDPOINT_SERVICES, self._destination(ip), "external") for ip in _external_ips(rules)]
        if rules.node_port:
            where = f"{rules.name.protocol} . {rules.node_port}"
            places.append((SERVICE_NODEPORTS, NO_ENDPOINT_NODEPORTS, where, "nodeport"))
        own_chain = rules.external_local or bool(rules.affinity_seconds)
        for dispatch, refused, where, kind in places:
            if rules.has_endpoints and own_chain:
                self._say(dispatch, where, f"goto {self._external_chain()}")
            elif rules.has_endpoints:
                self._balance(kind, dispatch, where, rules.external)
            if rules.external_refusal:  # what the chain of its own lets fall through, or everything
                self._say(refused, where, _refusal(rules.external_refusal))

    def _say(self, to: str, where: str, verdict: str) -> None:
        self.out.elements[to, where] = f"{self.comment} : {verdict}"

    def _balance(self, kind: str, to: str, where: str, endpoints: Sequence[Endpoint]) -> None:
        balance = Balance(kind, self.rules.name.protocol, len(endpoints))
        self.out.shared.add(balance)
        self._say(to, where, f"goto {balance.chain}")
        elements, name = self.out.elements, balance.map
        key = where.replace(f"{balance.protocol} . ", "", 1)  # the map's name says it
        if len(endpoints) == 1:
            elements[name, key] = f" : {endpoints[0].ip} . {endpoints[0].port}"
        else:
            for number, endpoint in enumerate(endpoints):
                elements[name, f"{key} . {number}"] = f" : {endpoint.ip} . {endpoint.port}"

    def _external_chain(self) -> str:
        """The chain for traffic from outside; pods and the node itself are let in everywhere, as if they had been
        outside.
        """
        rules = self.rules
        chain = f"external-{nft_base(rules.name)}"
        if chain in self.out.chains:
            return chain
        if not rules.external_local:
            self.out.chains[chain] = (f"jump {MARK}", f"goto {self._own_chain(local=False)}")
            return chain
        everywhere = self._own_chain(local=False)
        pod = from_pod(self.settings.local, self.ip)
        steps = [f"{pod} goto {everywhere}"] if pod else []
        steps += [f"fib saddr type local jump {MARK}", f"fib saddr type local goto {everywhere}"]
        if rules.local:
            steps.append(f"goto {self._own_chain(local=True)}")
        self.out.chains[chain] = tuple(steps)
        return chain

    def _own_chain(self, *, local: bool) -> str:
        """The port's chain that balances over the cluster's or the node's endpoints."""
        rules = self.rules
        chain = f"{'service-local' if local else 'service'}-{nft_base(rules.name)}"
        if chain not in self.out.chains:
            endpoints = rules.local if local else rules.cluster
            self.out.chains[chain] = self._sticky(endpoints) if rules.affinity_seconds else (self._spread(endpoints),)
        return chain

    def _spread(self, endpoints: Sequence[Endpoint]) -> str:
        to = f"meta l4proto {self.rules.name.protocol} dnat {self.ip} to"
        if len(endpoints) == 1:
            return f"{to} {endpoints[0]}"
        choices = ", ".join(f"{n} : {e.ip} . {e.port}" for n, e in enumerate(endpoints))
        return f"{to} numgen random mod {len(endpoints)} map {{ {choices} }}"

    def _sticky(self, endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
        """Where the client went before, for as long as it is remembered; otherwise anywhere."""
        rules, ip = self.rules, self.ip
        steps = []
        names = [nft_endpoint_base(rules.name, e) for e in endpoints]
        address = "ipv4_addr" if self.settings.family is Family.IPV4 else "ipv6_addr"
        for name, endpoint in zip(names, endpoints, strict=True):
            declaration = f"type {address}; flags dynamic,timeout; timeout {rules.affinity_seconds}s;"
            self.out.sets[f"affinity-{name}"] = declaration
            self.out.chains[f"endpoint-{name}"] = (
                f"update @affinity-{name} {{ {ip} saddr }}",
                self._spread([endpoint]),
            )
            steps.append(f"{ip} saddr @affinity-{name} goto endpoint-{name}")
        if len(names) == 1:
            steps.append(f"goto endpoint-{names[0]}")
        else:
            choices = ", ".join(f"{n} : goto endpoint-{name}" for n, name in enumerate(names))
            steps.append(f"numgen random mod {len(names)} vmap {{ {choices} }}")
        return tuple(steps)

    def _firewall(self, ranges: tuple[str, ...]) -> None:
        rules = self.rules
        chain = f"firewall-{nft_base(rules.name)}"
        for ip in rules.load_balancer_ips:
            self._say(FIREWALL_IPS, self._destination(ip), f"goto {chain}")
        allowed = allowed_sources(ranges, rules.load_balancer_ips, self.settings)
        self.out.chains[chain] = (f"{self.ip} saddr != {{ {', '.join(allowed)} }} drop" if allowed else "drop",)


def allowed_sources(ranges: Sequence[str], load_balancer_ips: Sequence[str], settings: RuleSettings) -> tuple[str, ...]:
    """The CIDRs that may use a load balancer's IPs, none inside another.

    A node that has the IP as one of its own addresses connects from that very IP, so where the node is allowed, the
    IP is.
    """
    networks = [ip_network(r) for r in ranges]
    if any(ip_address(node) in network for node in settings.node_ips for network in networks):
        networks += [ip_network(ip) for ip in load_balancer_ips]
    return tuple(str(n) for n in collapse_addresses(networks))  # type: ignore[type-var]


def _external_ips(rules: PortRules) -> tuple[str, ...]:
    return tuple(dict.fromkeys(rules.external_ips + rules.load_balancer_ips))


def _refusal(refusal: str) -> str:
    return f"goto {REJECT}" if refusal == "reject" else "drop"
