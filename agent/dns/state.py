"""What the cluster holds, as far as names go: fed by informers, looked up by names and addresses.

Source: https://github.com/kubernetes/dns/blob/master/docs/specification.md (schema 1.1.0).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from machinery.api.meta import Object, key_of, labels_of, namespace_of

_K = TypeVar("_K")
_V = TypeVar("_V")

SERVICE_LABEL = "kubernetes.io/service-name"

Port = tuple[str, str, int]
"""Name, protocol (tcp, udp, sctp) and number; -1 where an endpoint has no port."""


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """A Service."""

    key: str
    cluster_ips: tuple[str, ...] = ()
    """Empty: headless, or a name for something else."""
    external_name: str = ""
    ports: tuple[Port, ...] = ()

    @staticmethod
    def of(service: Object) -> ServiceRecord:
        """Read a Service."""
        spec = service.get("spec") or {}
        key = key_of(service)
        if spec.get("type") == "ExternalName":
            return ServiceRecord(key, external_name=str(spec.get("externalName") or "").lower().rstrip("."))
        ips = spec.get("clusterIPs") or [spec.get("clusterIP")]
        ports = (
            (p.get("name") or "", (p.get("protocol") or "TCP").lower(), p["port"]) for p in spec.get("ports") or ()
        )
        return ServiceRecord(key, tuple(ip for ip in ips if ip and ip != "None"), ports=tuple(ports))


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """A ready endpoint of a Service."""

    ip: str
    hostname: str
    """What the pod is called within its Service; without a name of its own, its address with dashes."""
    ports: tuple[Port, ...]


def endpoints_of(piece: Object) -> tuple[EndpointRecord, ...]:
    """The ready endpoints of an EndpointSlice."""
    if piece.get("addressType") not in ("IPv4", "IPv6"):
        return ()
    given = piece.get("ports") or ()
    ports = tuple(
        (p.get("name") or "", (p.get("protocol") or "TCP").lower(), p["port"]) for p in given if p.get("port")
    ) or (("", "tcp", -1),)
    return tuple(
        EndpointRecord(ip, (endpoint.get("hostname") or dashed(ip)).lower(), ports)
        for endpoint in piece.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for ip in endpoint.get("addresses") or ()
    )


def dashed(ip: str) -> str:
    """An address as a label."""
    return ip.replace(".", "-").replace(":", "-")


class ClusterState:
    """Services, their endpoints, namespaces and (where asked for) pods."""

    def __init__(self) -> None:
        self.on_change: Callable[[str], None] = lambda key: None
        """Called with a Service's key when what is known of it changes, and with "" when anything else does."""
        self._services: dict[str, ServiceRecord] = {}
        self._slices: defaultdict[str, dict[str, tuple[EndpointRecord, ...]]] = defaultdict(dict)
        self._namespaces: set[str] = set()
        self._by_cluster_ip: defaultdict[str, set[str]] = defaultdict(set)
        self._by_endpoint_ip: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self._pods: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    # -- looking up --------------------------------------------------------------------------------------------------

    def service(self, namespace: str, name: str) -> ServiceRecord | None:
        """A Service."""
        return self._services.get(f"{namespace}/{name}")

    def endpoints(self, key: str) -> Iterator[EndpointRecord]:
        """The ready endpoints of a Service, in a stable order."""
        for _, found in sorted(self._slices.get(key, {}).items()):
            yield from found

    def has_namespace(self, name: str) -> bool:
        """Whether there is such a namespace."""
        return name in self._namespaces

    def has_pod(self, namespace: str, ip: str) -> bool:
        """Whether a pod of the namespace has the address."""
        return bool(self._pods.get((namespace, ip)))

    def services_at(self, ip: str) -> list[str]:
        """Keys of the Services with this cluster IP."""
        return sorted(self._by_cluster_ip.get(ip, ()))

    def endpoints_at(self, ip: str) -> list[tuple[str, EndpointRecord]]:
        """(Service's key, endpoint) for every ready endpoint with this address."""
        places = sorted(self._by_endpoint_ip.get(ip, ()))
        return [(key, e) for key, piece in places for e in self._slices[key][piece] if e.ip == ip]

    # -- being told --------------------------------------------------------------------------------------------------

    def service_changed(self, old: Object | None, new: Object | None) -> None:
        """An informer's handler."""
        was = ServiceRecord.of(old) if old else None
        now = ServiceRecord.of(new) if new else None
        if was is not None:
            self._services.pop(was.key, None)
            _leave(self._by_cluster_ip, was.cluster_ips, was.key)
        if now is not None:
            self._services[now.key] = now
            for ip in now.cluster_ips:
                self._by_cluster_ip[ip].add(now.key)
        if was != now:
            self.on_change((now or was or ServiceRecord("")).key)

    def slice_changed(self, old: Object | None, new: Object | None) -> None:
        """An informer's handler."""
        before = self._drop_slice(old) if old is not None else None
        after = self._add_slice(new) if new is not None else None
        if before != after:
            for key in {place[0] for place in (before, after) if place}:
                self.on_change(key)

    def namespace_changed(self, old: Object | None, new: Object | None) -> None:
        """An informer's handler."""
        if new is not None and old is None:
            self._namespaces.add(key_of(new))
            self.on_change("")
        elif new is None and old is not None:
            self._namespaces.discard(key_of(old))
            self.on_change("")

    def pod_changed(self, old: Object | None, new: Object | None) -> None:
        """An informer's handler."""
        before, after = _pod_ips(old), _pod_ips(new)
        for place in before - after:
            _leave(self._pods, [place], key_of(old or {}))
        for place in after - before:
            self._pods[place].add(key_of(new or {}))
        if before != after:
            self.on_change("")

    def _drop_slice(self, piece: Object) -> tuple[str, tuple[EndpointRecord, ...]] | None:
        key, name = _service_of(piece), key_of(piece)
        found = self._slices.get(key, {}).pop(name, None)
        if found is None:
            return None
        if not self._slices[key]:
            del self._slices[key]
        _leave(self._by_endpoint_ip, {e.ip for e in found}, (key, name))
        return key, found

    def _add_slice(self, piece: Object) -> tuple[str, tuple[EndpointRecord, ...]] | None:
        key, name = _service_of(piece), key_of(piece)
        if not key:
            return None
        found = endpoints_of(piece)
        self._slices[key][name] = found
        for endpoint in found:
            self._by_endpoint_ip[endpoint.ip].add((key, name))
        return key, found


def _service_of(piece: Object) -> str:
    name = labels_of(piece).get(SERVICE_LABEL)
    return f"{namespace_of(piece)}/{name}" if name else ""


def _pod_ips(pod: Object | None) -> set[tuple[str, str]]:
    if pod is None:
        return set()
    status = pod.get("status") or {}
    ips = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
    return {(namespace_of(pod), ip) for ip in ips if ip}


def _leave(index: defaultdict[_K, set[_V]], keys: Iterable[_K], value: _V) -> None:
    for key in keys:
        index[key].discard(value)
        if not index[key]:
            del index[key]
