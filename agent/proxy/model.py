"""What must be true on this node for one port of one Service: the values that the three backends render.

A `PortRules` is the whole truth about a service port in one IP family: where its traffic arrives, over which
endpoints it is balanced, and what happens where there is none.  It is made by `planning.plan_service` from API
objects and this node alone, so equal input gives an equal value, and a backend finds out what changed by comparing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from agent.proxy.settings import RuleSettings

Protocol4 = Literal["tcp", "udp", "sctp"]
Refusal = Literal["", "reject", "drop"]


class Family(IntEnum):
    """An IP family; the value is the version number."""

    IPV4 = 4
    IPV6 = 6

    @property
    def api_name(self) -> str:
        """How spec.ipFamilies and EndpointSlice.addressType call it."""
        return f"IPv{self.value}"


class ServicePortName(NamedTuple):
    """Which port of which Service; sorts by namespace, name, port name, protocol."""

    namespace: str
    name: str
    port: str
    protocol: Protocol4

    def __str__(self) -> str:
        """`namespace/name:port`, as rules' comments and upstream's logs say it."""
        return f"{self.namespace}/{self.name}:{self.port}" if self.port else f"{self.namespace}/{self.name}"

    @property
    def service(self) -> str:
        """The Service's key."""
        return f"{self.namespace}/{self.name}"


class Endpoint(NamedTuple):
    """One backend of a service port."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class PortRules:
    """Everything a backend must bring about for one service port in one IP family.

    `cluster` are the endpoints for traffic that may go anywhere, `local` those for traffic that must stay on this
    node; each is sorted and may be empty.  A refusal says what to do with traffic for which there is no endpoint: ""
    when there is one.
    """

    name: ServicePortName
    port: int
    cluster_ip: str
    node_port: int = 0  # 0: none
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()  # those with ipMode VIP
    source_ranges: tuple[str, ...] | None = None  # who may use the load balancer's IPs; None: everybody
    affinity_seconds: int = 0  # 0: no client affinity
    internal_local: bool = False  # internalTrafficPolicy: Local
    external_local: bool = False  # externalTrafficPolicy: Local
    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    internal_refusal: Refusal = ""
    external_refusal: Refusal = ""
    hairpin_ips: tuple[str, ...] = ()  # endpoints that may be on this node and so may talk to themselves
    serving_ips: frozenset[str] = frozenset()  # UDP alone: whose flows may go on, whether they get new ones or not
    health_check_node_port: int = 0  # where load balancers ask for this node's endpoints; 0: nowhere

    @property
    def internal(self) -> tuple[Endpoint, ...]:
        """Where traffic to the cluster IP goes."""
        return self.local if self.internal_local else self.cluster

    @property
    def external(self) -> tuple[Endpoint, ...]:
        """Where traffic from outside the cluster goes."""
        return self.local if self.external_local else self.cluster

    @property
    def externally_accessible(self) -> bool:
        """Whether anything but the cluster IP leads here."""
        return bool(self.node_port or self.external_ips or self.load_balancer_ips)

    @property
    def has_endpoints(self) -> bool:
        """Whether any traffic at all can be delivered."""
        return bool(self.cluster or self.local)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A healthCheckNodePort of a Service: external load balancers ask it whether this node has endpoints."""

    service: str  # key
    node_port: int
    local_endpoints: int


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """The plan for one Service in one IP family, and what had to be left out of it."""

    ports: tuple[PortRules, ...] = ()
    health_check: HealthCheck | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeView:
    """What planning needs to know of this node."""

    name: str
    zone: str = ""  # label topology.kubernetes.io/zone
    pod_ranges: tuple[str, ...] | None = None  # spec.podCIDRs; None: there is no Node object, so no pod is here

    def may_hold(self, ip: str) -> bool:
        """Whether an endpoint whose slice does not say where it is may be a pod of this node."""
        if not self.pod_ranges:
            return self.pod_ranges is not None
        address = ip_address(ip)
        return any(address in ip_network(r, strict=False) for r in self.pod_ranges)


class Backend(Protocol):
    """Makes PortRules true in the kernel, for one IP family.

    Each call is atomic: it takes effect as a whole, or raises BackendError and nothing has changed.  After a
    BackendError only `replace` may be called: what the backend believes of the kernel is no longer true.
    """

    def configure(self, settings: RuleSettings) -> None:
        """Use these settings from the next `replace` on."""

    async def change(self, changes: Mapping[ServicePortName, PortRules | None]) -> None:
        """Make these true (None: gone) and leave the rest as it is."""

    async def replace(self, everything: Mapping[ServicePortName, PortRules]) -> None:
        """Make exactly these true, whatever was there before and whatever this object believes."""

    async def disturbed(self) -> bool:
        """Whether somebody else may have changed our rules since the last call of change or replace."""

    async def cleanup(self) -> None:
        """Remove everything that this kind of backend ever makes."""
