"""From Nodes and this host's links to what its network must look like: pure.

Nodes that share a link are reached by a plain route over their InternalIP, others through VXLAN.  What a VXLAN peer
needs to know of another, its MAC address, follows from the other's InternalIP, so nothing need be published.

Source: RFC 7348 (VXLAN); ip-route(8), bridge(8).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network

from agent.network.model import (
    Bridge,
    HostLink,
    NetworkPlan,
    NodeNetwork,
    Overlay,
    OverlaySettings,
    Peer,
    Route,
)
from machinery.addresses import is_address

DEFAULT_MTU = 1500
_VXLAN_BYTES = {4: 50, 6: 70}  # outer IP, UDP, VXLAN and inner Ethernet headers


def overlay_mac(ip: str) -> str:
    """The MAC address, locally administered, of the VXLAN device of the node with this InternalIP."""
    return ":".join(f"{byte:02x}" for byte in (0x02, *sha256(ip.encode()).digest()[:5]))


def plan_network(
    nodes: Iterable[NodeNetwork],
    node_name: str,
    links: Sequence[HostLink],
    own_ip: str,
    settings: OverlaySettings,
    mtu: int = 0,
) -> NetworkPlan:
    """What this host's network must look like.

    `own_ip` is the host's address if there is no Node of its name, or one without addresses; `mtu`, if not 0, is what
    pods get instead of what the links allow.
    """
    problems: list[str] = []
    known = _usable(nodes, problems)
    this = next((n for n in known if n.name == node_name), NodeNetwork(node_name, (), ()))
    local = next(iter(this.ips), own_ip)
    routes: list[Route] = []
    peers: list[Peer] = []
    used: set[int] = set()
    for node in known:
        if node is not this and node.pod_ranges:
            _reach(node, links, local, routes, peers, used, problems)
    underlay = _link_of(local, links)
    overlay = None
    if peers and underlay is not None:
        inner = underlay.mtu - _VXLAN_BYTES[ip_address(local).version]
        addresses = tuple(f"{_gateway(r)}/{ip_network(r).max_prefixlen}" for r in this.pod_ranges)
        overlay = Overlay(local, overlay_mac(local), inner, settings, addresses)
        used.add(inner)
    elif peers:
        problems.append(f"this host's address {local or '(unknown)'} is on no link: no overlay to {len(peers)} nodes")
        peers, routes = [], [r for r in routes if not r.overlay]
    if not used and underlay is not None:
        used.add(underlay.mtu)
    bridge = Bridge(this.pod_ranges, mtu or min(used, default=DEFAULT_MTU)) if this.pod_ranges else None
    ranges = sorted({r for n in known for r in n.pod_ranges})
    return NetworkPlan(
        bridge, tuple(sorted(routes)), overlay, tuple(sorted(peers)), tuple(ranges), tuple(dict.fromkeys(problems))
    )


def _usable(nodes: Iterable[NodeNetwork], problems: list[str]) -> list[NodeNetwork]:
    """The nodes by name, each with what is valid of its ranges and addresses; a range belongs to one node alone."""
    taken: list[tuple[IPv4Network | IPv6Network, str]] = []
    found = []
    for node in sorted(nodes, key=lambda n: n.name):
        ranges = []
        for text in node.pod_ranges:
            try:
                network = ip_network(text, strict=False)
            except ValueError:
                problems.append(f"node {node.name}: spec.podCIDRs: {text!r} is no CIDR")
                continue
            other = next((name for r, name in taken if r.version == network.version and r.overlaps(network)), None)
            if other is not None:
                problems.append(f"node {node.name}: {text} overlaps with node {other}")
                continue
            taken.append((network, node.name))
            ranges.append(str(network))
        ips = tuple(ip for ip in node.ips if is_address(ip))
        found.append(NodeNetwork(node.name, tuple(ranges), ips))
    return found


def _reach(
    node: NodeNetwork,
    links: Sequence[HostLink],
    local: str,
    routes: list[Route],
    peers: list[Peer],
    used: set[int],
    problems: list[str],
) -> None:
    own = {str(ip_interface(a).ip) for link in links for a in link.addresses}
    if any(ip in own for ip in node.ips):
        problems.append(f"node {node.name} has an address of this host: no route to its pods")
        return
    overlaid: list[str] = []
    version = ip_address(local).version if local else 0
    for destination in node.pod_ranges:
        family = ip_network(destination).version
        direct = next(((ip, link) for ip in node.ips for link in links if _shares(ip, link, family)), None)
        if direct is not None:
            routes.append(Route(destination, direct[0], overlay=False))
            used.add(direct[1].mtu)
        elif node.ips and ip_address(node.ips[0]).version == version:
            gateway = _gateway(destination)
            routes.append(Route(destination, gateway, overlay=True))
            overlaid.append(gateway)
        else:
            problems.append(f"node {node.name} has no InternalIP that this host can reach: no route to its pods")
    if overlaid:
        peers.append(Peer(node.ips[0], overlay_mac(node.ips[0]), tuple(overlaid)))


def _shares(ip: str, link: HostLink, family: int) -> bool:
    """Whether the address is a neighbour on this link, and of the family asked for."""
    address = ip_address(ip)
    return address.version == family and any(address in ip_interface(a).network for a in link.addresses)


def _link_of(ip: str, links: Sequence[HostLink]) -> HostLink | None:
    return next((link for link in links for a in link.addresses if str(ip_interface(a).ip) == ip), None)


def _gateway(pod_range: str) -> str:
    """The address that stands for a node inside the overlay: its range's first, which no pod ever gets."""
    return str(ip_network(pod_range).network_address)
