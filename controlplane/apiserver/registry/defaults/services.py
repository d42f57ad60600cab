"""Defaults of Services and what lists their backends; networking, too.

Source: pkg/apis/core/v1/defaults.go, pkg/apis/discovery/v1/defaults.go, pkg/apis/networking/v1/defaults.go.
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import child, items, put_absent, put_empty, sub, text, values
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


def complete_ip_families(spec: Object, cluster: tuple[str, ...] = ("IPv4",)) -> None:
    """Choose the address families of a Service as a cluster with these families does.

    Source: pkg/registry/core/service/storage/alloc.go.
    """
    if text(spec, "type") == "ExternalName":
        return
    headless = text(spec, "clusterIP") == "None" or values(spec, "clusterIPs")[:1] == ["None"]
    selectorless = headless and not spec.get("selector")
    put_absent(spec, ipFamilyPolicy="RequireDualStack" if selectorless else "SingleStack")
    families = [f for f in values(spec, "ipFamilies") if isinstance(f, str)]
    if not families:
        addresses = values(spec, "clusterIPs") or [text(spec, "clusterIP")]
        families = [
            "IPv6" if ":" in address else "IPv4"
            for address in addresses
            if isinstance(address, str) and address not in ("", "None")
        ] or [cluster[0]]
    dual = spec["ipFamilyPolicy"] in ("PreferDualStack", "RequireDualStack")
    if dual and len(families) == 1 and (selectorless or len(cluster) > 1):
        families.append("IPv6" if families[0] == "IPv4" else "IPv4")
    spec["ipFamilies"] = families


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


def patch_allocated(new: Object, old: Object) -> None:
    """What a client leaves out of an update because the server chose it, taken over from the old Service.

    Source: pkg/registry/core/service/storage/storage.go (patchAllocatedValues, defaultOnRead).
    """
    before, after = sub(old, "spec"), child(new, "spec")
    if _needs_cluster_ip(before) and _needs_cluster_ip(after):
        if not after.get("clusterIP"):
            put_absent(after, clusterIP=before.get("clusterIP"))
        if not after.get("clusterIPs") and after.get("clusterIP") == before.get("clusterIP"):
            put_absent(after, clusterIPs=before.get("clusterIPs"))
        if not after.get("ipFamilyPolicy"):
            put_absent(after, ipFamilyPolicy=before.get("ipFamilyPolicy"))
        if not after.get("ipFamilies") and after.get("ipFamilyPolicy") == before.get("ipFamilyPolicy"):
            put_absent(after, ipFamilies=before.get("ipFamilies"))
    if _needs_node_port(before) and _needs_node_port(after):
        _keep_node_ports(after, before)
    if _needs_health_check_port(before) and _needs_health_check_port(after) and not after.get("healthCheckNodePort"):
        put_absent(after, healthCheckNodePort=before.get("healthCheckNodePort"))
    for key in [k for k, v in after.items() if v is None]:
        del after[key]


def _needs_cluster_ip(spec: Object) -> bool:
    return text(spec, "type") in ("ClusterIP", "NodePort", "LoadBalancer")


def _needs_node_port(spec: Object) -> bool:
    return text(spec, "type") == "NodePort" or (
        text(spec, "type") == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
    )


def _needs_health_check_port(spec: Object) -> bool:
    return text(spec, "type") == "LoadBalancer" and text(spec, "externalTrafficPolicy") == "Local"


def _keep_node_ports(after: Object, before: Object) -> None:
    """Ports whose number and protocol have not changed keep their node port."""
    kept = {(p.get("port"), p.get("protocol")): p.get("nodePort") for p in items(before, "ports")}
    used = {p.get("nodePort") for p in items(after, "ports") if p.get("nodePort")}
    for port in items(after, "ports"):
        node_port = kept.get((port.get("port"), port.get("protocol")))
        if not port.get("nodePort") and node_port and node_port not in used:
            port["nodePort"] = node_port
            used.add(node_port)
