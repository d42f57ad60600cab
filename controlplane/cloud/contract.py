"""What a cloud provider offers: instances, routes, load balancers; each may be missing.

Source: k8s.io/cloud-provider/cloud.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from machinery.api.meta import Object
from machinery.errors import NavarchError


class CloudError(NavarchError):
    """The cloud did not do what it was asked for; the message says why."""


@dataclass(frozen=True)
class Instance:
    """What the cloud knows of a node's machine."""

    provider_id: str
    """`PROVIDER://WHATEVER`: spec.providerID of the node."""

    addresses: Sequence[tuple[str, str]]
    """(type, address): InternalIP, ExternalIP, Hostname, InternalDNS, ExternalDNS."""

    instance_type: str = ""
    zone: str = ""
    region: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    """More labels for the node."""


@dataclass(frozen=True, order=True)
class Route:
    """Packets for a node's pods go to that node."""

    destination: str
    """The pods' network, as a CIDR."""

    gateway: str
    """The node's address."""

    node: str = field(default="", compare=False)
    """The node's name, where it is known: clouds need not keep it."""


class Instances(Protocol):
    """The machines behind nodes. All raise CloudError when the cloud can't tell."""

    async def find(self, node: Object) -> Instance | None:
        """The node's machine; None if there is none (any more)."""
        ...

    async def is_shut_down(self, node: Object) -> bool:
        """Whether the machine exists and is switched off."""
        ...


class Routes(Protocol):
    """The routes that this cluster has made. All raise CloudError."""

    async def list(self) -> list[Route]:
        """All of them."""
        ...

    async def create(self, route: Route) -> None:
        """Make one; no error if it is there."""
        ...

    async def delete(self, route: Route) -> None:
        """Take one away; no error if it is gone."""
        ...


class LoadBalancers(Protocol):
    """Load balancers of Services. All raise CloudError."""

    async def ensure(self, service: Object, nodes: Sequence[Object]) -> list[Object]:
        """Make or update the Service's load balancer; status.loadBalancer.ingress."""
        ...

    async def update_nodes(self, service: Object, nodes: Sequence[Object]) -> None:
        """The nodes that traffic may be sent to have changed."""
        ...

    async def delete(self, service: Object) -> None:
        """Give the load balancer up; no error if there is none."""
        ...


@dataclass(frozen=True)
class Cloud:
    """One provider, ready for use."""

    name: str
    instances: Instances | None = None
    routes: Routes | None = None
    load_balancers: LoadBalancers | None = None


Services = Callable[[], Iterable[Object]]
"""All Services of the cluster, as the cache has them."""

Provider = Callable[[str, Services], Cloud]
"""(path of --cloud-config or "", the Services) → the cloud. Raises SettingsError."""
