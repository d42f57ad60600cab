"""The parts of a server that keep what all servers share: service addresses, node ports, the Service `kubernetes`."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.apiserver.allocation.addresses import Addresses, parse
from controlplane.apiserver.allocation.ports import NodePorts
from controlplane.apiserver.allocation.repair import Repair, ensure_default_cidr, networks
from controlplane.apiserver.allocation.services import ServiceAllocator
from controlplane.apiserver.bootstrap.reconcile import ensure_namespaces
from controlplane.apiserver.handlers.contract import Loopback, StartHook
from controlplane.apiserver.kubernetes_service import KubernetesService
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.storage.contract import Storage
from machinery.api.meta import format_time
from machinery.clock import Clock


def _reachable(address: str) -> bool:
    """Whether others can reach a server at the address: Endpoints may not name a loopback one."""
    parsed = parse(address)
    return parsed is not None and not parsed.is_loopback


@dataclass(frozen=True, slots=True)
class Pools:
    """Made from the settings; `service` is None where no address is told that the server has.

    It is `announced` as an endpoint of that Service if others can reach it.
    """

    allocator: ServiceAllocator
    repair: Repair
    service: KubernetesService | None
    announced: bool
    clock: Clock

    @classmethod
    def of(
        cls, settings: Settings, storage: Storage, prefix: str, reader: Reader, loopback: Loopback, clock: Clock
    ) -> Pools:
        """The pools of a server with these settings."""
        ranges = networks(settings.service_cluster_ip_ranges)
        addresses = Addresses(ranges, reader, loopback)
        ports = NodePorts(storage, prefix, settings.service_node_port_range)
        service = None
        if settings.endpoint_reconciler_type == "lease" and settings.advertise_address:
            service = KubernetesService(
                loopback, storage, prefix, settings.advertise_address, settings.secure_port, ranges[0], clock
            )
        repair = Repair(loopback, addresses, ports, clock)
        announced = service is not None and _reachable(settings.advertise_address)
        return cls(ServiceAllocator(addresses, ports), repair, service, announced, clock)

    def start_hooks(self) -> dict[str, StartHook]:
        """What must be there before the server is ready."""

        async def cidr(api: Loopback, reader: Reader) -> None:
            ranges = self.allocator.addresses.ranges
            await ensure_default_cidr(api, ranges, format_time(self.clock.now()))

        async def service(api: Loopback, reader: Reader) -> None:
            await ensure_namespaces(api)
            assert self.service is not None
            await self.service.ensure_service()

        hooks: dict[str, StartHook] = {"start-kubernetes-service-cidr-controller": cidr}
        return hooks | ({"bootstrap-controller": service} if self.service is not None else {})
