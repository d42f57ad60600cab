"""From the PortRules of one service port to virtual servers, addresses and members of sets: pure, and stable.

Each place where the port is reached is a virtual server.  What upstream's IPVS mode can't do, this one can't either: to
external IPs and node ports with `externalTrafficPolicy: Local`, pods of this node get the node's endpoints alone.

Source: kube-proxy's ipvs proxier and README; ipset(8), ipvsadm(8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import NamedTuple

from agent.proxy.model import Endpoint, Family, PortRules, Protocol4, Refusal
from agent.proxy.nftables.rendering import allowed_sources
from agent.proxy.settings import RuleSettings

CLUSTER_IP = "CLUSTER-IP"
EXTERNAL_IP = "EXTERNAL-IP"
EXTERNAL_IP_LOCAL = "EXTERNAL-IP-LOCAL"
LOAD_BALANCER = "LOAD-BALANCER"
LOAD_BALANCER_LOCAL = "LOAD-BALANCER-LOCAL"
LOAD_BALANCER_FW = "LOAD-BALANCER-FW"
SOURCE_CIDR = "LOAD-BALANCER-SOURCE-CIDR"
LOOP_BACK = "LOOP-BACK"
HEALTH_CHECK = "HEALTH-CHECK-NODE-PORT"
IPVS_IPS = "IPVS-IPS"
REFUSED = {"reject": "NO-ENDPOINTS", "drop": "NO-LOCAL-ENDPOINTS"}

SETS = {
    CLUSTER_IP: "hash:ip,port",
    EXTERNAL_IP: "hash:ip,port",
    EXTERNAL_IP_LOCAL: "hash:ip,port",
    LOAD_BALANCER: "hash:ip,port",
    LOAD_BALANCER_LOCAL: "hash:ip,port",
    LOAD_BALANCER_FW: "hash:ip,port",
    SOURCE_CIDR: "hash:ip,port,net",
    LOOP_BACK: "hash:ip,port,ip",
    HEALTH_CHECK: "bitmap:port",
    IPVS_IPS: "hash:ip",
    **dict.fromkeys(REFUSED.values(), "hash:ip,port"),
    "NODE-PORT-TCP": "bitmap:port",
    "NODE-PORT-LOCAL-TCP": "bitmap:port",
    "NODE-PORT-UDP": "bitmap:port",
    "NODE-PORT-LOCAL-UDP": "bitmap:port",
    "NODE-PORT-SCTP-HASH": "hash:ip,port",
    "NODE-PORT-LOCAL-SCTP-HASH": "hash:ip,port",
}
"""Name without prefix -> type."""

Within = Callable[[str, str], str]
"""A set's name and which parts of a packet are looked up -> the match."""

_LONGEST_WORD = 31  # of a set's name


class VirtualServer(NamedTuple):
    """Where a connection arrives."""

    ip: str
    port: int
    protocol: Protocol4


@dataclass(frozen=True, slots=True)
class Service:
    """What becomes of connections to a virtual server."""

    scheduler: str
    affinity_seconds: int
    endpoints: tuple[Endpoint, ...]
    refusal: Refusal = ""  # not "": there is no virtual server, and rules say so


class Member(NamedTuple):
    """A member of a set."""

    set: str  # without prefix
    text: str


@dataclass(slots=True)
class Rendered:
    """What one service port contributes."""

    servers: dict[VirtualServer, Service] = field(default_factory=dict)
    addresses: set[str] = field(default_factory=set)
    members: set[Member] = field(default_factory=set)


def set_name(family: Family, name: str) -> str:
    """How a set is called in the kernel."""
    return f"KUBE-{'6-' if family is Family.IPV6 else ''}{name}"[:_LONGEST_WORD]


def render(rules: PortRules, settings: RuleSettings, node_ips: Sequence[str]) -> Rendered:
    """What makes `rules` true; `node_ips` are the addresses that serve NodePorts."""
    out = Rendered()
    internal = Service(settings.ipvs_scheduler, rules.affinity_seconds, rules.internal, rules.internal_refusal)
    external = Service(settings.ipvs_scheduler, rules.affinity_seconds, rules.external, rules.external_refusal)
    protocol = rules.name.protocol

    def reach(ip: str, service: Service, *sets: str) -> None:
        _serve(out, VirtualServer(ip, rules.port, protocol), service)
        out.addresses.add(ip)
        out.members.add(Member(IPVS_IPS, ip))
        out.members.update(Member(name, _place(ip, protocol, rules.port)) for name in sets)

    for ip in rules.external_ips:
        reach(ip, external, EXTERNAL_IP_LOCAL if rules.external_local else EXTERNAL_IP)
    for ip in rules.load_balancer_ips:
        local = (LOAD_BALANCER_LOCAL,) if rules.external_local else ()
        reach(ip, external, LOAD_BALANCER, *local)
        if rules.source_ranges is not None:
            _guard(out, rules, settings, ip)
    reach(rules.cluster_ip, internal, CLUSTER_IP)
    if rules.node_port:
        _node_port(out, rules, external, node_ips)
    if rules.health_check_node_port:
        out.members.add(Member(HEALTH_CHECK, str(rules.health_check_node_port)))
    for endpoint in {*rules.cluster, *rules.local}:
        if endpoint.ip in rules.hairpin_ips:
            place = _place(endpoint.ip, protocol, endpoint.port)
            out.members.add(Member(LOOP_BACK, f"{place},{endpoint.ip}"))
    return out


def _serve(out: Rendered, server: VirtualServer, service: Service) -> None:
    if service.refusal:
        out.members.add(Member(REFUSED[service.refusal], _place(server.ip, server.protocol, server.port)))
    else:
        out.servers[server] = service


def _guard(out: Rendered, rules: PortRules, settings: RuleSettings, ip: str) -> None:
    place = _place(ip, rules.name.protocol, rules.port)
    out.members.add(Member(LOAD_BALANCER_FW, place))
    for source in allowed_sources(rules.source_ranges or (), rules.load_balancer_ips, settings):
        network = ip_network(source)
        # A set has no network of everybody.
        halves = [network] if network.prefixlen else list(network.subnets(1))
        out.members.update(Member(SOURCE_CIDR, f"{place},{half}") for half in halves)


def _node_port(out: Rendered, rules: PortRules, service: Service, node_ips: Sequence[str]) -> None:
    protocol, port = rules.name.protocol, rules.node_port
    for ip in node_ips:
        _serve(out, VirtualServer(ip, port, protocol), service)
    names = ["NODE-PORT-", *(["NODE-PORT-LOCAL-"] if rules.external_local else [])]
    for name in names:
        if protocol == "sctp":
            out.members.update(Member(f"{name}SCTP-HASH", _place(ip, protocol, port)) for ip in node_ips)
        else:
            out.members.add(Member(f"{name}{protocol.upper()}", str(port)))


def _place(ip: str, protocol: str, port: int) -> str:
    return f"{ip},{protocol}:{port}"
