"""Linked fields of Services: addresses in the singular and plural, families, what the server chose before.

Source: pkg/registry/core/service/strategy.go (NormalizeClusterIPs, dropTypeDependentFields), storage/alloc.go,
storage/storage.go (patchAllocatedValues).
"""

from __future__ import annotations

from controlplane.apiserver.registry.defaults.services import externally_accessible
from controlplane.apiserver.registry.objects import child, items, number, put_absent, sub, text, values
from machinery.api.meta import Object


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
        inferred = [
            "IPv6" if ":" in address else "IPv4"
            for address in addresses
            if isinstance(address, str) and address not in ("", "None")
        ]
        families = list(dict.fromkeys(inferred)) or [cluster[0]]
    dual = spec["ipFamilyPolicy"] in ("PreferDualStack", "RequireDualStack")
    if dual and len(families) == 1 and (selectorless or len(cluster) > 1):
        families.append("IPv6" if families[0] == "IPv4" else "IPv4")
    spec["ipFamilies"] = families


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


def normalise_addresses(new: Object, old: Object | None) -> None:
    """Divine what was meant where only one of `clusterIP` and `clusterIPs` was given, in place."""
    after = child(new, "spec")
    address, addresses = text(after, "clusterIP"), values(after, "clusterIPs")
    if old is None:
        if address and not addresses:
            after["clusterIPs"] = [address]
        return
    before = sub(old, "spec")
    was, were = text(before, "clusterIP"), values(before, "clusterIPs")
    if were and not addresses and address == was:
        after["clusterIPs"] = list(were)
    if address != was and values(after, "clusterIPs") == were:
        if address:
            after["clusterIPs"] = [address]
        else:
            after.pop("clusterIPs", None)


def drop_by_type(new: Object, old: Object) -> None:
    """Take out what a Service of its new type has no use for, where the client has not touched it, in place."""
    after, before = child(new, "spec"), sub(old, "spec")

    def drop(*keys: str) -> None:
        for key in keys:
            if after.get(key) == before.get(key):
                after.pop(key, None)

    if _needs_cluster_ip(before) and not _needs_cluster_ip(after):
        if values(after, "clusterIPs") == values(before, "clusterIPs"):
            drop("clusterIP", "clusterIPs")
        drop("ipFamilyPolicy", "ipFamilies", "internalTrafficPolicy")
    if _needs_node_port(before) and not _needs_node_port(after) and _node_ports(after) == _node_ports(before):
        for port in items(after, "ports"):
            port.pop("nodePort", None)
    if _needs_health_check_port(before) and not _needs_health_check_port(after):
        drop("healthCheckNodePort")
    if text(before, "type") == "LoadBalancer" != text(after, "type"):
        drop("allocateLoadBalancerNodePorts", "loadBalancerClass")
    if externally_accessible(before) and not externally_accessible(after):
        drop("externalTrafficPolicy")


def _node_ports(spec: Object) -> list[int]:
    return [number(port, "nodePort") for port in items(spec, "ports")]
