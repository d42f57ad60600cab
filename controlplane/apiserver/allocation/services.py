"""What one write of a Service takes and gives back.

Source: pkg/registry/core/service/storage/alloc.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from controlplane.apiserver.allocation.addresses import Addresses, NotAllocated, family_of, parse
from controlplane.apiserver.allocation.ports import NodePorts
from controlplane.apiserver.handlers.allocation import NOTHING_TAKEN, Grant
from controlplane.apiserver.registry.defaults.services import externally_accessible
from controlplane.apiserver.registry.service_addresses import complete_ip_families, patch_allocated
from controlplane.apiserver.registry.strategy import Context
from machinery.api import fielderror
from machinery.api.catalogue import SERVICES
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object, name_of
from machinery.api.resource import ResourceType
from machinery.errors import InternalError, Invalid

NONE = "None"  # the clusterIP of a headless Service


def _invalid(service: Object, errors: list[FieldError]) -> Invalid:
    return fielderror.invalid_object("", "Service", name_of(service), errors)


def _spec(service: Object | None) -> Object:
    found = (service or {}).get("spec")
    return found if isinstance(found, dict) else {}


def addresses_of(service: Object | None) -> list[str]:
    """The cluster IPs a Service has."""
    spec = _spec(service)
    if spec.get("type") == "ExternalName":
        return []
    found = [ip for ip in spec.get("clusterIPs") or () if isinstance(ip, str) and ip not in ("", NONE)]
    return found or [ip for ip in [spec.get("clusterIP")] if ip and ip != NONE]


def ports_of(service: Object | None) -> set[int]:
    """The node ports a Service has, that of health checks included."""
    spec = _spec(service)
    found = {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
    if spec.get("healthCheckNodePort"):
        found.add(spec["healthCheckNodePort"])
    return found


def _wants_ports(spec: Object) -> bool:
    kind = spec.get("type")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def _wants_health_port(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


@dataclass
class _Taken:
    """What was taken for one write; `new` is the object as it is going to be stored."""

    owner: ServiceAllocator
    new: Object
    old: Object | None
    addresses: list[str] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)
    dry_run: bool = False

    async def keep(self) -> None:
        gone = [ip for ip in addresses_of(self.old) if ip not in addresses_of(self.new)]
        await self.owner.give_back(self.old or self.new, gone, ports_of(self.old) - ports_of(self.new))
        unused = [ip for ip in self.addresses if ip not in addresses_of(self.new)]
        await self.owner.give_back(self.new, unused, self.ports - ports_of(self.new))

    async def give_back(self) -> None:
        if not self.dry_run:
            await self.owner.give_back(self.new, self.addresses, self.ports)


@dataclass(frozen=True, slots=True)
class ServiceAllocator:
    """Fulfils `handlers.allocation.Allocator` for Services."""

    addresses: Addresses
    ports: NodePorts

    def handles(self, resource: ResourceType) -> bool:
        """See `Allocator`."""
        return resource == SERVICES

    async def release(self, resource: ResourceType, old: Object) -> None:
        """See `Allocator`."""
        await self.give_back(old, addresses_of(old), ports_of(old))

    async def give_back(self, service: Object, addresses: Iterable[str], ports: Iterable[int]) -> None:
        """Give back what a Service has."""
        for address in addresses:
            await self.addresses.give_back(address, service)
        await self.ports.give_back(ports)

    async def take(self, new: Object, old: Object | None, context: Context) -> Grant:
        """See `Allocator`."""
        spec = new.setdefault("spec", {})
        if not isinstance(spec, dict):
            return NOTHING_TAKEN
        if old is not None:
            patch_allocated(new, old)
            drop_type_dependent(spec, _spec(old))
        _normalize(spec, _spec(old), created=old is None)
        taken = _Taken(self, new, old, dry_run=context.dry_run)
        if spec.get("type") == "ExternalName":
            return taken
        self._choose_families(new, spec)
        try:
            if _plausible(spec):
                await self._take_addresses(new, spec, old, taken)
            await self._take_ports(new, spec, old, taken)
        except BaseException:
            await taken.give_back()
            raise
        return taken

    def _choose_families(self, service: Object, spec: Object) -> None:
        """Fill in ipFamilies and ipFamilyPolicy. Raises Invalid for what the cluster does not have."""
        cluster = self.addresses.families
        errors: list[FieldError] = []
        given = spec.get("ipFamilies") or []
        ips = spec.get("clusterIPs") or []
        for i, ip in enumerate(ips):
            if ip == NONE:
                break
            if parse(ip) is not None and i >= len(given) and family_of(ip) not in cluster:
                told = f"{family_of(ip)} is not configured on this cluster"
                errors.append(fielderror.invalid(f"spec.clusterIPs[{i}]", ips, told))
        if errors:
            raise _invalid(service, errors)
        complete_ip_families(spec, cluster)
        if ips[:1] == [NONE] and not spec.get("selector"):
            return
        if spec["ipFamilyPolicy"] == "RequireDualStack" and len(cluster) < 2:
            told = "this cluster is not configured for dual-stack services"
            errors.append(fielderror.invalid("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], told))
        for i, family in enumerate(spec["ipFamilies"]):
            if family in ("IPv4", "IPv6") and family not in cluster:
                path = f"spec.ipFamilies[{i}]"
                errors.append(fielderror.invalid(path, family, "not configured on this cluster"))
        if errors:
            raise _invalid(service, errors)

    async def _take_addresses(self, service: Object, spec: Object, old: Object | None, taken: _Taken) -> None:
        ips: list[str] = list(spec.get("clusterIPs") or ())
        if ips[:1] == [NONE]:
            spec["clusterIP"] = NONE
            return
        held = addresses_of(old)
        for i, family in enumerate(spec["ipFamilies"]):
            if i < len(held):
                if i >= len(ips):
                    ips.append(held[i])
                continue  # changing it is refused later
            if i < len(ips):
                await self._take_given(service, spec, ips[i], taken)
            else:
                ips.append(await self._take_any(service, family, taken))
        spec["clusterIPs"] = ips
        if ips:
            spec["clusterIP"] = ips[0]

    async def _take_given(self, service: Object, spec: Object, address: str, taken: _Taken) -> None:
        try:
            if taken.dry_run:
                return
            await self.addresses.take(address, service)
        except NotAllocated as exc:
            told = f"failed to allocate IP {address}: {exc}"
            raise _invalid(service, [fielderror.invalid("spec.clusterIPs", spec["clusterIPs"], told)]) from exc
        taken.addresses.append(address)

    async def _take_any(self, service: Object, family: str, taken: _Taken) -> str:
        try:
            address = await self.addresses.choose(family, service, dry_run=taken.dry_run)
        except NotAllocated as exc:
            raise InternalError(f"Internal error occurred: failed to allocate a serviceIP: {exc}") from exc
        if not taken.dry_run:
            taken.addresses.append(address)
        return address

    async def _take_ports(self, service: Object, spec: Object, old: Object | None, taken: _Taken) -> None:
        held = ports_of(old)
        ports: list[Object] = [port for port in spec.get("ports") or () if isinstance(port, dict)]
        if spec.get("type") in ("NodePort", "LoadBalancer"):
            by_port: dict[Any, int] = {}
            for i, port in enumerate(ports):
                await self._take_port(service, spec, ports, i, port, held, by_port, taken)
        if _wants_health_port(spec):
            await self._take_health_port(spec, held, taken)

    async def _take_port(
        self,
        service: Object,
        spec: Object,
        ports: list[Object],
        i: int,
        port: Object,
        held: set[int],
        by_port: dict[Any, int],
        taken: _Taken,
    ) -> None:
        given = port.get("nodePort") or 0
        if not given and not _wants_ports(spec):
            return
        known = by_port.get(port.get("port"), 0)
        if known and given in (0, known):
            port["nodePort"] = known
            return
        wanted = given or next(
            (p["nodePort"] for p in ports if p.get("port") == port.get("port") and p.get("nodePort")), 0
        )
        if wanted and wanted not in held and wanted not in taken.ports:
            try:
                await self.ports.take(wanted, dry_run=taken.dry_run)
            except NotAllocated as exc:
                raise _invalid(service, [fielderror.invalid(f"spec.ports[{i}].nodePort", wanted, str(exc))]) from exc
            taken.ports.add(wanted)
        if not wanted:
            try:
                wanted = await self.ports.choose(held | taken.ports, dry_run=taken.dry_run)
            except NotAllocated as exc:
                raise InternalError(f"Internal error occurred: failed to allocate a nodePort: {exc}") from exc
            taken.ports.add(wanted)
        port["nodePort"] = wanted
        by_port.setdefault(port.get("port"), wanted)

    async def _take_health_port(self, spec: Object, held: set[int], taken: _Taken) -> None:
        given = spec.get("healthCheckNodePort") or 0
        if given in held:
            return
        try:
            if given:
                await self.ports.take(given, dry_run=taken.dry_run)
            else:
                given = await self.ports.choose(held | taken.ports, dry_run=taken.dry_run)
        except NotAllocated as exc:
            told = f"failed to allocate requested HealthCheck NodePort {given}: {exc}"
            raise InternalError(f"Internal error occurred: {told}") from exc
        spec["healthCheckNodePort"] = given
        taken.ports.add(given)


def _normalize(spec: Object, before: Object, *, created: bool) -> None:
    """Bring clusterIP and clusterIPs together: clients that know only one of them change only that."""
    if spec.get("type") == "ExternalName":
        return
    ip, ips = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    if created:
        if ip and not ips:
            spec["clusterIPs"] = [ip]
        return
    old_ip, old_ips = before.get("clusterIP") or "", before.get("clusterIPs") or []
    if old_ips and not ips and old_ip == ip:
        spec["clusterIPs"] = list(old_ips)
    elif old_ip != ip and ips == old_ips:
        if old_ip and not ip:
            spec.pop("clusterIPs", None)
        elif ip:
            spec["clusterIPs"] = [ip]


def drop_type_dependent(spec: Object, before: Object) -> None:
    """Forget, when the type changes, what the new type has no use for, unless the client has changed it as well.

    Source: pkg/registry/core/service/strategy.go (dropTypeDependentFields).
    """
    needs_ip, needed_ip = spec.get("type") != "ExternalName", before.get("type") != "ExternalName"
    if needed_ip and not needs_ip:
        if (spec.get("clusterIP"), spec.get("clusterIPs")) == (before.get("clusterIP"), before.get("clusterIPs")):
            _drop(spec, "clusterIP", "clusterIPs")
        for name in ("ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            if spec.get(name) == before.get(name):
                _drop(spec, name)
    had_ports, has_ports = _wants_ports(before), _wants_ports(spec)
    same_ports = {p.get("nodePort") for p in spec.get("ports") or ()} == {
        p.get("nodePort") for p in before.get("ports") or ()
    }
    if had_ports and not has_ports and same_ports:
        for port in spec.get("ports") or ():
            _drop(port, "nodePort")
    had_health, has_health = _wants_health_port(before), _wants_health_port(spec)
    if had_health and not has_health and spec.get("healthCheckNodePort") == before.get("healthCheckNodePort"):
        _drop(spec, "healthCheckNodePort")
    if before.get("type") == "LoadBalancer" and spec.get("type") != "LoadBalancer":
        for name in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(name) == before.get(name):
                _drop(spec, name)
    was_open, is_open = externally_accessible(before), externally_accessible(spec)
    if was_open and not is_open and spec.get("externalTrafficPolicy") == before.get("externalTrafficPolicy"):
        _drop(spec, "externalTrafficPolicy")


def _drop(obj: Object, *names: str) -> None:
    for name in names:
        obj.pop(name, None)


def _plausible(spec: Object) -> bool:
    """Whether addresses and families fit together; if not, validation says so later."""
    ip, ips = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    families = spec.get("ipFamilies") or []
    if len(ips) > 2 or len(families) > 2 or len(set(families)) != len(families):
        return False
    if not set(families) <= {"IPv4", "IPv6"}:
        return False
    if ips and ips[0] != ip:
        return False
    if ips[:1] == [NONE]:
        return len(ips) == 1
    if any(not isinstance(one, str) or parse(one) is None for one in ips):
        return False
    return all(family_of(one) == family for one, family in zip(ips, families, strict=False)) and len(ips) <= len(
        families
    )
