"""What the network of this host must look like: values alone."""

from __future__ import annotations

from dataclasses import dataclass

from machinery.api.meta import Object, name_of


@dataclass(frozen=True, slots=True)
class NodeNetwork:
    """What a Node object says about its network."""

    name: str
    pod_ranges: tuple[str, ...]  # spec.podCIDRs
    ips: tuple[str, ...]  # InternalIPs

    @staticmethod
    def of(node: Object) -> NodeNetwork:
        """Read a Node."""
        spec, status = node.get("spec") or {}, node.get("status") or {}
        ranges = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
        known = status.get("addresses") or ()
        ips = (str(a.get("address")) for a in known if a.get("type") == "InternalIP")
        return NodeNetwork(name_of(node), tuple(map(str, ranges)), tuple(ips))


@dataclass(frozen=True, slots=True)
class HostLink:
    """A link of this host that may lead to other hosts."""

    name: str
    mtu: int
    addresses: tuple[str, ...]  # with prefix length


@dataclass(frozen=True, slots=True)
class OverlaySettings:
    """VXLAN as all nodes of a cluster must agree on it."""

    vni: int = 1
    port: int = 8472  # UDP; what Linux had before 4789 was assigned, and what flannel uses


@dataclass(frozen=True, slots=True)
class Bridge:
    """What the CNI configuration says."""

    ranges: tuple[str, ...]
    mtu: int


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """Pods of another node: their range, and the way."""

    destination: str
    gateway: str
    overlay: bool  # through the VXLAN device


@dataclass(frozen=True, slots=True, order=True)
class Peer:
    """A node at the other end of the overlay."""

    ip: str
    mac: str
    gateways: tuple[str, ...]  # addresses that stand for it inside the overlay


@dataclass(frozen=True, slots=True)
class Overlay:
    """This host's VXLAN device."""

    local: str
    mac: str
    mtu: int
    settings: OverlaySettings
    addresses: tuple[str, ...]  # with prefix length


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """Everything that must be there. `bridge` is None on a host that runs no pods (yet)."""

    bridge: Bridge | None = None
    routes: tuple[Route, ...] = ()
    overlay: Overlay | None = None
    peers: tuple[Peer, ...] = ()
    pod_ranges: tuple[str, ...] = ()  # of all nodes
    problems: tuple[str, ...] = ()
