"""Ingresses, network policies, address ranges.

Source: pkg/apis/networking/validation/validation.go.
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.registry.objects import items, number, strings, sub, text, values
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.parts import (
    check_address,
    check_names,
    check_network,
    dictionary,
    label_selector,
    must_equal,
    parse_address,
    parse_network,
    unsupported,
)
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required, show, too_long
from machinery.api.meta import Object

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDS = ("/..", "/.")
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")


def ingress(obj: Object) -> list[FieldError]:
    """A new Ingress."""
    errors = _ingress(obj)
    annotated = strings(obj, "metadata", "annotations").get(CLASS_ANNOTATION)
    named = sub(obj, "spec").get("ingressClassName")
    if annotated is not None and isinstance(named, str) and annotated != named:
        detail = "must match `ingressClassName` when both are specified"
        errors.append(invalid(f"annotations.{CLASS_ANNOTATION}", annotated, detail))
    return errors


def ingress_update(new: Object, old: Object) -> list[FieldError]:
    """A change of an Ingress."""
    return _ingress(new)


def _ingress(obj: Object) -> list[FieldError]:
    spec = sub(obj, "spec")
    rules, backend = items(spec, "rules"), dictionary(spec, "defaultBackend")
    errors: list[FieldError] = []
    if not rules and backend is None:
        errors.append(invalid("spec", None, "either `defaultBackend` or `rules` must be specified"))
    if backend is not None:
        errors += _backend("spec.defaultBackend", backend)
    for index, rule in enumerate(rules):
        errors += _rule(f"spec.rules[{index}]", rule)
    for index, tls in enumerate(items(spec, "tls")):
        at = f"spec.tls[{index}]"
        for position, host in enumerate(values(tls, "hosts")):
            if isinstance(host, str):
                errors += _host(f"{at}.hosts[{position}]", host)
        if name := text(tls, "secretName"):
            errors += check_names(f"{at}.secretName", name, names.dns1123_subdomain)
    ingress_class_name = spec.get("ingressClassName")
    if isinstance(ingress_class_name, str):
        errors += check_names("spec.ingressClassName", ingress_class_name, names.dns1123_subdomain)
    return errors


def _host(at: str, host: str) -> list[FieldError]:
    rule = names.wildcard_dns1123_subdomain if "*" in host else names.dns1123_subdomain
    return check_names(at, host, rule)


def _rule(at: str, rule: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if host := text(rule, "host"):
        if parse_address(host):
            errors.append(invalid(f"{at}.host", host, "must be a DNS name, not an IP address"))
        errors += _host(f"{at}.host", host)
    http = dictionary(rule, "http")
    if http is None:
        return errors
    paths = items(http, "paths")
    if not paths:
        errors.append(required(f"{at}.http.paths"))
    for index, path in enumerate(paths):
        errors += _path(f"{at}.http.paths[{index}]", path)
    return errors


def _path(at: str, path: Object) -> list[FieldError]:
    kind, value = path.get("pathType"), text(path, "path")
    if not isinstance(kind, str):
        return [required(f"{at}.pathType", "pathType must be specified")]
    errors: list[FieldError] = []
    if kind in ("Exact", "Prefix"):
        if not value.startswith("/"):
            errors.append(invalid(f"{at}.path", value, "must be an absolute path"))
        errors += [invalid(f"{at}.path", value, f"must not contain '{s}'") for s in _BAD_SEQUENCES if s in value]
        errors += [invalid(f"{at}.path", value, f"cannot end with '{s}'") for s in _BAD_ENDS if value.endswith(s)]
    elif kind == "ImplementationSpecific":
        if value and not value.startswith("/"):
            errors.append(invalid(f"{at}.path", value, "must be an absolute path"))
    else:
        errors.append(unsupported(f"{at}.pathType", kind, _PATH_TYPES))
    return errors + _backend(f"{at}.backend", sub(path, "backend"))


def _backend(at: str, backend: Object) -> list[FieldError]:
    resource, service = dictionary(backend, "resource"), dictionary(backend, "service")
    if resource is not None and service is not None:
        return [invalid(at, "", "cannot set both resource and service backends")]
    if resource is not None:
        return typed_reference(f"{at}.resource", resource)
    if service is None:
        return [invalid(at, "", "resource or service backend is required")]
    name, port = text(service, "name"), sub(service, "port")
    errors = check_names(f"{at}.service.name", name, names.dns1123_label) if name else [required(f"{at}.service.name")]
    named, numbered = text(port, "name"), number(port, "number")
    if named and numbered:
        errors.append(invalid(at, "", "cannot set both port name & port number"))
    elif named:
        errors += check_names(f"{at}.service.port.name", named, names.port_name)
    elif numbered:
        errors += [invalid(f"{at}.service.port.number", numbered, m) for m in names.port_number(numbered)]
    else:
        errors.append(required(at, "port name or number is required"))
    return errors


def typed_reference(at: str, reference: Object) -> list[FieldError]:
    """A reference to an object by group, kind and name."""
    errors: list[FieldError] = []
    group = reference.get("apiGroup")
    if isinstance(group, str):
        errors += check_names(f"{at}.apiGroup", group, names.dns1123_subdomain)
    for key in ("kind", "name"):
        value = text(reference, key)
        errors += check_names(f"{at}.{key}", value, names.path_segment) if value else [required(f"{at}.{key}")]
    return errors


def ingress_status(new: Object, old: Object) -> list[FieldError]:
    """A report about an Ingress."""
    errors: list[FieldError] = []
    for index, entry in enumerate(items(new, "status", "loadBalancer", "ingress")):
        at = f"status.loadBalancer.ingress[{index}]"
        if address := text(entry, "ip"):
            errors += check_address(f"{at}.ip", address)
        if host := text(entry, "hostname"):
            errors += check_names(f"{at}.hostname", host, names.dns1123_subdomain)
            if parse_address(host):
                errors.append(invalid(f"{at}.hostname", host, "must be a DNS name, not an IP address"))
    return errors


def ingress_class(obj: Object) -> list[FieldError]:
    """An IngressClass."""
    controller = text(obj, "spec", "controller")
    errors: list[FieldError] = []
    if len(controller.encode()) > 250:
        errors.append(too_long("spec.controller", 250))
    errors += (
        check_names("spec.controller", controller, names.domain_prefixed_path)
        if controller
        else [required("spec.controller")]
    )
    parameters = dictionary(obj, "spec", "parameters")
    if parameters is None:
        return errors
    at = "spec.parameters"
    errors += typed_reference(at, parameters)
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    if not isinstance(scope, str):
        return [*errors, required(f"{at}.scope")]
    if scope not in ("Cluster", "Namespace"):
        return [*errors, unsupported(f"{at}.scope", scope, ("Cluster", "Namespace"))]
    told = f"`parameters.scope` is set to '{scope}'"
    if isinstance(namespace, str):
        if scope == "Cluster":
            errors.append(forbidden(f"{at}.namespace", told))
        else:
            errors += check_names(f"{at}.namespace", namespace, names.dns1123_label)
    elif scope == "Namespace":
        errors.append(required(f"{at}.namespace", told))
    return errors


def ingress_class_update(new: Object, old: Object) -> list[FieldError]:
    """A change of an IngressClass: its controller stays."""
    controllers = (text(obj, "spec", "controller") for obj in (new, old))
    return must_equal("spec.controller", *controllers) + ingress_class(new)


_PROTOCOLS = ("TCP", "UDP", "SCTP")


def network_policy(obj: Object) -> list[FieldError]:
    """A NetworkPolicy."""
    spec = sub(obj, "spec")
    errors = label_selector("spec.podSelector", spec.get("podSelector"))
    for kind, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(items(spec, kind)):
            at = f"spec.{kind}[{index}]"
            for position, port in enumerate(items(rule, "ports")):
                errors += _policy_port(f"{at}.ports[{position}]", port)
            for position, peer in enumerate(items(rule, peers)):
                errors += _peer(f"{at}.{peers}[{position}]", peer)
    types = values(spec, "policyTypes")
    if len(types) > 2:
        return [*errors, invalid("spec.policyTypes", types, "may not specify more than two policyTypes")]
    allowed = ("Ingress", "Egress")
    return errors + [unsupported(f"spec.policyTypes[{i}]", t, allowed) for i, t in enumerate(types) if t not in allowed]


def network_policy_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a NetworkPolicy: upstream looks at it as at a new one first, and then once more."""
    return network_policy(new) * 2


def _policy_port(at: str, entry: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    protocol, port, end = entry.get("protocol"), entry.get("port"), entry.get("endPort")
    if protocol is not None and protocol not in _PROTOCOLS:
        errors.append(unsupported(f"{at}.protocol", protocol, _PROTOCOLS))
    if isinstance(port, str):
        if end is not None:
            errors.append(invalid(f"{at}.endPort", end, "may not be specified when `port` is non-numeric"))
        return errors + check_names(f"{at}.port", port, names.port_name)
    if port is None:
        if end is not None:
            errors.append(invalid(f"{at}.endPort", end, "may not be specified when `port` is not specified"))
        return errors
    errors += [invalid(f"{at}.port", port, message) for message in names.port_number(port)]
    if isinstance(end, int):
        if end < port:
            errors.append(invalid(f"{at}.endPort", port, "must be greater than or equal to `port`"))
        errors += [invalid(f"{at}.endPort", end, message) for message in names.port_number(end)]
    return errors


def _peer(at: str, peer: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    count = 0
    for key in ("podSelector", "namespaceSelector"):
        if isinstance(peer.get(key), dict):
            count += 1
            errors += label_selector(f"{at}.{key}", peer[key])
    block = dictionary(peer, "ipBlock")
    if block is not None:
        count += 1
        errors += _block(f"{at}.ipBlock", block)
    if not count:
        errors.append(required(at, "must specify a peer"))
    elif count > 1 and block is not None:
        errors.append(forbidden(at, "may not specify both ipBlock and another peer"))
    return errors


def _block(at: str, block: Object) -> list[FieldError]:
    cidr = text(block, "cidr")
    if not cidr:
        return [required(f"{at}.cidr")]
    errors = check_network(f"{at}.cidr", cidr)
    whole = parse_network(cidr)
    if whole is None:
        return errors
    for index, excepted in enumerate(values(block, "except")):
        where = f"{at}.except[{index}]"
        part = parse_network(excepted)
        errors += check_network(where, str(excepted))
        if part is not None and not _within(part, whole):
            errors.append(invalid(where, excepted, "must be a strict subset of `cidr`"))
    return errors


def _within(part: Any, whole: Any) -> bool:
    return bool(part.version == whole.version and part.prefixlen > whole.prefixlen and part.subnet_of(whole))


def service_cidr(obj: Object) -> list[FieldError]:
    """A ServiceCIDR."""
    at = "spec.cidrs"
    ranges = [v for v in values(obj, "spec", "cidrs") if isinstance(v, str)]
    if not ranges:
        return [required(at, "at least one CIDR required")]
    if len(ranges) > 2:
        return [invalid(at, {"CIDRs": ranges}, "may only hold up to 2 values")]
    networks = [parse_network(r) for r in ranges]
    if len(ranges) == 2 and {n.version for n in networks if n} != {4, 6}:
        detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        return [invalid(at, {"CIDRs": ranges}, detail)]
    errors: list[FieldError] = []
    for index, (found, network) in enumerate(zip(ranges, networks, strict=True)):
        wrong = check_network(f"{at}[{index}]", found)
        if wrong:
            errors += wrong
        elif str(network) != found:
            detail = f'must be in canonical form ("{network}")'
            errors.append(invalid(f"{at}[{index}]", found, detail))
    return errors


def service_cidr_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a ServiceCIDR: a second family may be added."""
    whole = service_cidr(new)
    now, was = values(new, "spec", "cidrs"), values(old, "spec", "cidrs")
    if len(now) != len(was) and (len(was), len(now)) != (1, 2):
        return [*whole, invalid("spec.cidrs", now, "field is immutable")]
    errors = whole
    for index, (found, before) in enumerate(zip(now, was, strict=False)):
        errors = errors + must_equal(f"spec.cidrs[{index}]", found, before)
    return errors if len(now) == len(was) else errors + whole


def address_name(name: str) -> list[str]:
    """The name of an IPAddress: the address itself, canonically."""
    found = parse_address(name)
    wrong = check_address("", name)
    if wrong or found is None:
        return [error.body.rpartition(f"{show(name)}: ")[2] for error in wrong]
    return [] if str(found) == name else [f'must be in canonical form ("{found}")']


def ip_address(obj: Object) -> list[FieldError]:
    """An IPAddress."""
    parent = dictionary(obj, "spec", "parentRef")
    at = "spec.parentRef"
    if parent is None:
        return [required(at)]
    errors: list[FieldError] = []
    if group := text(parent, "group"):
        errors += check_names(f"{at}.group", group, names.dns1123_subdomain)
    resource, name = text(parent, "resource"), text(parent, "name")
    errors += check_names(f"{at}.resource", resource, names.path_segment) if resource else [required(f"{at}.resource")]
    errors += check_names(f"{at}.name", name, names.path_segment) if name else [required(f"{at}.name")]
    if namespace := text(parent, "namespace"):
        errors += check_names(f"{at}.namespace", namespace, names.path_segment)
    return errors


def ip_address_update(new: Object, old: Object) -> list[FieldError]:
    """A change of an IPAddress: whose it is stays."""
    after, before = (internal_forms.parent(sub(obj, "spec").get("parentRef")) for obj in (new, old))
    return ip_address(new) + must_equal("spec.parentRef", after, before)
