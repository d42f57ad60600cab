"""The cluster's zones: from a name and a type to records, from what the cluster holds and nothing else.

    NAME.NAMESPACE.svc.ZONE                  A, AAAA (headless: of all endpoints), CNAME, SRV
    _PORT._PROTOCOL.NAME.NAMESPACE.svc.ZONE  SRV
    HOSTNAME.NAME.NAMESPACE.svc.ZONE         A, AAAA of one endpoint
    1-2-3-4.NAMESPACE.pod.ZONE               A, AAAA of a pod
    4.3.2.1.in-addr.arpa, ….ip6.arpa         PTR
    dns-version.ZONE                         TXT

Source: https://github.com/kubernetes/dns/blob/master/docs/specification.md (schema 1.1.0); CoreDNS, plugin/kubernetes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address

from dnslib import QTYPE, RCODE

from agent.dns.configuration import REVERSE_ZONES, Kubernetes
from agent.dns.state import ClusterState, EndpointRecord, ServiceRecord
from machinery.addresses import is_address

SCHEMA_VERSION = "1.1.0"
SCHEMA_SECONDS = 28800
SRV_WEIGHT = 100
_NIBBLES = 32

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A resource record; `data` is an address, a name, a text, or (priority, weight, port, target)."""

    name: str
    kind: int
    data: str | tuple[int, int, int, str]
    seconds: int = 0
    """Its time to live; 0: that of all records."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a name and a type.

    `zone` is the zone it belongs to; with NOERROR and no record, the name exists and the type does not.  `service` is
    the key of the Service that the records depend on alone, or "".
    """

    zone: str
    code: int = RCODE.NOERROR
    records: tuple[Record, ...] = ()
    extra: tuple[Record, ...] = ()
    service: str = ""
    alias: str = ""
    """What the last record, a CNAME, leads to: whoever asks for another type should be told of it too."""
    upstream: bool = False
    """Nothing is known here, and the configuration wants such names to be asked for elsewhere."""


class ClusterZones:
    """Answers for the zones of the kubernetes directive; `own_services` are the keys of the DNS server's Services."""

    def __init__(self, state: ClusterState, settings: Kubernetes, own_services: Sequence[str]) -> None:
        self._state = state
        self._settings = settings
        self._own_services = own_services
        self._forward = [z for z in settings.zones if z not in REVERSE_ZONES]

    def zone_of(self, name: str) -> str | None:
        """The longest of the zones that the name is in, if any."""
        inside = [zone for zone in self._settings.zones if name == zone or name.endswith(f".{zone}") or not zone]
        return max(inside, key=len, default=None)

    def lookup(self, name: str, kind: int, zone: str) -> Answer:
        """What is known; `name` is in lower case, without a final dot, and in `zone`."""
        if zone in REVERSE_ZONES:
            found = self._reverse(name, kind, zone)
        else:
            rest = name.removesuffix(zone).rstrip(".")
            found = self._in_zone(name, tuple(rest.split(".")) if rest else (), kind, zone)
        if found.code == RCODE.NXDOMAIN and self._falls_through(name):
            return replace(found, upstream=True)
        return found

    def _falls_through(self, name: str) -> bool:
        return any(name == z or name.endswith(f".{z}") or not z for z in self._settings.fallthrough)

    def _in_zone(self, name: str, labels: Labels, kind: int, zone: str) -> Answer:
        match labels:
            case ():
                return self._apex(kind, zone)
            case ("dns-version",):
                return _of_kind(zone, [Record(name, QTYPE.TXT, SCHEMA_VERSION, SCHEMA_SECONDS)], kind)
            case ("dns",):
                return Answer(zone)
            case ("ns", "dns"):
                return _of_kind(zone, self._own_addresses(name), kind)
            case ("svc",):
                return Answer(zone)
            case ("pod",) if self._settings.pods != "disabled":
                return Answer(zone)
            case (namespace, "svc" | "pod"):
                return Answer(zone) if self._state.has_namespace(namespace) else Answer(zone, RCODE.NXDOMAIN)
            case (ip, namespace, "pod"):
                return self._pod(name, ip, namespace, kind, zone)
            case (*first, service, namespace, "svc"):
                record = self._state.service(namespace, service)
                if record is not None and len(first) <= 2:
                    return replace(self._service(name, tuple(first), record, kind, zone), service=record.key)
        return Answer(zone, RCODE.NXDOMAIN)

    def _apex(self, kind: int, zone: str) -> Answer:
        server = f"ns.dns.{zone}".rstrip(".")
        if kind == QTYPE.NS:
            own = {_base(service, zone): service.cluster_ips for service in self._own()} or {server: ()}
            extra = [record for name, ips in own.items() for record in _addresses(name, ips)]
            return Answer(zone, records=tuple(Record(zone, QTYPE.NS, name) for name in own), extra=tuple(extra))
        if kind == QTYPE.SOA:
            return Answer(zone, records=(Record(zone, QTYPE.SOA, server),))
        return Answer(zone)

    def _own(self) -> list[ServiceRecord]:
        known = [self._state.service(*key.split("/")) for key in self._own_services]
        return [service for service in known if service is not None]

    def _own_addresses(self, name: str) -> list[Record]:
        return _addresses(name, (ip for service in self._own() for ip in service.cluster_ips))

    def _pod(self, name: str, text: str, namespace: str, kind: int, zone: str) -> Answer:
        mode = self._settings.pods
        ip = _undashed(text)
        if ip is None or mode == "disabled" or not self._state.has_namespace(namespace):
            return Answer(zone, RCODE.NXDOMAIN)
        if mode == "verified" and not self._state.has_pod(namespace, ip):
            return Answer(zone, RCODE.NXDOMAIN)
        return _of_kind(zone, _addresses(name, [ip]), kind)

    def _service(self, name: str, first: Labels, service: ServiceRecord, kind: int, zone: str) -> Answer:
        if service.external_name:
            if first or is_address(service.external_name):
                return Answer(zone, RCODE.NXDOMAIN)
            if kind not in (QTYPE.A, QTYPE.AAAA, QTYPE.CNAME):
                return Answer(zone)
            alias = Record(name, QTYPE.CNAME, service.external_name)
            return Answer(zone, records=(alias,), alias="" if kind == QTYPE.CNAME else service.external_name)
        base = _base(service, zone)
        if service.cluster_ips and len(first) != 1:
            return _cluster_ip(name, base, first, service, kind, zone)
        endpoints = list(self._state.endpoints(service.key))
        match first:
            case (hostname,) if not hostname.startswith("_"):
                endpoints = [e for e in endpoints if e.hostname == hostname]
            case (protocol,):
                return Answer(zone) if _has_port(service, endpoints, "", protocol[1:]) else Answer(zone, RCODE.NXDOMAIN)
            case (port, protocol):
                endpoints = [e for e in endpoints if _matching([*e.ports], port, protocol)]
        if not endpoints:
            return Answer(zone, RCODE.NXDOMAIN)
        if kind == QTYPE.SRV:
            return _srv_of_endpoints(name, base, first, endpoints, zone)
        return _of_kind(zone, _addresses(name, (e.ip for e in endpoints)), kind)

    def _reverse(self, name: str, kind: int, zone: str) -> Answer:
        ip = reverse_address(name)
        if ip is None or not self._forward:
            return Answer(zone, RCODE.NXDOMAIN)
        home = self._forward[0]
        names = [f"{_service_name(key)}.svc.{home}" for key in self._state.services_at(ip)]
        if not names:
            at = self._state.endpoints_at(ip)
            names = [f"{endpoint.hostname}.{_service_name(key)}.svc.{home}" for key, endpoint in at]
        if not names:
            return Answer(zone, RCODE.NXDOMAIN)
        return _of_kind(zone, [Record(name, QTYPE.PTR, target) for target in dict.fromkeys(names)], kind)


def _cluster_ip(name: str, base: str, first: Labels, service: ServiceRecord, kind: int, zone: str) -> Answer:
    """The Service itself, or one of its ports."""
    ports = [p for p in service.ports if not first or _matching([p], *first)]
    if first and not ports:
        return Answer(zone, RCODE.NXDOMAIN)
    addresses = _addresses(base, service.cluster_ips)
    if kind == QTYPE.SRV:
        weight = _weight(len(ports) * len(service.cluster_ips))
        records = tuple(Record(name, QTYPE.SRV, (0, weight, number, base)) for _, _, number in ports)
        return Answer(zone, records=records, extra=tuple(addresses) if records else ())
    return _of_kind(zone, [replace(a, name=name) for a in addresses], kind)


def _srv_of_endpoints(name: str, base: str, first: Labels, endpoints: list[EndpointRecord], zone: str) -> Answer:
    targets: dict[tuple[int, str], None] = {}
    choices = 0
    extra: dict[Record, None] = {}
    for endpoint in endpoints:
        target = f"{endpoint.hostname}.{base}"
        for _, _, number in _matching([*endpoint.ports], *first) if len(first) == 2 else endpoint.ports:
            choices += 1
            if number > 0:
                targets[number, target] = None
        extra |= dict.fromkeys(_addresses(target, [endpoint.ip]))
    weight = _weight(choices)
    records = tuple(Record(name, QTYPE.SRV, (0, weight, number, target)) for number, target in targets)
    return Answer(zone, records=records, extra=tuple(extra) if records else ())


def _weight(choices: int) -> int:
    """One share of the whole: every address counts, also where several have one name."""
    return max(1, SRV_WEIGHT // max(1, choices))


def _base(service: ServiceRecord, zone: str) -> str:
    return f"{_service_name(service.key)}.svc.{zone}".rstrip(".")


def _matching(ports: list[tuple[str, str, int]], port: str, protocol: str) -> list[tuple[str, str, int]]:
    """Those of the ports that `_port._protocol` asks for; like CoreDNS it does not insist on the underscores."""
    wanted = (port.removeprefix("_"), protocol.removeprefix("_"))
    return [p for p in ports if p[0] and (p[0].lower(), p[1]) == wanted]


def _has_port(service: ServiceRecord, endpoints: Iterable[EndpointRecord], port: str, protocol: str) -> bool:
    ports = [*service.ports, *(p for e in endpoints for p in e.ports)]
    return any(p[0] and p[1] == protocol and (not port or p[0] == port) for p in ports)


def _of_kind(zone: str, records: list[Record], kind: int) -> Answer:
    return Answer(zone, records=tuple(record for record in records if record.kind == kind))


def _addresses(name: str, ips: Iterable[str]) -> list[Record]:
    return [Record(name, QTYPE.AAAA if ":" in ip else QTYPE.A, ip) for ip in dict.fromkeys(ips)]


def _service_name(key: str) -> str:
    namespace, _, name = key.partition("/")
    return f"{name}.{namespace}"


def _undashed(text: str) -> str | None:
    """The address that a label spells, if it does."""
    for separator in (".", ":"):
        try:
            return str(ip_address(text.replace("-", separator)))
        except ValueError:
            continue
    return None


def reverse_address(name: str) -> str | None:
    """The address that a name below in-addr.arpa or ip6.arpa stands for, if it is a whole one."""
    labels = name.split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            return str(IPv4Address(".".join(reversed(labels[:4]))))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == _NIBBLES + 2:
            digits = "".join(reversed(labels[:_NIBBLES]))
            return str(ip_address(int(digits, 16).to_bytes(16, "big")))
    except ValueError:
        pass
    return None
