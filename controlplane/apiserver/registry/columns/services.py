"""Columns of Services, their backends, networking and Events."""

from __future__ import annotations

from dataclasses import replace

from controlplane.apiserver.registry.columns.parts import (
    AGE,
    NAME,
    Cell,
    column,
    labels_cell,
    named,
    selector_cell,
    text_if_set,
)
from controlplane.apiserver.registry.objects import items, number, sub, text, values
from controlplane.apiserver.registry.printing import NONE, UNKNOWN, UNSET, Age, listed, moment_of
from machinery.api.meta import Object


def _load_balancer(obj: Object) -> str:
    found = {text(i, "ip") or text(i, "hostname") for i in items(obj, "status", "loadBalancer", "ingress")}
    return ",".join(sorted(found - {""}))


def _strings(obj: Object, *path: str) -> list[str]:
    return [v for v in values(obj, *path) if isinstance(v, str)]


def _external_ip(service: Object) -> str:
    kind, external = text(service, "spec", "type"), _strings(service, "spec", "externalIPs")
    if kind in ("ClusterIP", "NodePort"):
        return ",".join(external) or NONE
    if kind == "LoadBalancer":
        balanced = _load_balancer(service)
        return ",".join([balanced] * bool(balanced) + external) or "<pending>"
    return text(service, "spec", "externalName") if kind == "ExternalName" else UNKNOWN


def _port(port: Object) -> str:
    outside = f":{number(port, 'nodePort')}" if number(port, "nodePort") > 0 else ""
    return f"{number(port, 'port')}{outside}/{text(port, 'protocol')}"


SERVICE = (
    NAME,
    column("Type", lambda obj: text(obj, "spec", "type"), "core.v1.ServiceSpec.type"),
    column(
        "Cluster-IP",
        lambda obj: next(iter(_strings(obj, "spec", "clusterIPs")), NONE),
        "core.v1.ServiceSpec.clusterIP",
    ),
    column("External-IP", _external_ip, "core.v1.ServiceSpec.externalIPs"),
    column(
        "Port(s)", lambda obj: ",".join(map(_port, items(obj, "spec", "ports"))) or NONE, "core.v1.ServiceSpec.ports"
    ),
    AGE,
    column("Selector", labels_cell("spec", "selector"), "core.v1.ServiceSpec.selector", wide=True),
)


def _host_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _endpoints(endpoints: Object) -> str:
    subsets = items(endpoints, "subsets")
    if not subsets:
        return NONE
    told: list[str] = []
    for subset in subsets:
        addresses = [text(a, "ip") for a in items(subset, "addresses")]
        ports = items(subset, "ports")
        if ports:
            told += [_host_port(a, number(p, "port")) for p in ports for a in addresses]
        else:
            told += addresses
    return listed(told, 3)


ENDPOINTS = (NAME, column("Endpoints", _endpoints, "core.v1.Endpoints.subsets"), AGE)


def _slice_port(port: Object) -> str:
    if isinstance(port.get("port"), int):
        return str(port["port"])
    return text(port, "name") if "name" in port else "*"


def _slice_addresses(endpoint_slice: Object) -> str:
    told = [a for e in items(endpoint_slice, "endpoints") for a in _strings(e, "addresses")]
    return listed(told, 3) or UNSET


ENDPOINT_SLICE = (
    NAME,
    column("AddressType", lambda obj: text(obj, "addressType"), "discovery.v1.EndpointSlice.addressType"),
    column(
        "Ports",
        lambda obj: listed([_slice_port(p) for p in items(obj, "ports")], 3) or UNSET,
        "discovery.v1.EndpointSlice.ports",
    ),
    column("Endpoints", _slice_addresses, "discovery.v1.EndpointSlice.endpoints"),
    AGE,
)


def _hosts(ingress: Object) -> str:
    rules = items(ingress, "spec", "rules")
    hosts: list[str] = []
    for rule in rules:
        if len(hosts) == 3:
            return f"{','.join(hosts)} + {len(rules) - 3} more..."
        if host := text(rule, "host"):
            hosts.append(host)
    return ",".join(hosts) or "*"


INGRESS = (
    NAME,
    column(
        "Class",
        text_if_set(NONE, "spec", "ingressClassName"),
        "The name of the IngressClass resource that should be used for additional configuration",
    ),
    column("Hosts", _hosts, "Hosts that incoming requests are matched against before the ingress rule"),
    column("Address", _load_balancer, "Address is a list containing ingress points for the load-balancer"),
    column(
        "Ports",
        lambda obj: "80, 443" if items(obj, "spec", "tls") else "80",
        "Ports of TLS configurations that open",
    ),
    AGE,
)


def _parameters(ingress_class: Object) -> str:
    parameters = sub(ingress_class, "spec").get("parameters")
    if not isinstance(parameters, dict):
        return NONE
    group = f".{text(parameters, 'apiGroup')}" if "apiGroup" in parameters else ""
    return f"{text(parameters, 'kind')}{group}/{text(parameters, 'name')}"


INGRESS_CLASS = (
    named("ingressclass.kubernetes.io/is-default-class"),
    column(
        "Controller",
        lambda obj: text(obj, "spec", "controller"),
        "Controller that is responsible for handling this class",
    ),
    column("Parameters", _parameters, "A reference to a resource with additional parameters"),
    AGE,
)

NETWORK_POLICY = (
    NAME,
    column("Pod-Selector", selector_cell("spec", "podSelector"), "networking.v1.NetworkPolicySpec.podSelector"),
    AGE,
)

SERVICE_CIDR = (
    NAME,
    column("CIDRs", lambda obj: ",".join(_strings(obj, "spec", "cidrs")), "networking.v1.ServiceCIDRSpec.cidrs"),
    AGE,
)


def _parent(address: Object) -> str:
    parent = sub(address, "spec").get("parentRef")
    if not isinstance(parent, dict):
        return NONE
    resource = ".".join(p for p in (text(parent, "resource"), text(parent, "group")) if p).lower()
    return "/".join(
        [resource, *([text(parent, "namespace")] if text(parent, "namespace") else []), text(parent, "name")]
    )


IP_ADDRESS = (NAME, column("ParentRef", _parent, "networking.v1.IPAddressSpec.parentRef"))


def _first_seen(event: Object) -> Age:
    return Age(event.get("firstTimestamp") if moment_of(event.get("firstTimestamp")) else event.get("eventTime"))


def _last_seen(event: Object) -> Age:
    if isinstance(event.get("series"), dict):
        return Age(sub(event, "series").get("lastObservedTime"))
    return Age(event["lastTimestamp"]) if moment_of(event.get("lastTimestamp")) else _first_seen(event)


def _text(key: str) -> Cell:
    return lambda obj: text(obj, key)


def _involved(event: Object) -> str:
    kind, name = text(event, "involvedObject", "kind").lower(), text(event, "involvedObject", "name")
    return f"{kind}/{name}" if name else kind


def _source(event: Object) -> str:
    component = text(event, "source", "component") or text(event, "reportingComponent")
    instance = text(event, "source", "host") or text(event, "reportingInstance")
    return f"{component}, {instance}" if instance else component


def _counted(event: Object) -> int:
    if isinstance(event.get("series"), dict):
        return number(event, "series", "count")
    return number(event, "count") or 1


EVENT = (
    column("Last Seen", _last_seen, "core.v1.Event.lastTimestamp"),
    column("Type", _text("type"), "core.v1.Event.type"),
    column("Reason", _text("reason"), "core.v1.Event.reason"),
    column("Object", _involved, "core.v1.Event.involvedObject"),
    column(
        "Subobject",
        lambda obj: text(obj, "involvedObject", "fieldPath"),
        "core.v1.ObjectReference.fieldPath",
        wide=True,
    ),
    column("Source", _source, "core.v1.Event.source", wide=True),
    column("Message", lambda obj: text(obj, "message").strip(), "core.v1.Event.message"),
    column("First Seen", _first_seen, "core.v1.Event.firstTimestamp", wide=True),
    column("Count", _counted, "core.v1.Event.count", wide=True),
    replace(NAME, priority=1),
)
