"""The iptables rules around IPVS: who is masqueraded, who may come in. They look things up in sets and never change.

Source: kube-proxy's ipvs proxier.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.proxy.iptables.skeleton import (
    MARK_MASQ,
    ChainName,
    Jump,
    comment,
    forwarding,
    no_such_service,
    not_from_pod,
    post_routing,
    refusals,
)
from agent.proxy.ipvs import rendering as sets
from agent.proxy.ipvs.rendering import set_name
from agent.proxy.model import Family
from agent.proxy.settings import RuleSettings

_NEW = "-m conntrack --ctstate NEW"  # what is sent back must not be stopped

JUMPS = (
    Jump("nat", "OUTPUT", "KUBE-SERVICES", "{kubernetes service portals}"),
    Jump("nat", "PREROUTING", "KUBE-SERVICES", "{kubernetes service portals}"),
    Jump("nat", "POSTROUTING", "KUBE-POSTROUTING", "{kubernetes postrouting rules}"),
    Jump("filter", "FORWARD", "KUBE-FORWARD", "{kubernetes forwarding rules}"),
    Jump("filter", "FORWARD", "KUBE-SERVICES", f"{_NEW} {{kubernetes service portals}}"),
    Jump("filter", "INPUT", "KUBE-NODE-PORT", "{kubernetes health check rules}"),
    Jump("filter", "INPUT", "KUBE-IPVS-FILTER", f"{_NEW} {{kubernetes ipvs access filter}}"),
    Jump("filter", "OUTPUT", "KUBE-IPVS-OUT-FILTER", f"{_NEW} {{kubernetes ipvs access filter}}"),
    Jump("filter", "INPUT", "KUBE-PROXY-FIREWALL", "{kube-proxy firewall rules}"),
    Jump("filter", "OUTPUT", "KUBE-PROXY-FIREWALL", "{kube-proxy firewall rules}"),
    Jump("filter", "FORWARD", "KUBE-PROXY-FIREWALL", "{kube-proxy firewall rules}"),
)
"""In this order each is inserted at the head of its chain, so that the last of a chain ends up first."""


def chains(settings: RuleSettings) -> dict[ChainName, tuple[str, ...]]:
    """Every chain with its rules."""
    mark = settings.masquerade_mark

    def within(name: str, directions: str) -> str:
        return f"-m set --match-set {set_name(settings.family, name)} {directions}"

    loopback = "127.0.0.0/8" if settings.family is Family.IPV4 else "::1/128"
    node_port = tuple(_node_port(protocol, within) for protocol in ("tcp", "udp", "sctp"))
    hairpin = f"{comment('Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose')}"
    refused = (
        *refusals(f"{within(sets.REFUSED['reject'], 'dst,dst')}", "no endpoints", ""),
        f"{within(sets.REFUSED['drop'], 'dst,dst')} -j DROP",
    )
    stray = refusals(f"{within(sets.IPVS_IPS, 'dst')}", "no such port", "")
    portals = (sets.LOAD_BALANCER, sets.CLUSTER_IP, sets.EXTERNAL_IP, sets.EXTERNAL_IP_LOCAL)
    known = [f"{within(name, 'dst,dst')} -j RETURN" for name in portals]
    return {
        ChainName("nat", MARK_MASQ): (f"-j MARK --or-mark {mark}",),
        ChainName("nat", "KUBE-SERVICES"): (
            f"-s {loopback} -j RETURN",
            f"{comment('Kubernetes service lb portal')} {within(sets.LOAD_BALANCER, 'dst,dst')} -j KUBE-LOAD-BALANCER",
            *_cluster_ip(settings, within(sets.CLUSTER_IP, "dst,dst"), within(sets.CLUSTER_IP, "src,dst")),
            f"{comment('Kubernetes service external ip')} {within(sets.EXTERNAL_IP, 'dst,dst')} -j {MARK_MASQ}",
            "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT",
        ),
        ChainName("nat", "KUBE-LOAD-BALANCER"): (
            f"{within(sets.LOAD_BALANCER_LOCAL, 'dst,dst')} -j RETURN",
            f"-j {MARK_MASQ}",
        ),
        ChainName("nat", "KUBE-NODE-PORT"): tuple(rule for rules in node_port for rule in rules),
        ChainName("nat", "KUBE-POSTROUTING"): (
            f"{hairpin} {within(sets.LOOP_BACK, 'dst,dst,src')} -j MASQUERADE",
            *post_routing(settings),
        ),
        ChainName("filter", "KUBE-FORWARD"): forwarding(settings),
        ChainName("filter", "KUBE-NODE-PORT"): (
            f"{comment('Kubernetes health check node port')} -p tcp {within(sets.HEALTH_CHECK, 'dst')} -j ACCEPT",
        ),
        ChainName("filter", "KUBE-PROXY-FIREWALL"): (
            f"{comment('Kubernetes service load balancer ip + port for load balancer with sourceRange')} "
            f"{within(sets.LOAD_BALANCER_FW, 'dst,dst')} -j KUBE-SOURCE-RANGES-FIREWALL",
        ),
        ChainName("filter", "KUBE-SOURCE-RANGES-FIREWALL"): (
            f"{within(sets.SOURCE_CIDR, 'dst,dst,src')} -j RETURN",
            "-j DROP",
        ),
        # What goes to an address that is on the dummy link alone, and to no port of a service, has no business here.
        ChainName("filter", "KUBE-IPVS-FILTER"): (*refused, *known, *stray),
        ChainName("filter", "KUBE-IPVS-OUT-FILTER"): (*refused, *known, *stray, *no_such_service(settings)),
        ChainName("filter", "KUBE-SERVICES"): no_such_service(settings),
    }


def _cluster_ip(settings: RuleSettings, to: str, at_both_ends: str) -> Sequence[str]:
    said = comment("Kubernetes service cluster ip + port for masquerade purpose")
    outside = not_from_pod(settings.local)
    if settings.masquerade_all:
        return (f"{said} {to} -j {MARK_MASQ}",)
    if outside:
        return (f"{said} {outside} {to} -j {MARK_MASQ}",)
    # A connection of the node itself begins at the cluster IP, which is one of its own addresses.
    return (f"{said} {at_both_ends} -j {MARK_MASQ}",)


def _node_port(protocol: str, within: sets.Within) -> tuple[str, ...]:
    suffix, directions = (f"{protocol.upper()}-HASH", "dst,dst") if protocol == "sctp" else (protocol.upper(), "dst")
    said = f"Kubernetes nodeport {protocol.upper()} port"
    return (
        f"{comment(f'{said} with externalTrafficPolicy=local')} -p {protocol} "
        f"{within(f'NODE-PORT-LOCAL-{suffix}', directions)} -j RETURN",
        f"{comment(f'{said} for masquerade purpose')} -p {protocol} {within(f'NODE-PORT-{suffix}', directions)} "
        f"-j {MARK_MASQ}",
    )
