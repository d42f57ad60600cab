"""The chains that are there whatever the Services are, and the jumps from the kernel's own chains to them.

Source: kube-proxy's iptables proxier; iptables-extensions(8).
"""

from __future__ import annotations

from typing import NamedTuple

from agent.proxy.model import Family
from agent.proxy.settings import LocalDetector, RuleSettings


class ChainName(NamedTuple):
    """A chain of one table."""

    table: str
    chain: str


class Jump(NamedTuple):
    """A rule at the head of one of the kernel's chains that leads to one of ours."""

    table: str
    source: str
    target: str
    match: str


NAT_SERVICES = ChainName("nat", "KUBE-SERVICES")
NAT_NODEPORTS = ChainName("nat", "KUBE-NODEPORTS")
NAT_POSTROUTING = ChainName("nat", "KUBE-POSTROUTING")
NAT_HAIRPIN = ChainName("nat", "KUBE-HAIRPIN")
FILTER_SERVICES = ChainName("filter", "KUBE-SERVICES")
FILTER_EXTERNAL = ChainName("filter", "KUBE-EXTERNAL-SERVICES")
FILTER_NODEPORTS = ChainName("filter", "KUBE-NODEPORTS")
FILTER_FIREWALL = ChainName("filter", "KUBE-PROXY-FIREWALL")
FILTER_FORWARD = ChainName("filter", "KUBE-FORWARD")
FILTER_MARTIANS = ChainName("filter", "KUBE-FIREWALL")
MARK_MASQ = "KUBE-MARK-MASQ"

_NEW = "-m conntrack --ctstate NEW"

JUMPS = (
    Jump("filter", "INPUT", "KUBE-EXTERNAL-SERVICES", f"{_NEW} {{kubernetes externally-visible service portals}}"),
    Jump("filter", "FORWARD", "KUBE-EXTERNAL-SERVICES", f"{_NEW} {{kubernetes externally-visible service portals}}"),
    Jump("filter", "OUTPUT", "KUBE-EXTERNAL-SERVICES", f"{_NEW} {{kubernetes externally-visible service portals}}"),
    Jump("filter", "INPUT", "KUBE-NODEPORTS", "{kubernetes health check service ports}"),
    Jump("filter", "FORWARD", "KUBE-SERVICES", f"{_NEW} {{kubernetes service portals}}"),
    Jump("filter", "OUTPUT", "KUBE-SERVICES", f"{_NEW} {{kubernetes service portals}}"),
    Jump("filter", "FORWARD", "KUBE-FORWARD", "{kubernetes forwarding rules}"),
    Jump("filter", "INPUT", "KUBE-PROXY-FIREWALL", f"{_NEW} {{kubernetes load balancer firewall}}"),
    Jump("filter", "OUTPUT", "KUBE-PROXY-FIREWALL", f"{_NEW} {{kubernetes load balancer firewall}}"),
    Jump("filter", "FORWARD", "KUBE-PROXY-FIREWALL", f"{_NEW} {{kubernetes load balancer firewall}}"),
    Jump("filter", "INPUT", "KUBE-FIREWALL", ""),
    Jump("filter", "OUTPUT", "KUBE-FIREWALL", ""),
    Jump("nat", "OUTPUT", "KUBE-SERVICES", "{kubernetes service portals}"),
    Jump("nat", "PREROUTING", "KUBE-SERVICES", "{kubernetes service portals}"),
    Jump("nat", "POSTROUTING", "KUBE-POSTROUTING", "{kubernetes postrouting rules}"),
)
"""In this order each is inserted at the head of its chain, so that the last of a chain ends up first."""


def comment(text: str) -> str:
    """The match that only carries a comment."""
    return f'-m comment --comment "{text}"'


def jump_rule(jump: Jump) -> str:
    """The rule, without the chain it is in."""
    match, brace, rest = jump.match.partition("{")
    said = f"{match}{comment(rest[:-1])} " if brace else match
    return f"{said}-j {jump.target}"


def from_pod(detector: LocalDetector) -> str:
    """The match for traffic from a pod, or "" if that can't be told."""
    return _detect(detector, "")


def not_from_pod(detector: LocalDetector) -> str:
    """The match for traffic that is not from a pod, or "" if that can't be told."""
    return _detect(detector, "! ")


def _detect(detector: LocalDetector, negation: str) -> str:
    if not detector.value:
        return ""
    match detector.mode:
        case "ClusterCIDR" | "NodeCIDR":
            return f"{negation}-s {detector.value}"
        case "BridgeInterface":
            return f"{negation}-i {detector.value}"
        case "InterfaceNamePrefix":
            return f"{negation}-i {detector.value}+"
    return ""


# NodePorts on localhost need route_localnet, which would let neighbours reach 127.0.0.1 (CVE-2020-8558). The kubelet
# makes the same rule, and the chain is its own: it stays when we go.
_NO_MARTIANS = (
    f"{comment('block incoming localnet connections')} -d 127.0.0.0/8 ! -s 127.0.0.0/8 "
    "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
)


def heads(settings: RuleSettings) -> dict[ChainName, tuple[str, ...]]:
    """The fixed chains with their fixed rules; chains that also lead to shards have those in front of these rules."""
    mark = settings.masquerade_mark
    chains: dict[ChainName, tuple[str, ...]] = {
        ChainName("nat", MARK_MASQ): (f"-j MARK --or-mark {mark}",),
        NAT_SERVICES: _to_node_ports(settings),
        NAT_NODEPORTS: (),
        NAT_HAIRPIN: (),
        NAT_POSTROUTING: (
            f"{comment('connections of endpoints to themselves')} -m conntrack --ctstate DNAT -j KUBE-HAIRPIN",
            *post_routing(settings),
        ),
        FILTER_SERVICES: no_such_service(settings),
        FILTER_EXTERNAL: (),
        FILTER_NODEPORTS: (),
        FILTER_FIREWALL: (),
        FILTER_FORWARD: forwarding(settings),
    }
    if settings.family is Family.IPV4 and settings.localhost_node_ports:
        chains[FILTER_MARTIANS] = (_NO_MARTIANS,)
    return chains


def no_such_service(settings: RuleSettings) -> tuple[str, ...]:
    """Refusing what is sent to addresses of the service range that no service has."""
    return tuple(rule for cidr in settings.service_ranges for rule in refusals(f"-d {cidr}", "no such service", ""))


def refusals(match: str, reason: str, protocol: str) -> list[str]:
    """Rules that tell the sender at once; `protocol` "" stands for any.

    A reset, unlike ICMP, is never held back by the kernel's rate limit.
    """
    said = comment(reason)
    reset = f"{said} {match}{'' if protocol else ' -p tcp'} -j REJECT --reject-with tcp-reset"
    unreachable = f"{said} {match} -j REJECT"
    return [reset] if protocol == "tcp" else [unreachable] if protocol else [reset, unreachable]


def _to_node_ports(settings: RuleSettings) -> tuple[str, ...]:
    said = comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
    to = f"-m addrtype --dst-type LOCAL -j {NAT_NODEPORTS.chain}"
    if settings.node_port_ranges is not None:
        return tuple(f"{said} -d {cidr} {to}" for cidr in settings.node_port_ranges)
    if settings.family is Family.IPV6:
        return (f"{said} ! -d ::1/128 {to}",)
    return (f"{said} {to}",) if settings.localhost_node_ports else (f"{said} ! -d 127.0.0.0/8 {to}",)


def post_routing(settings: RuleSettings) -> tuple[str, ...]:
    """Masquerading of what is marked."""
    mark = settings.masquerade_mark
    return (
        f"-m mark ! --mark {mark}/{mark} -j RETURN",
        f"-j MARK --xor-mark {mark}",
        f"{comment('kubernetes service traffic requiring SNAT')} -j MASQUERADE --random-fully",
    )


def forwarding(settings: RuleSettings) -> tuple[str, ...]:
    """Letting what belongs to services through, whatever the policy of the chain."""
    mark = settings.masquerade_mark
    rules = [] if settings.tcp_be_liberal else ["-m conntrack --ctstate INVALID -j DROP"]
    rules.append(f"{comment('kubernetes forwarding rules')} -m mark --mark {mark}/{mark} -j ACCEPT")
    known = comment("kubernetes forwarding conntrack rule")
    return (*rules, f"{known} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
