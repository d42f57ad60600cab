"""A cloud for labs: its machines are listed in --cloud-config, load balancers get addresses of a pool.

    apiVersion: cloud.navarch.dev/v1alpha1
    kind: NavarchCloud
    region: lab
    instances:
      - name: worker-1                # the node's name
        id: vm-1                      # default: the name
        zone: a
        type: small
        addresses: {InternalIP: [10.0.0.11], ExternalIP: []}
        shutDown: false
        labels: {rack: r1}
    loadBalancers:
      pool: [192.0.2.0/28, 192.0.2.64-192.0.2.79]
    routes:
      table: 100                      # a routing table of the kernel, where the lab's router looks
      networkNamespace: /var/run/netns/router   # default: the one that this program runs in

The file is read again when it changes: a machine that is taken from it is gone.  An address of the pool is reached at
every node: the Service's ingress has ipMode VIP, which kube-proxy serves.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controlplane.cloud.contract import Cloud, CloudError, Instance, Services
from controlplane.cloud.providers.routetable import KernelRoutes
from controlplane.cloud.services import ingress_of
from machinery.api.meta import Object, key_of, name_of
from machinery.errors import SettingsError
from machinery.settings import load_config

API_VERSION, KIND = "cloud.navarch.dev/v1alpha1", "NavarchCloud"
ADDRESS_TYPES = ("InternalIP", "ExternalIP", "InternalDNS", "ExternalDNS", "Hostname")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Machine:
    """One entry of `instances`."""

    name: str
    instance: Instance
    shut_down: bool


@dataclass(frozen=True)
class Span:
    """Addresses from one to another, both included."""

    first: Address
    last: Address

    @classmethod
    def of(cls, text: str) -> Span:
        """Read `10.0.0.0/28` or `10.0.0.1-10.0.0.9`. Raises ValueError."""
        low, dash, high = text.partition("-")
        if not dash:
            network = ipaddress.ip_network(low.strip())
            return cls(network[0], network[-1])
        first, last = ipaddress.ip_address(low.strip()), ipaddress.ip_address(high.strip())
        if first.version != last.version or int(first) > int(last):
            raise ValueError(f"{text!r} does not lead from a lower address to a higher one")
        return cls(first, last)

    def __iter__(self) -> Iterator[Address]:
        kind = type(self.first)
        return (kind(number) for number in range(int(self.first), int(self.last) + 1))

    def __contains__(self, address: Address) -> bool:
        return address.version == self.first.version and int(self.first) <= int(address) <= int(self.last)


@dataclass(frozen=True)
class Settings:
    """What the file says."""

    machines: dict[str, Machine] = field(default_factory=dict)
    pool: tuple[Span, ...] = ()
    routes: KernelRoutes | None = None


def read_settings(path: str) -> Settings:
    """The settings in a file. Raises SettingsError that says what is wrong, and where."""
    document = load_config(path, KIND, [API_VERSION])
    region = str(document.get("region") or "")
    machines = {}
    for index, entry in enumerate(document.get("instances") or ()):
        if not isinstance(entry, dict) or not entry.get("name"):
            raise SettingsError(f"{path}: instances[{index}].name: Required value")
        machines[str(entry["name"])] = _machine(entry, region, f"{path}: instances[{index}]")
    pool = []
    for index, text in enumerate((document.get("loadBalancers") or {}).get("pool") or ()):
        try:
            pool.append(Span.of(str(text)))
        except ValueError as exc:
            raise SettingsError(f"{path}: loadBalancers.pool[{index}]: {exc}") from exc
    return Settings(machines, tuple(pool), _routes(document.get("routes"), path))


def _routes(section: Any, path: str) -> KernelRoutes | None:
    if not section:
        return None
    table = section.get("table")
    if not (isinstance(table, int) and 0 < table < 2**32):
        raise SettingsError(f"{path}: routes.table: {table!r} is not the number of a routing table")
    return KernelRoutes(table, str(section.get("networkNamespace") or ""))


def _machine(entry: dict[str, Any], region: str, where: str) -> Machine:
    addresses: list[tuple[str, str]] = []
    for kind, given in (entry.get("addresses") or {}).items():
        if kind not in ADDRESS_TYPES:
            raise SettingsError(f"{where}.addresses: {kind} is none of {', '.join(ADDRESS_TYPES)}")
        addresses += [(kind, str(address)) for address in given or ()]
    name = str(entry["name"])
    instance = Instance(
        provider_id=f"navarch://{entry.get('id') or name}",
        addresses=addresses,
        instance_type=str(entry.get("type") or ""),
        zone=str(entry.get("zone") or ""),
        region=str(entry.get("region") or region),
        labels={str(k): str(v) for k, v in (entry.get("labels") or {}).items()},
    )
    return Machine(name, instance, bool(entry.get("shutDown")))


class SettingsFile:
    """The file's settings, as of now."""

    def __init__(self, path: str) -> None:
        """Raises SettingsError if the file can't be used."""
        self._path = Path(path)
        self._stamp = self._stat()
        self._settings = read_settings(path)

    def _stat(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as exc:
            raise SettingsError(f"cannot read {self._path}: {exc.strerror}") from exc
        return found.st_mtime_ns, found.st_size, found.st_ino

    def current(self) -> Settings:
        """Read again if the file has changed. Raises CloudError if it can't be used any more."""
        try:
            stamp = self._stat()
            if stamp != self._stamp:
                self._settings, self._stamp = read_settings(str(self._path)), stamp
        except SettingsError as exc:
            raise CloudError(str(exc)) from exc
        return self._settings


@dataclass(frozen=True)
class ListedInstances:
    """The machines of the file."""

    file: SettingsFile

    def _machine(self, node: Object) -> Machine | None:
        machines = self.file.current().machines
        if provider_id := node["spec"].get("providerID"):
            return next((m for m in machines.values() if m.instance.provider_id == provider_id), None)
        return machines.get(name_of(node))

    async def find(self, node: Object) -> Instance | None:
        """By its providerID, else by its name."""
        machine = self._machine(node)
        return machine.instance if machine is not None else None

    async def is_shut_down(self, node: Object) -> bool:
        """As the file says."""
        machine = self._machine(node)
        return machine is not None and machine.shut_down


@dataclass(frozen=True)
class PooledBalancers:
    """Addresses of the pool, one of each IP family of the Service."""

    file: SettingsFile
    services: Services
    given: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By Service: its addresses, though the cache may not show them yet."""

    async def ensure(self, service: Object, nodes: Sequence[Object]) -> list[Object]:
        """The addresses that it has, the one it asks for, or free ones. Raises CloudError if there are none."""
        key = key_of(service)
        pool = self.file.current().pool
        taken = self._taken(key)
        chosen = [self._address(service, family, pool, taken) for family in families_of(service)]
        self.given[key] = tuple(map(str, chosen))
        return [{"ip": str(address), "ipMode": "VIP"} for address in chosen]

    def _address(self, service: Object, family: int, pool: Iterable[Span], taken: set[str]) -> Address:
        spans = [span for span in pool if span.first.version == family]
        wanted = service["spec"].get("loadBalancerIP")
        if wanted and ipaddress.ip_address(wanted).version == family:
            asked = ipaddress.ip_address(wanted)
            if str(asked) in taken:
                raise CloudError(f"address {asked} is in use by another Service")
            if not any(asked in span for span in spans):
                raise CloudError(f"address {asked} is not in the pool of load balancers")
            return asked
        present = [ipaddress.ip_address(i["ip"]) for i in ingress_of(service) if i.get("ip")]
        for held in present:
            if held.version == family and str(held) not in taken and any(held in span for span in spans):
                return held
        for span in spans:
            for address in span:
                if str(address) not in taken:
                    return address
        raise CloudError(f"no IPv{family} address is left in the pool of load balancers")

    def _taken(self, key: str) -> set[str]:
        """The addresses of all other Services, as the cache and this process know them."""
        others = {key_of(service): service for service in self.services() if key_of(service) != key}
        taken = {str(i["ip"]) for service in others.values() for i in ingress_of(service) if i.get("ip")}
        return taken | {ip for other in self.given.keys() & others.keys() for ip in self.given[other]}

    async def update_nodes(self, service: Object, nodes: Sequence[Object]) -> None:
        """Nothing to do: every node takes the address's traffic by itself."""

    async def delete(self, service: Object) -> None:
        """Its addresses are free again."""
        self.given.pop(key_of(service), None)


def families_of(service: Object) -> list[int]:
    """4, 6: the IP families of a Service."""
    return [6 if family == "IPv6" else 4 for family in service["spec"].get("ipFamilies") or ["IPv4"]]


def make(path: str, services: Services) -> Cloud:
    """The cloud that the file describes. Raises SettingsError."""
    if not path:
        raise SettingsError("--cloud-provider=navarch needs --cloud-config")
    file = SettingsFile(path)
    return Cloud(
        "navarch",
        ListedInstances(file),
        file.current().routes,
        PooledBalancers(file, services),
    )
