"""Endpoints, EndpointSlices, Events and Leases.

Source: pkg/apis/core/validation/validation.go and events.go; pkg/apis/discovery, coordination validation.
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import integer, items, number, strings, sub, text, values
from controlplane.apiserver.registry.validation.parts import (
    check_address,
    check_names,
    label_map,
    must_equal,
    not_negative,
    parse_address,
    repeated,
    same,
    unspecial_address,
    unsupported,
)
from controlplane.apiserver.registry.validation.services import protocol
from machinery.api import names
from machinery.api.fielderror import FieldError, invalid, required, too_many
from machinery.api.meta import Object, namespace_of


def endpoints(obj: Object) -> list[FieldError]:
    """Endpoints."""
    errors: list[FieldError] = []
    for index, subset in enumerate(items(obj, "subsets")):
        at = f"subsets[{index}]"
        if not items(subset, "addresses") and not items(subset, "notReadyAddresses"):
            errors.append(required(at, "must specify `addresses` or `notReadyAddresses`"))
        for kind in ("addresses", "notReadyAddresses"):
            for position, address in enumerate(items(subset, kind)):
                errors += _address(f"{at}.{kind}[{position}]", address)
        ports = items(subset, "ports")
        for position, port in enumerate(ports):
            errors += _port(f"{at}.ports[{position}]", port, needs_name=len(ports) > 1)
    return errors


def _address(at: str, address: Object) -> list[FieldError]:
    errors = check_address(f"{at}.ip", text(address, "ip"))
    if name := text(address, "hostname"):
        errors += check_names(f"{at}.hostname", name, names.dns1123_label)
    node = address.get("nodeName")
    if isinstance(node, str):
        errors += check_names(f"{at}.nodeName", node, names.dns1123_subdomain)
    return errors or unspecial_address(f"{at}.ip", text(address, "ip"))


def _port(at: str, port: Object, *, needs_name: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    name = text(port, "name")
    if needs_name and not name:
        errors.append(required(f"{at}.name"))
    elif name:
        errors += check_names(f"{at}.name", name, names.dns1123_label)
    errors += [invalid(f"{at}.port", number(port, "port"), m) for m in names.port_number(number(port, "port"))]
    errors += protocol(f"{at}.protocol", text(port, "protocol"))
    application = port.get("appProtocol")
    if isinstance(application, str):
        errors += check_names(f"{at}.appProtocol", application, names.qualified_name)
    return errors


ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")


def endpoint_slice(obj: Object) -> list[FieldError]:
    """An EndpointSlice."""
    kind = text(obj, "addressType")
    errors: list[FieldError] = []
    if not kind:
        errors.append(required("addressType"))
    elif kind not in ADDRESS_TYPES:
        errors.append(unsupported("addressType", kind, ADDRESS_TYPES))
    return errors + _slice_endpoints(items(obj, "endpoints"), kind) + _slice_ports(items(obj, "ports"))


def _slice_endpoints(found: list[Object], kind: str) -> list[FieldError]:
    if len(found) > 1000:
        return [too_many("endpoints", len(found), 1000)]
    errors: list[FieldError] = []
    for index, endpoint in enumerate(found):
        at = f"endpoints[{index}]"
        addresses = [a for a in values(endpoint, "addresses") if isinstance(a, str)]
        if not addresses:
            errors.append(required(f"{at}.addresses", "must contain at least 1 address"))
        elif len(addresses) > 100:
            errors.append(too_many(f"{at}.addresses", len(addresses), 100))
        for position, address in enumerate(addresses):
            errors += _slice_address(f"{at}.addresses[{position}]", address, kind)
        node, hostname = endpoint.get("nodeName"), endpoint.get("hostname")
        if isinstance(node, str):
            errors += check_names(f"{at}.nodeName", node, names.dns1123_subdomain)
        topology = strings(endpoint, "deprecatedTopology")
        if len(topology) > 16:
            errors.append(too_many(f"{at}.deprecatedTopology", len(topology), 16))
        errors += label_map(f"{at}.deprecatedTopology", topology)
        if isinstance(hostname, str):
            errors += check_names(f"{at}.hostname", hostname, names.dns1123_label)
        errors += _hints(f"{at}.hints", sub(endpoint, "hints"))
    return errors


def _slice_address(at: str, address: str, kind: str) -> list[FieldError]:
    if kind == "FQDN":
        return check_names(at, address, names.fully_qualified_domain_name) if address else [required(at)]
    if kind not in ("IPv4", "IPv6"):
        return []
    found = parse_address(address)
    if found is None or f"IPv{found.version}" != kind:
        return [invalid(at, address, f"must be a valid {kind} address")] + (
            unspecial_address(at, address) if kind == "IPv4" or found is None else []
        )
    return unspecial_address(at, address)


def _hints(at: str, hints: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("forZones", "forNodes"):
        found = items(hints, key)
        if len(found) > 8:
            return [*errors, too_many(f"{at}.{key}", len(found), 8)]
        seen: set[str] = set()
        for index, entry in enumerate(found):
            name = text(entry, "name")
            if name in seen:
                errors.append(repeated(f"{at}.{key}[{index}].name", name))
            seen.add(name)
            rule = names.label_value if key == "forZones" else names.dns1123_subdomain
            errors += check_names(f"{at}.{key}[{index}].name", name, rule)
    return errors


def _slice_ports(ports: list[Object]) -> list[FieldError]:
    if len(ports) > 20000:
        return [too_many("ports", len(ports), 20000)]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        at = f"ports[{index}]"
        name = text(port, "name")
        if name:
            errors += check_names(f"{at}.name", name, names.dns1123_label)
        if name in seen:
            errors.append(repeated(f"{at}.name", name))
        seen.add(name)
        found = integer(port, "port")
        if found is not None:
            errors += [invalid(f"{at}.port", found, m) for m in names.port_number(found)]
        errors += protocol(f"{at}.protocol", text(port, "protocol"))
        application = port.get("appProtocol")
        if isinstance(application, str):
            errors += check_names(f"{at}.appProtocol", application, names.qualified_name)
    return errors


def endpoint_slice_update(new: Object, old: Object) -> list[FieldError]:
    """A change of an EndpointSlice."""
    return endpoint_slice(new) + must_equal("addressType", new.get("addressType"), old.get("addressType"))


_DISAGREE = "does not match event.namespace"


def _event_namespace(event: Object, involved: str) -> list[FieldError]:
    space = text(event, involved, "namespace")
    own = namespace_of(event)
    errors: list[FieldError] = []
    if (not space and own not in ("", "default")) or (space and space != own):
        errors.append(invalid("involvedObject.namespace", space, _DISAGREE))
    return errors + ([invalid("namespace", own, m) for m in names.dns1123_subdomain(own)] if own else [])


def _reported(event: Object, controller: str, message: str) -> list[FieldError]:
    """Who reports what: demanded of events that carry eventTime."""
    if not text(event, "eventTime"):
        return []
    errors: list[FieldError] = []
    name = text(event, controller)
    if not name:
        errors.append(required(controller))
    errors += check_names(controller, name, names.qualified_name)
    for key in ("reportingInstance", "action", "reason"):
        value = text(event, key)
        if not value:
            errors.append(required(key))
        elif len(value.encode("utf-8", "surrogatepass")) > 128:
            errors.append(invalid(key, "", "can have at most 128 characters"))
    if len(text(event, message).encode("utf-8", "surrogatepass")) > 1024:
        errors.append(invalid("message", "", "can have at most 1024 characters"))
    return errors


def event(obj: Object) -> list[FieldError]:
    """An Event of the core group."""
    return _event_namespace(obj, "involvedObject") + _reported(obj, "reportingComponent", "message")


def event_k8s_io(obj: Object) -> list[FieldError]:
    """An Event of events.k8s.io."""
    errors = _event_namespace(obj, "regarding") + _reported(obj, "reportingController", "note")
    errors += _series(obj)
    if not text(obj, "eventTime"):
        errors.append(required("eventTime"))
    kind = text(obj, "type")
    if kind not in ("Normal", "Warning"):
        errors.append(invalid("type", "", f"has invalid value: {kind}"))
    unset = "needs to be unset"
    for key, name in (("deprecatedFirstTimestamp", "firstTimestamp"), ("deprecatedLastTimestamp", "lastTimestamp")):
        if obj.get(key) is not None:
            errors.append(invalid(name, "", unset))
    if number(obj, "deprecatedCount"):
        errors.append(invalid("count", "", unset))
    if text(obj, "deprecatedSource", "component") or text(obj, "deprecatedSource", "host"):
        errors.append(invalid("source", "", unset))
    return errors


def _series(obj: Object) -> list[FieldError]:
    series = obj.get("series")
    if not isinstance(series, dict):
        return []
    errors: list[FieldError] = []
    if number(series, "count") < 2:
        errors.append(invalid("series.count", "", "should be at least 2"))
    if not text(series, "lastObservedTime"):
        errors.append(required("series.lastObservedTime"))
    return errors


_EVENT_FIELDS = (
    ("regarding", "involvedObject"),
    ("reason", "reason"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingController", "reportingController"),
    ("reportingInstance", "reportingInstance"),
)


def event_k8s_io_update(new: Object, old: Object) -> list[FieldError]:
    """A change of an Event: only its series moves on."""
    errors = _event_namespace(new, "regarding") + _series(new)
    for key, name in _EVENT_FIELDS:
        if not same(new.get(key), old.get(key)):
            errors.append(invalid(name, new.get(key), "field is immutable"))
    return errors


def lease(obj: Object) -> list[FieldError]:
    """A Lease."""
    spec = sub(obj, "spec")
    errors: list[FieldError] = []
    duration = integer(spec, "leaseDurationSeconds")
    if duration is not None and duration <= 0:
        errors.append(invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    errors += not_negative("spec.leaseTransitions", spec.get("leaseTransitions"))
    strategy = spec.get("strategy")  # holderIdentity may be empty: a leader gives a lease up by that
    if isinstance(strategy, str) and strategy:
        errors += check_names("spec.strategy", strategy, _strategy_name)
    preferred = spec.get("preferredHolder")
    if isinstance(preferred, str) and preferred and not strategy:
        errors.append(invalid("spec.preferredHolder", preferred, "can only be specified when strategy is defined"))
    return errors


def _strategy_name(value: str) -> list[str]:
    return [] if value == "OldestEmulationVersion" else names.qualified_name(value)
