"""Services.

Source: pkg/apis/core/validation/validation.go (ValidateService, ValidateServiceUpdate, ValidateLoadBalancerStatus).
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.registry.defaults.services import externally_accessible
from controlplane.apiserver.registry.objects import integer, items, number, strings, sub, text, values
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.containers import PROTOCOLS
from controlplane.apiserver.registry.validation.parts import (
    check_address,
    check_names,
    check_network,
    dictionary,
    label_map,
    parse_address,
    repeated,
    unspecial_address,
    unsupported,
)
from controlplane.apiserver.registry.validation.probes import port_or_name
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_ONLY_LOAD_BALANCER = "may only be used when `type` is 'LoadBalancer'"
_RANGES_ANNOTATION = "service.beta.kubernetes.io/load-balancer-source-ranges"
_HINTS, _MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"
_MOST_AFFINITY_SECONDS = 86400


def _strings(obj: Object, *path: str) -> list[str]:
    return [v for v in values(obj, *path) if isinstance(v, str)]


def is_headless(spec: Object) -> bool:
    """Whether a Service has backends but no address."""
    return _strings(spec, "clusterIPs") == ["None"]


def service(obj: Object) -> list[FieldError]:
    """A Service."""
    spec = sub(obj, "spec")
    errors = _annotations(strings(obj, "metadata", "annotations"))
    kind, ports = text(spec, "type"), items(spec, "ports")
    if not ports and not is_headless(spec) and kind != "ExternalName":
        errors.append(required("spec.ports"))
    errors += _by_type(spec, kind)
    seen: set[str] = set()
    for index, port in enumerate(ports):
        errors += _port(f"spec.ports[{index}]", port, seen, needs_name=len(ports) > 1)
    errors += label_map("spec.selector", strings(spec, "selector"))
    errors += _affinity(spec)
    errors += _cluster_addresses(spec)
    for index, address in enumerate(_strings(spec, "externalIPs")):
        at = f"spec.externalIPs[{index}]"
        errors += check_address(at, address) or unspecial_address(at, address)
    if not kind:
        errors.append(required("spec.type"))
    elif kind not in TYPES:
        errors.append(unsupported("spec.type", kind, TYPES))
    errors += _unique_ports(ports, kind)
    errors += _load_balancer(obj, spec, kind)
    return errors + _policies(spec, kind)


def _annotations(found: dict[str, str]) -> list[FieldError]:
    if _HINTS in found and _MODE in found and found[_HINTS] != found[_MODE]:
        detail = f"must match annotations[{_HINTS}] when both are specified"
        return [invalid(f"metadata.annotations[{_MODE}]", found[_MODE], detail)]
    return []


def _by_type(spec: Object, kind: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if kind in ("LoadBalancer", "NodePort") and is_headless(spec):
        errors.append(invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    if kind != "ExternalName":
        return errors
    errors += [
        forbidden(f"spec.{key}", "may not be set for ExternalName services")
        for key in ("clusterIPs", "ipFamilies")
        if values(spec, key)
    ]
    if spec.get("ipFamilyPolicy") is not None:
        errors.append(forbidden("spec.ipFamilyPolicy", "may not be set for ExternalName services"))
    name = text(spec, "externalName").removesuffix(".")
    if name:
        return errors + check_names("spec.externalName", name, names.dns1123_subdomain)
    return [*errors, required("spec.externalName")]


def _port(at: str, port: Object, seen: set[str], *, needs_name: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    name = text(port, "name")
    if needs_name and not name:
        errors.append(required(f"{at}.name"))
    elif name:
        errors += check_names(f"{at}.name", name, names.dns1123_label)
        if name in seen:
            errors.append(repeated(f"{at}.name", name))
        seen.add(name)
    errors += [invalid(f"{at}.port", number(port, "port"), m) for m in names.port_number(number(port, "port"))]
    errors += protocol(f"{at}.protocol", text(port, "protocol"))
    errors += port_or_name(f"{at}.targetPort", port.get("targetPort"))
    application = port.get("appProtocol")
    if isinstance(application, str):
        errors += check_names(f"{at}.appProtocol", application, names.qualified_name)
    return errors


def protocol(at: str, value: str) -> list[FieldError]:
    """A protocol that ports can have."""
    if not value:
        return [required(at)]
    return [] if value in PROTOCOLS else [unsupported(at, value, PROTOCOLS)]


def _affinity(spec: Object) -> list[FieldError]:
    affinity, config = text(spec, "sessionAffinity"), dictionary(spec, "sessionAffinityConfig")
    at = "spec.sessionAffinityConfig"
    if not affinity:
        return [required("spec.sessionAffinity")]
    if affinity not in ("ClientIP", "None"):
        return [unsupported("spec.sessionAffinity", affinity, ("ClientIP", "None"))]
    if affinity == "None":
        detail = "must not be set when session affinity is None"
        return [] if config is None else [forbidden(at, detail)]
    detail = "when session affinity type is ClientIP"
    if config is None:
        return [required(at, detail)]
    if not isinstance(config.get("clientIP"), dict):
        return [required(f"{at}.clientIP", detail)]
    seconds = integer(config, "clientIP", "timeoutSeconds")
    if seconds is None:
        return [required(f"{at}.clientIP.timeoutSeconds", detail)]
    if not 0 < seconds <= _MOST_AFFINITY_SECONDS:
        detail = f"must be greater than 0 and less than {_MOST_AFFINITY_SECONDS}"
        return [invalid(f"{at}.clientIP.timeoutSeconds", seconds, detail)]
    return []


_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")


def _cluster_addresses(spec: Object) -> list[FieldError]:
    if text(spec, "type") == "ExternalName":
        return []
    at = "spec.clusterIPs"
    first, addresses, families = text(spec, "clusterIP"), _strings(spec, "clusterIPs"), _strings(spec, "ipFamilies")
    errors: list[FieldError] = []
    if first:
        if not addresses:
            errors.append(required(at))
        elif addresses[0] != first:
            errors.append(invalid(at, addresses, "first value must match `clusterIP`"))
    elif addresses:
        errors.append(invalid(at, addresses, "must be empty when `clusterIP` is not specified"))
    errors += _families(families, spec.get("ipFamilyPolicy"))
    broken = False
    for index, address in enumerate(addresses):
        if address == "None" and not index:
            if len(addresses) > 1:
                broken = True
                errors.append(invalid(at, addresses, "'None' must be the first and only value"))
            continue
        wrong = check_address(f"{at}[{index}]", address)
        broken = broken or bool(wrong)
        errors += wrong
    if len(addresses) > 2:
        errors.append(invalid(at, addresses, "may only hold up to 2 values"))
    if broken:
        return errors
    versions = [a.version for a in map(parse_address, addresses) if a]
    if len(addresses) > 1 and len(set(versions)) < 2:
        errors.append(invalid(at, addresses, "may specify no more than one IP for each IP family"))
    if first != "None":
        for index, (version, family) in enumerate(zip(versions, families, strict=False)):
            if f"IPv{version}" != family and family in ("IPv4", "IPv6"):
                detail = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
                errors.append(invalid(f"{at}[{index}]", addresses[index], detail))
    return errors


def _families(families: list[str], policy: Any) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, family in enumerate(families):
        if family not in ("IPv4", "IPv6"):
            errors.append(unsupported(f"spec.ipFamilies[{index}]", family, ("IPv4", "IPv6")))
        elif family in seen:
            errors.append(repeated(f"spec.ipFamilies[{index}]", family))
        seen.add(family)
    if isinstance(policy, str) and policy not in _FAMILY_POLICIES:
        errors.append(unsupported("spec.ipFamilyPolicy", policy, _FAMILY_POLICIES))
    return errors


def _unique_ports(ports: list[Object], kind: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if kind == "ClusterIP":
        detail = "may not be used when `type` is 'ClusterIP'"
        errors += [
            forbidden(f"spec.ports[{i}].nodePort", detail) for i, port in enumerate(ports) if number(port, "nodePort")
        ]
    outside: set[tuple[str, int]] = set()
    inside: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        node_port = (text(port, "protocol"), number(port, "nodePort"))
        if node_port[1] and node_port in outside:
            errors.append(repeated(f"spec.ports[{index}].nodePort", node_port[1]))
        outside.add(node_port)
    for index, port in enumerate(ports):
        key = (text(port, "protocol"), number(port, "port"))
        if key in inside:
            shown = {"protocol": key[0], "port": key[1], "targetPort": 0}
            errors.append(repeated(f"spec.ports[{index}]", internal_forms.service_port(shown)))
        inside.add(key)
    return errors


def _load_balancer(obj: Object, spec: Object, kind: str) -> list[FieldError]:
    errors: list[FieldError] = []
    ranges = _strings(spec, "loadBalancerSourceRanges")
    annotated = strings(obj, "metadata", "annotations").get(_RANGES_ANNOTATION)
    if ranges:
        if kind != "LoadBalancer":
            errors.append(forbidden("spec.LoadBalancerSourceRanges", _ONLY_LOAD_BALANCER))
        for index, found in enumerate(ranges):
            errors += check_network(f"spec.LoadBalancerSourceRanges[{index}]", found.strip())
    elif annotated is not None:
        at = f"metadata.annotations[{_RANGES_ANNOTATION}]"
        if kind != "LoadBalancer":
            errors.append(forbidden(at, _ONLY_LOAD_BALANCER))
        for found in filter(None, annotated.strip().split(",")):
            errors += check_network(at, found.strip())
    allocates = spec.get("allocateLoadBalancerNodePorts")
    if allocates is not None and kind != "LoadBalancer":
        errors.append(forbidden("spec.allocateLoadBalancerNodePorts", _ONLY_LOAD_BALANCER))
    elif allocates is None and kind == "LoadBalancer":
        errors.append(required("allocateLoadBalancerNodePorts"))
    return errors + _load_balancer_class(spec)


def _load_balancer_class(spec: Object) -> list[FieldError]:
    found, at = spec.get("loadBalancerClass"), "spec.loadBalancerClass"
    if not isinstance(found, str):
        return []
    if text(spec, "type") != "LoadBalancer":
        return [forbidden(at, _ONLY_LOAD_BALANCER)]
    return check_names(at, found, names.qualified_name)


def _policies(spec: Object, kind: str) -> list[FieldError]:
    errors: list[FieldError] = []
    outside, inside = text(spec, "externalTrafficPolicy"), spec.get("internalTrafficPolicy")
    at = "spec.externalTrafficPolicy"
    if not externally_accessible(spec):
        if outside:
            errors.append(invalid(at, outside, "may only be set for externally-accessible services"))
    elif not outside:
        errors.append(required(at))
    elif outside not in ("Cluster", "Local"):
        errors.append(unsupported(at, outside, ("Cluster", "Local")))
    port = number(spec, "healthCheckNodePort")
    if not _checked(spec):
        if port:
            detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            errors.append(invalid("spec.healthCheckNodePort", port, detail))
    elif port:
        errors += [invalid("spec.healthCheckNodePort", port, m) for m in names.port_number(port)]
    if inside is None:
        if kind in ("ClusterIP", "NodePort", "LoadBalancer"):
            errors.append(required("spec.internalTrafficPolicy"))
    elif inside not in ("Cluster", "Local"):
        errors.append(unsupported("spec.internalTrafficPolicy", inside, ("Cluster", "Local")))
    distribution = spec.get("trafficDistribution")
    allowed = ("PreferClose", "PreferSameNode", "PreferSameZone")
    if isinstance(distribution, str) and distribution not in allowed:
        errors.append(unsupported("spec.trafficDistribution", distribution, allowed))
    return errors


_ONCE = "may not change once set"


def service_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a Service: its first address and family stay."""
    after, before = sub(new, "spec"), sub(old, "spec")
    errors: list[FieldError] = []
    if "ExternalName" not in (text(after, "type"), text(before, "type")):
        headless = (is_headless(after), is_headless(before))
        if not all(headless):
            errors += _addresses_kept(after, before)
        if not any(headless):
            errors += _families_kept(after, before)
    key = "loadBalancerClass"
    if text(after, "type") == text(before, "type") == "LoadBalancer" and after.get(key) != before.get(key):
        errors.append(invalid(f"spec.{key}", after.get(key), _ONCE))
    errors += _load_balancer_class(after)
    key = "healthCheckNodePort"
    if _checked(after) and _checked(before) and number(after, key) != number(before, key):
        errors.append(forbidden(f"spec.{key}", "field is immutable"))
    return errors + service(new)


def _checked(spec: Object) -> bool:
    """Whether load balancers ask nodes if they have backends."""
    return text(spec, "type") == "LoadBalancer" and text(spec, "externalTrafficPolicy") == "Local"


def _addresses_kept(after: Object, before: Object) -> list[FieldError]:
    now, was = _strings(after, "clusterIPs"), _strings(before, "clusterIPs")
    at = "spec.clusterIPs"
    if len(now) == len(was):
        return [invalid(f"{at}[{i}]", now, _ONCE) for i, value in enumerate(was) if value != now[i]]
    errors: list[FieldError] = []
    if was and not now:
        errors.append(invalid(f"{at}[0]", None, "primary clusterIP can not be unset"))
    elif was and now[0] != was[0]:
        errors.append(invalid(f"{at}[0]", now, _ONCE))
    return errors + _released(after, "clusterIP", now, was)


def _families_kept(after: Object, before: Object) -> list[FieldError]:
    now, was = _strings(after, "ipFamilies"), _strings(before, "ipFamilies")
    at, addresses = "spec.ipFamilies[0]", _strings(after, "clusterIPs") or None
    if len(now) == len(was):
        return [invalid(at, now, _ONCE) for i, value in enumerate(was) if value != now[i]]
    errors: list[FieldError] = []
    if len(was) > len(now) and not addresses:
        errors.append(invalid(at, now or None, "primary ipFamily can not be unset"))
    if was and now and now[0] != was[0]:
        errors.append(invalid(at, addresses, _ONCE))  # upstream shows the addresses
    return errors + _released(after, "ipFamily", now, was)


def _released(after: Object, word: str, now: list[str], was: list[str]) -> list[FieldError]:
    if len(now) != 1 or len(was) < 2 or after.get("ipFamilyPolicy") == "SingleStack":
        return []
    detail = f"must be set to 'SingleStack' when releasing the secondary {word}"
    return [invalid("spec.ipFamilyPolicy", after.get("ipFamilyPolicy"), detail)]


def service_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a Service."""
    return load_balancer_status(
        "status.loadBalancer", sub(new, "status", "loadBalancer"), text(new, "spec", "type") == "LoadBalancer"
    )


def load_balancer_status(at: str, status: Object, allowed: bool) -> list[FieldError]:
    """Where a load balancer takes traffic in."""
    found = items(status, "ingress")
    if found and not allowed:
        return [forbidden(f"{at}.ingress", "may only be used when `spec.type` is 'LoadBalancer'")]
    errors: list[FieldError] = []
    for index, ingress in enumerate(found):
        where = f"{at}.ingress[{index}]"
        address, mode = text(ingress, "ip"), ingress.get("ipMode")
        if address:
            errors += check_address(f"{where}.ip", address)
        if mode is None and address:
            errors.append(required(f"{where}.ipMode", "must be specified when `ip` is set"))
        elif mode is not None and not address:
            errors.append(forbidden(f"{where}.ipMode", "may not be specified when `ip` is not set"))
        elif mode is not None and mode not in ("Proxy", "VIP"):
            errors.append(unsupported(f"{where}.ipMode", mode, ("Proxy", "VIP")))
        if name := text(ingress, "hostname"):
            errors += check_names(f"{where}.hostname", name, names.dns1123_subdomain)
            if parse_address(name):
                errors.append(invalid(f"{where}.hostname", name, "must be a DNS name, not an IP address"))
    return errors
