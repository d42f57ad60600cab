"""Defaults of Services and what lists their backends; networking, too.

Source: pkg/apis/core/v1/defaults.go, pkg/apis/discovery/v1/defaults.go, pkg/apis/networking/v1/defaults.go.
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import child, items, put_absent, put_empty, sub, text
from machinery.api.meta import Object

CLIENT_IP_SECONDS = 10800


def externally_accessible(spec: Object) -> bool:
    """Whether traffic from outside the cluster can reach the Service."""
    kind = text(spec, "type")
    return kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def default_service(service: Object) -> None:
    """A Service, but for its addresses and their families."""
    spec = child(service, "spec")
    put_empty(spec, sessionAffinity="None", type="ClusterIP")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        put_absent(child(child(spec, "sessionAffinityConfig"), "clientIP"), timeoutSeconds=CLIENT_IP_SECONDS)
    for port in items(spec, "ports"):
        put_empty(port, protocol="TCP")
        if port.get("targetPort") in (None, 0, "") and port.get("port") is not None:
            port["targetPort"] = port["port"]
    if externally_accessible(spec):
        put_empty(spec, externalTrafficPolicy="Cluster")
    if spec["type"] in ("ClusterIP", "NodePort", "LoadBalancer"):
        put_absent(spec, internalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        put_absent(spec, allocateLoadBalancerNodePorts=True)
        for ingress in items(service, "status", "loadBalancer", "ingress"):
            if text(ingress, "ip"):
                put_absent(ingress, ipMode="VIP")


def default_endpoints(endpoints: Object) -> None:
    """Endpoints."""
    for subset in items(endpoints, "subsets"):
        for port in items(subset, "ports"):
            put_empty(port, protocol="TCP")


def default_endpoint_slice(endpoint_slice: Object) -> None:
    """An EndpointSlice."""
    for port in items(endpoint_slice, "ports"):
        put_absent(port, name="", protocol="TCP")


def default_network_policy(policy: Object) -> None:
    """A NetworkPolicy: it governs egress only if it says something about it."""
    spec = child(policy, "spec")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    for rule in (*items(spec, "ingress"), *items(spec, "egress")):
        for port in items(rule, "ports"):
            put_absent(port, protocol="TCP")


def default_ingress_class(ingress_class: Object) -> None:
    """An IngressClass."""
    if isinstance(parameters := sub(ingress_class, "spec").get("parameters"), dict):
        put_absent(parameters, scope="Cluster")
