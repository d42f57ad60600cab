"""From a Service and its EndpointSlices to what must be true on this node: pure functions.

Source: KEP-2086 (internal traffic policy), KEP-1669 (terminating endpoints), KEP-2433 and KEP-4444 (topology hints,
traffic distribution), KEP-1860 (ipMode), KEP-752 (EndpointSlices); virtual IPs and service proxies in the Kubernetes
documentation.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, TypeGuard

from agent.proxy.model import (
    Endpoint,
    Family,
    HealthCheck,
    NodeView,
    PortRules,
    Protocol4,
    Refusal,
    ServicePlan,
    ServicePortName,
)
from machinery.api.meta import Object, key_of, labels_of, name_of, namespace_of

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
DEFAULT_AFFINITY_SECONDS = 10800

_PROTOCOLS: dict[str, Protocol4] = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
_ADDRESS_FAMILY = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint as its slice describes it, before it is decided whether it gets traffic."""

    endpoint: Endpoint
    ready: bool
    serving: bool
    terminating: bool
    local: bool
    maybe_local: bool  # local, or the slice does not say where it is and it may be here
    zones: tuple[str, ...] = ()  # hints
    nodes: tuple[str, ...] = ()


def address(text: Any, family: Family) -> str | None:
    """The address in its canonical spelling, or None if it is not one of this family."""
    if not isinstance(text, str):
        return None
    try:
        packed = socket.inet_pton(_ADDRESS_FAMILY[family], text)
    except (OSError, ValueError):
        return None
    return text if family is Family.IPV4 else socket.inet_ntop(socket.AF_INET6, packed)


def is_proxied(service: Object) -> bool:
    """Whether a service proxy has anything to do for this Service."""
    spec = service.get("spec") or {}
    return (
        spec.get("type") != "ExternalName"
        and spec.get("clusterIP") not in (None, "", "None")
        and PROXY_NAME_LABEL not in labels_of(service)
    )


def service_key_of_slice(piece: Object) -> str | None:
    """The key of the Service that an EndpointSlice belongs to, if a service proxy should look at it."""
    labels = labels_of(piece)
    name = labels.get(SERVICE_NAME_LABEL)
    if not name or HEADLESS_LABEL in labels or PROXY_NAME_LABEL in labels:
        return None
    return f"{namespace_of(piece)}/{name}"


def plan_service(service: Object, slices: Iterable[Object], node: NodeView, family: Family) -> ServicePlan:
    """What must be true on `node` for `service` with `slices`, in one IP family.

    What can't be used (an impossible port, an address that is none) is left out and told in `problems`.
    """
    if not is_proxied(service):
        return ServicePlan()
    spec = service["spec"]
    problems: list[str] = []
    cluster_ip = _cluster_ip(spec, family, problems)
    if cluster_ip is None:
        return ServicePlan(problems=tuple(problems))
    reach = _Reach.of(service, family, problems)
    candidates = _candidates(slices, node, family, problems)
    rules = []
    for port in spec.get("ports") or ():
        made = _plan_port(service, port, cluster_ip, reach, candidates, node, problems)
        if made is not None:
            rules.append(made)
    return ServicePlan(tuple(rules), _health_check(service, candidates), tuple(dict.fromkeys(problems)))


@dataclass(frozen=True, slots=True)
class _Reach:
    """Where a Service's traffic arrives apart from its cluster IP, and under which policies: the same for all its
    ports.
    """

    node_ports: bool
    external_ips: tuple[str, ...]
    load_balancer_ips: tuple[str, ...]
    source_ranges: tuple[str, ...] | None
    affinity_seconds: int
    internal_local: bool
    external_local: bool

    @staticmethod
    def of(service: Object, family: Family, problems: list[str]) -> _Reach:
        spec = service["spec"]
        kind = spec.get("type") or "ClusterIP"
        external_ips = _addresses(spec.get("externalIPs"), family, "spec.externalIPs", problems)
        ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        virtual = [i["ip"] for i in ingress if i.get("ip") and (i.get("ipMode") or "VIP") == "VIP"]
        affinity = 0
        if spec.get("sessionAffinity") == "ClientIP":
            config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
            affinity = int(config.get("timeoutSeconds") or DEFAULT_AFFINITY_SECONDS)
        exposed = kind in ("NodePort", "LoadBalancer") or bool(external_ips)
        return _Reach(
            node_ports=kind in ("NodePort", "LoadBalancer"),
            external_ips=external_ips,
            load_balancer_ips=_addresses(virtual, family, "status.loadBalancer.ingress", problems),
            source_ranges=_source_ranges(spec.get("loadBalancerSourceRanges"), family, problems),
            affinity_seconds=affinity,
            internal_local=spec.get("internalTrafficPolicy") == "Local",
            external_local=exposed and spec.get("externalTrafficPolicy") == "Local",
        )


def _plan_port(
    service: Object,
    port: Object,
    cluster_ip: str,
    reach: _Reach,
    candidates: dict[tuple[str, str], dict[Endpoint, Candidate]],
    node: NodeView,
    problems: list[str],
) -> PortRules | None:
    protocol = _PROTOCOLS.get(port.get("protocol") or "TCP")
    number = port.get("port")
    if protocol is None or not _is_port(number):
        problems.append(f"port {number!r}/{port.get('protocol') or 'TCP'} is not one that can be proxied")
        return None
    node_port = (port.get("nodePort") or 0) if reach.node_ports else 0
    if node_port and not _is_port(node_port):
        problems.append(f"node port {node_port!r} is not a port")
        node_port = 0
    known = list(candidates.get((port.get("name") or "", protocol), {}).values())
    exposed = bool(node_port or reach.external_ips or reach.load_balancer_ips)
    chosen = choose(
        known,
        node,
        wants_cluster=exposed or not reach.internal_local,
        wants_local=reach.internal_local or (exposed and reach.external_local),
    )
    internal = chosen.local if reach.internal_local else chosen.cluster
    external = chosen.local if reach.external_local else chosen.cluster
    used = {*chosen.cluster, *chosen.local}
    return PortRules(
        name=ServicePortName(namespace_of(service), name_of(service), port.get("name") or "", protocol),
        port=number,
        cluster_ip=cluster_ip,
        node_port=node_port,
        external_ips=reach.external_ips,
        load_balancer_ips=reach.load_balancer_ips,
        source_ranges=reach.source_ranges,
        affinity_seconds=reach.affinity_seconds,
        internal_local=reach.internal_local,
        external_local=reach.external_local and exposed,
        cluster=chosen.cluster,
        local=chosen.local,
        internal_refusal=_refusal(internal, chosen.any),
        external_refusal=_refusal(external, chosen.any),
        health_check_node_port=_health_check_port(service["spec"]),
        hairpin_ips=tuple(sorted({c.endpoint.ip for c in known if c.maybe_local and c.endpoint in used})),
        serving_ips=frozenset(c.endpoint.ip for c in known if c.serving and protocol == "udp"),
    )


def _refusal(endpoints: Sequence[Endpoint], anywhere: bool) -> Refusal:
    """Traffic that no node could deliver is rejected; what another node could deliver is dropped, for the sender to
    try there.
    """
    if endpoints:
        return ""
    return "drop" if anywhere else "reject"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which endpoints get traffic: over the whole cluster, on this node, and whether there is any usable one
    anywhere.
    """

    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    any: bool


def choose(candidates: Sequence[Candidate], node: NodeView, *, wants_cluster: bool, wants_local: bool) -> Chosen:
    """Decide which endpoints get traffic.

    Ready ones do; where there is none, those that still serve while they terminate.  Topology hints narrow the
    cluster's endpoints, never the node's own.
    """
    ready = [c for c in candidates if c.ready]
    draining = [c for c in candidates if c.serving and c.terminating]
    cluster: list[Candidate] = []
    local: list[Candidate] = []
    if wants_cluster:
        cluster = _near(ready, node) or draining
    if wants_local:
        local = [c for c in ready if c.local] or [c for c in draining if c.local]
    return Chosen(_sorted(cluster), _sorted(local), bool(cluster) or (wants_local and bool(ready or draining)))


def _near(ready: list[Candidate], node: NodeView) -> list[Candidate]:
    """Those whose hints name this node or its zone, when every endpoint has such hints and some name it; otherwise
    all.
    """
    if ready and all(c.nodes for c in ready):
        same_node = [c for c in ready if node.name in c.nodes]
        if same_node:
            return same_node
    if ready and node.zone and all(c.zones for c in ready):
        same_zone = [c for c in ready if node.zone in c.zones]
        if same_zone:
            return same_zone
    return ready


def _sorted(candidates: Iterable[Candidate]) -> tuple[Endpoint, ...]:
    return tuple(sorted(c.endpoint for c in candidates))


def _candidates(
    slices: Iterable[Object], node: NodeView, family: Family, problems: list[str]
) -> dict[tuple[str, str], dict[Endpoint, Candidate]]:
    """(port name, protocol) -> endpoints, over all slices of this family; one that several slices name is one
    endpoint.
    """
    found: dict[tuple[str, str], dict[Endpoint, Candidate]] = {}
    for piece in sorted(slices, key=key_of):
        if piece.get("addressType") != family.api_name:
            continue
        ports = list(_slice_ports(piece, problems))
        for number, described in enumerate(piece.get("endpoints") or ()):
            addresses = described.get("addresses") or ()
            ip = address(addresses[0], family) if addresses else None
            if ip is None:
                what = repr(addresses[0]) if addresses else "nothing"
                problems.append(
                    f"EndpointSlice {name_of(piece)}: endpoints[{number}]: {what} is no {family.api_name} address"
                )
                continue
            for key, port in ports:
                candidate = _candidate(Endpoint(ip, port), described, node)
                known = found.setdefault(key, {})
                before = known.get(candidate.endpoint)
                if before is None or (candidate.local and not before.local):
                    known[candidate.endpoint] = candidate
    return found


def _slice_ports(piece: Object, problems: list[str]) -> Iterable[tuple[tuple[str, str], int]]:
    for port in piece.get("ports") or ():
        number = port.get("port")
        if number is None:  # "all ports": means nothing to a proxy
            continue
        protocol = _PROTOCOLS.get(port.get("protocol") or "TCP")
        if protocol is None or not _is_port(number):
            problems.append(f"EndpointSlice {name_of(piece)}: {number!r}/{port.get('protocol')} is not a port")
            continue
        yield (port.get("name") or "", protocol), number


def _candidate(endpoint: Endpoint, described: Object, node: NodeView) -> Candidate:
    conditions = described.get("conditions") or {}
    hints = described.get("hints") or {}
    where = described.get("nodeName") or ""
    return Candidate(
        endpoint,
        ready=conditions.get("ready") is not False,
        serving=conditions.get("serving") is not False,
        terminating=conditions.get("terminating") is True,
        local=where == node.name and bool(where),
        maybe_local=where == node.name if where else node.may_hold(endpoint.ip),
        zones=tuple(str(z.get("name")) for z in hints.get("forZones") or ()),
        nodes=tuple(str(n.get("name")) for n in hints.get("forNodes") or ()),
    )


def _health_check(service: Object, candidates: dict[tuple[str, str], dict[Endpoint, Candidate]]) -> HealthCheck | None:
    port = _health_check_port(service["spec"])
    if not port:
        return None
    here = {e.ip for known in candidates.values() for e, c in known.items() if c.ready and c.local}
    return HealthCheck(key_of(service), port, len(here))


def _health_check_port(spec: Object) -> int:
    port = spec.get("healthCheckNodePort")
    wanted = spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    return port if wanted and _is_port(port) else 0


def _cluster_ip(spec: Object, family: Family, problems: list[str]) -> str | None:
    """The cluster IP of this family, or None if the Service has none."""
    texts = spec.get("clusterIPs") or [spec.get("clusterIP")]
    for text in texts:
        found = address(text, family)
        if found is not None:
            return found
        if all(address(text, other) is None for other in Family):
            problems.append(f"spec.clusterIPs: {text!r} is no IP address")
    return None


def _addresses(texts: Iterable[Any] | None, family: Family, field: str, problems: list[str]) -> tuple[str, ...]:
    found = []
    for text in texts or ():
        ip = address(text, family)
        if ip is not None:
            found.append(ip)
        elif all(address(text, other) is None for other in Family):
            problems.append(f"{field}: {text!r} is no IP address")
    return tuple(sorted(set(found)))


def _source_ranges(texts: Iterable[Any] | None, family: Family, problems: list[str]) -> tuple[str, ...] | None:
    """The ranges of this family; None when the Service names no range at all, () when it names only others."""
    if not texts:
        return None
    found = set()
    for text in texts:
        try:
            network = ip_network(str(text).strip(), strict=False)
        except ValueError:
            problems.append(f"spec.loadBalancerSourceRanges: {text!r} is no CIDR")
            continue
        if network.version == family:
            found.add(str(network))
    return tuple(sorted(found))


def _is_port(number: Any) -> TypeGuard[int]:
    return isinstance(number, int) and not isinstance(number, bool) and 0 < number < 65536
