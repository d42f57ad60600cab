"""What this node is: its name, addresses and zone, and what follows from them for the rules."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from agent.proxy.configuration import ProxyConfiguration
from agent.proxy.model import Family, NodeView
from agent.proxy.planning import address
from agent.proxy.settings import LocalDetector, RuleSettings
from agent.proxy.validation import PRIMARY
from machinery.api.meta import Object, labels_of

ZONE_LABEL = "topology.kubernetes.io/zone"
_EVERYWHERE = {Family.IPV4: "0.0.0.0/0", Family.IPV6: "::/0"}


@dataclass(frozen=True)
class ThisNode:
    """This node as its Node object, or without one the machine, describes it."""

    view: NodeView
    ips: tuple[str, ...] = ()  # most important first

    @staticmethod
    def of(name: str, node: Object | None, fallback: Sequence[str]) -> ThisNode:
        """From the Node object; `fallback` are the addresses if there is none, or it has none."""
        if node is None:
            return ThisNode(NodeView(name), tuple(fallback))
        spec, status = node.get("spec") or {}, node.get("status") or {}
        ranges = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
        known = status.get("addresses") or ()
        ips = [a.get("address") for kind in ("InternalIP", "ExternalIP") for a in known if a.get("type") == kind]
        usable = tuple(ip for ip in ips if any(address(ip, family) for family in Family))
        return ThisNode(NodeView(name, labels_of(node).get(ZONE_LABEL, ""), tuple(ranges)), usable or tuple(fallback))

    def primary(self, family: Family) -> str | None:
        """The first address of a family."""
        return next((ip for ip in self.ips if ip_address(ip).version == family), None)


def node_name(configuration: ProxyConfiguration) -> str:
    """The name of this node's Node object."""
    return (configuration.hostname_override or socket.gethostname()).strip().lower()


def own_addresses(configuration: ProxyConfiguration, server: str) -> list[str]:
    """This machine's address, when no Node object tells: the bind address, or what the API server is reached from."""
    if not ip_address(configuration.bind_address).is_unspecified:
        return [configuration.bind_address]
    where = urlsplit(server)
    try:
        found = socket.getaddrinfo(where.hostname, where.port or 443, type=socket.SOCK_DGRAM)
        kind, _, protocol, _, target = found[0]
        with socket.socket(kind, socket.SOCK_DGRAM, protocol) as probe:
            probe.connect(target)  # sends nothing
            return [str(probe.getsockname()[0])]
    except OSError:
        return []


def rule_settings(
    family: Family, configuration: ProxyConfiguration, node: ThisNode, service_ranges: Sequence[str]
) -> RuleSettings:
    """The settings of one family's rules."""
    ranges = node_port_ranges(family, configuration, node)
    ipvs = configuration.ipvs
    loopback = ranges is None or any(ip_network(r, strict=False).is_loopback for r in ranges)
    return RuleSettings(
        family=family,
        local=_detector(family, configuration, node),
        masquerade_all=configuration.masquerade_all,
        masquerade_bit=configuration.masquerade_bit,
        node_port_ranges=ranges,
        localhost_node_ports=configuration.localhost_node_ports and loopback and family is Family.IPV4,
        tcp_be_liberal=configuration.conntrack.tcp_be_liberal,
        service_ranges=tuple(sorted(r for r in service_ranges if _is_of(r, family))),
        node_ips=tuple(ip for ip in node.ips if ip_address(ip).version == family),
        ipvs_scheduler=ipvs.scheduler,
        ipvs_excluded=tuple(r for r in ipvs.exclude_cidrs if _is_of(r, family)),
        ipvs_strict_arp=ipvs.strict_arp,
        ipvs_timeouts=(int(ipvs.tcp_seconds), int(ipvs.tcp_fin_seconds), int(ipvs.udp_seconds)),
    )


def node_port_ranges(family: Family, configuration: ProxyConfiguration, node: ThisNode) -> tuple[str, ...] | None:
    """CIDRs of the addresses that serve NodePorts; None for all of the node's."""
    everywhere = (_EVERYWHERE[family],)
    entries = configuration.node_port_addresses or ((PRIMARY,) if configuration.mode == "nftables" else everywhere)
    found: list[str] = []
    for entry in entries:
        if entry == PRIMARY:
            primary = node.primary(family)
            found += [f"{primary}/{32 if family is Family.IPV4 else 128}"] if primary else []
        elif _is_of(entry, family):
            found.append(str(ip_network(entry, strict=False)))
    return None if _EVERYWHERE[family] in found else tuple(sorted(set(found)))


async def health_check_addresses(
    families: Sequence[Family],
    configuration: ProxyConfiguration,
    node: ThisNode,
    own: Callable[[], Awaitable[Sequence[str]]],
) -> list[str]:
    """Where health check node ports are served: at this machine's addresses that serve NodePorts, or everywhere.

    `own` tells the machine's addresses; it is asked only where a range may hold several of them.
    """
    found: list[str] = []
    for family in families:
        ranges = node_port_ranges(family, configuration, node)
        if ranges is None:
            found.append("0.0.0.0" if family is Family.IPV4 else "::")
            continue
        networks = [ip_network(text) for text in ranges]
        if all(network.num_addresses == 1 for network in networks):
            found += [str(network.network_address) for network in networks]
        else:
            found += [ip for ip in await own() if any(ip_address(ip) in network for network in networks)]
    return found


def _detector(family: Family, configuration: ProxyConfiguration, node: ThisNode) -> LocalDetector:
    mode = configuration.detect_local_mode or "ClusterCIDR"
    match mode:
        case "ClusterCIDR":
            return LocalDetector(mode, _first_of(configuration.cluster_cidrs, family))
        case "NodeCIDR":
            return LocalDetector(mode, _first_of(node.view.pod_ranges or (), family))
        case "BridgeInterface":
            return LocalDetector(mode, configuration.bridge_interface)
        case "InterfaceNamePrefix":
            return LocalDetector(mode, configuration.interface_name_prefix)


def _first_of(ranges: Sequence[str], family: Family) -> str:
    return next((r for r in ranges if _is_of(r, family)), "")


def _is_of(cidr: str, family: Family) -> bool:
    try:
        return ip_network(cidr, strict=False).version == family
    except ValueError:
        return False
