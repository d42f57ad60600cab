"""The part of the table that is there whatever the Services are: hooks, checks, dispatch.

    prerouting, output   -110  firewall-check         who may use a load balancer's IP
                         -100  services               DNAT: service-ips, service-nodeports
    input                   0  nodeport- and service-endpoints-check
    forward, output         0  service-endpoints-check, cluster-ips-check
    postrouting           100  masquerading

What is not translated by `services` still carries the service's address when it comes to the checks at priority 0, so
they need to know nothing of the endpoints.

Source: kube-proxy's nftables README (use of the hooks); nft(8).
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.proxy.model import Family
from agent.proxy.settings import LocalDetector, RuleSettings

TABLE = "kube-proxy"

CLUSTER_IPS = "cluster-ips"
NODEPORT_IPS = "nodeport-ips"
SERVICE_IPS = "service-ips"
SERVICE_NODEPORTS = "service-nodeports"
NO_ENDPOINT_SERVICES = "no-endpoint-services"
NO_ENDPOINT_NODEPORTS = "no-endpoint-nodeports"
FIREWALL_IPS = "firewall-ips"
HAIRPIN = "hairpin-connections"

MARK = "mark-for-masquerade"
REJECT = "reject-chain"


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Sets and maps (name -> declaration), hooks (chain -> declaration) and rules (chain -> rules)."""

    sets: dict[str, str]
    hooks: dict[str, str]
    chains: dict[str, tuple[str, ...]]


def nft_family(family: Family) -> str:
    """`ip` or `ip6`: the table's family, and how addresses are named in expressions."""
    return "ip" if family is Family.IPV4 else "ip6"


def from_pod(detector: LocalDetector, ip: str) -> str:
    """The match for traffic from a pod, or "" if that can't be told."""
    return _detect(detector, ip, "")


def not_from_pod(detector: LocalDetector, ip: str) -> str:
    """The match for traffic that is not from a pod, or "" if that can't be told."""
    return _detect(detector, ip, "!= ")


def _detect(detector: LocalDetector, ip: str, negation: str) -> str:
    if not detector.value:
        return ""
    match detector.mode:
        case "ClusterCIDR" | "NodeCIDR":
            return f"{ip} saddr {negation}{detector.value}"
        case "BridgeInterface":
            return f'iifname {negation}"{detector.value}"'
        case "InterfaceNamePrefix":
            return f'iifname {negation}"{detector.value}*"'
    return ""


def skeleton(settings: RuleSettings) -> Skeleton:
    """The fixed part of the table for one family."""
    ip = nft_family(settings.family)
    address = "ipv4_addr" if settings.family is Family.IPV4 else "ipv6_addr"
    destination = f"type {address} . inet_proto . inet_service : verdict;"
    by_node_port = "type inet_proto . inet_service : verdict;"
    sets = {
        CLUSTER_IPS: f"type {address};",
        SERVICE_IPS: destination,
        SERVICE_NODEPORTS: by_node_port,
        NO_ENDPOINT_SERVICES: destination,
        NO_ENDPOINT_NODEPORTS: by_node_port,
        FIREWALL_IPS: destination,
        HAIRPIN: f"type {address} . {address};",
    }
    hooks = {
        "filter-prerouting-pre-dnat": "type filter hook prerouting priority -110;",
        "filter-output-pre-dnat": "type filter hook output priority -110;",
        "filter-input": "type filter hook input priority 0;",
        "filter-forward": "type filter hook forward priority 0;",
        "filter-output": "type filter hook output priority 0;",
        "nat-prerouting": "type nat hook prerouting priority -100;",
        "nat-output": "type nat hook output priority -100;",
        "nat-postrouting": "type nat hook postrouting priority 100;",
    }
    chains = {
        "filter-prerouting-pre-dnat": ("ct state new jump firewall-check",),
        "filter-output-pre-dnat": ("ct state new jump firewall-check",),
        "filter-input": ("ct state new jump nodeport-endpoints-check", "ct state new jump service-endpoints-check"),
        "filter-forward": ("ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"),
        "filter-output": ("ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"),
        "nat-prerouting": ("jump services",),
        "nat-output": ("jump services",),
        "nat-postrouting": ("jump masquerading",),
        "firewall-check": (f"{ip} daddr . meta l4proto . th dport vmap @{FIREWALL_IPS}",),
        "service-endpoints-check": (f"{ip} daddr . meta l4proto . th dport vmap @{NO_ENDPOINT_SERVICES}",),
        "nodeport-endpoints-check": ()
        if settings.node_port_ranges == ()
        else (f"{_node_port_match(settings, ip)} meta l4proto . th dport vmap @{NO_ENDPOINT_NODEPORTS}",),
        "cluster-ips-check": _cluster_ips_check(settings, ip),
        "services": _services(settings, ip),
        "masquerading": _masquerading(settings, ip),
        MARK: (f"meta mark set meta mark or {settings.masquerade_mark}",),
        # A reset, unlike ICMP, is never held back by the kernel's rate limit, so that every refused client is told at
        # once.
        REJECT: ("meta l4proto tcp reject with tcp reset", "reject"),
    }
    return Skeleton(sets, hooks, chains)


def _node_port_match(settings: RuleSettings, ip: str) -> str:
    """The match for traffic to those of this node's addresses that serve NodePorts; loopback never does in this
    mode.
    """
    if settings.node_port_ranges is not None:
        ranges = ", ".join(settings.node_port_ranges)
        return f"fib daddr type local {ip} daddr {{ {ranges} }}"
    loopback = "127.0.0.0/8" if settings.family is Family.IPV4 else "::1"
    return f"fib daddr type local {ip} daddr != {loopback}"


def _services(settings: RuleSettings, ip: str) -> tuple[str, ...]:
    outside = "" if settings.masquerade_all else not_from_pod(settings.local, ip)
    rules = []
    if settings.masquerade_all or outside:
        rules.append(f"{ip} daddr @{CLUSTER_IPS} {outside} jump {MARK}".replace("  ", " "))
    rules.append(f"{ip} daddr . meta l4proto . th dport vmap @{SERVICE_IPS}")
    if settings.node_port_ranges != ():
        rules.append(f"{_node_port_match(settings, ip)} meta l4proto . th dport vmap @{SERVICE_NODEPORTS}")
    return tuple(rules)


def _cluster_ips_check(settings: RuleSettings, ip: str) -> tuple[str, ...]:
    rules = [f"{ip} daddr @{CLUSTER_IPS} goto {REJECT}"]
    if settings.service_ranges:
        rules.append(f"{ip} daddr {{ {', '.join(settings.service_ranges)} }} goto {REJECT}")
    return tuple(rules)


def _masquerading(settings: RuleSettings, ip: str) -> tuple[str, ...]:
    mark = settings.masquerade_mark
    return (
        f"ct status dnat {ip} saddr . {ip} daddr @{HAIRPIN} masquerade fully-random",
        f"meta mark and {mark} != {mark} return",
        f"meta mark set meta mark xor {mark}",
        "masquerade fully-random",
    )
