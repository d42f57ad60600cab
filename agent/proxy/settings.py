"""What the backends are told besides PortRules: the same for all services of one IP family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.proxy.model import Family

DetectLocalMode = Literal["", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"]


@dataclass(frozen=True, slots=True)
class LocalDetector:
    """How to tell that traffic comes from a pod of this node (or, by address, of this cluster)."""

    mode: DetectLocalMode = ""  # "": can't be told
    value: str = ""  # a CIDR, an interface's name, or the beginning of interfaces' names


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """One IP family's settings, resolved: no keyword, no default is left to work out."""

    family: Family
    local: LocalDetector = LocalDetector()
    masquerade_all: bool = False  # masquerade whatever goes to a cluster IP
    masquerade_bit: int = 14  # of the packet mark; marks what must be masqueraded, between two hooks
    node_port_ranges: tuple[str, ...] | None = (
        None  # CIDRs of those of the node's addresses that serve NodePorts; None: all
    )
    localhost_node_ports: bool = False  # iptables and IPv4 only
    tcp_be_liberal: bool = False  # do not drop what conntrack calls invalid
    service_ranges: tuple[
        str, ...
    ] = ()  # CIDRs that cluster IPs are taken from; what is not allocated there is refused
    node_ips: tuple[str, ...] = ()  # this node's own addresses, as its Node object says

    ipvs_scheduler: str = "rr"
    ipvs_excluded: tuple[str, ...] = ()  # CIDRs whose virtual servers belong to others
    ipvs_strict_arp: bool = False  # answer ARP for an address on its own link alone
    ipvs_timeouts: tuple[int, int, int] = (0, 0, 0)  # seconds: idle TCP, TCP after a FIN, UDP; 0: as it is

    @property
    def masquerade_mark(self) -> str:
        """The mark as nft and iptables print it."""
        return f"{1 << self.masquerade_bit:#010x}" if self.masquerade_bit > 15 else f"{1 << self.masquerade_bit:#06x}"
