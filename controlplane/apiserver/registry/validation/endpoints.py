"""Endpoints, EndpointSlices, Events and Leases.

Source: pkg/apis/core/validation/validation.go and events.go; pkg/apis/discovery, coordination validation.
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.apiserver.registry.objects import integer, items, number, strings, sub, text, values
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.parts import (
    check_address,
    check_names,
    label_map,
    must_equal,
    not_negative,
    parse_address,
    repeated,
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
    return errors + unspecial_address(f"{at}.ip", text(address, "ip"))


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
    return check_address(at, address) + unspecial_address(at, address)


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


def _event_namespace(event: Object) -> list[FieldError]:
    space, own = text(event, "involvedObject", "namespace"), namespace_of(event)
    if text(event, "eventTime"):
        wrong = not space and own not in ("default", "kube-system")
    else:
        wrong = (not space and own not in ("", "default")) or (space not in ("", own))
    errors = [invalid("involvedObject.namespace", space, _DISAGREE)] if wrong else []
    return errors + ([invalid("namespace", own, m) for m in names.dns1123_subdomain(own)] if own else [])


def _reported(event: Object, controller: str) -> list[FieldError]:
    """Who reports what: demanded of events that carry eventTime; `controller` is what the reporter is called."""
    if not text(event, "eventTime"):
        return []
    errors: list[FieldError] = []
    name = text(event, "reportingComponent")
    if not name:
        errors.append(required(controller))
    errors += check_names(controller, name, names.qualified_name)
    for key in ("reportingInstance", "action", "reason"):
        value = text(event, key)
        if not value:
            errors.append(required(key))
        elif len(value.encode("utf-8", "surrogatepass")) > 128:
            errors.append(invalid(key, "", "can have at most 128 characters"))
    if len(text(event, "message").encode("utf-8", "surrogatepass")) > 1024:
        errors.append(invalid("message", "", "can have at most 1024 characters"))
    return errors


def event(obj: Object) -> list[FieldError]:
    """An Event of the core group."""
    return _event_namespace(obj) + _reported(obj, "reportingComponent")


def event_k8s_io(obj: Object) -> list[FieldError]:
    """An Event (as it is stored: in the core group's form) that was sent to events.k8s.io."""
    errors = _event_namespace(obj) + _reported(obj, "reportingController") + _series(obj)
    if not text(obj, "eventTime"):
        errors.append(required("eventTime"))
    kind = text(obj, "type")
    if kind not in ("Normal", "Warning"):
        errors.append(invalid("type", "", f"has invalid value: {kind}"))
    unset = "needs to be unset"
    errors += [invalid(key, "", unset) for key in ("firstTimestamp", "lastTimestamp") if obj.get(key) is not None]
    if number(obj, "count"):
        errors.append(invalid("count", "", unset))
    if text(obj, "source", "component") or text(obj, "source", "host"):
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


def _as_it_is(value: Any) -> Any:
    return value


def _words(value: Any) -> Any:
    return value or ""


def _amount(value: Any) -> Any:
    return value or 0


def _always(form: internal_forms.Form) -> internal_forms.Form:
    return lambda value: form(value or {})


_EVENT_FIELDS: Final = (
    ("involvedObject", "involvedObject", _always(internal_forms.object_reference)),
    ("reason", "reason", _words),
    ("message", "message", _words),
    ("source", "source", _always(internal_forms.event_source)),
    ("firstTimestamp", "firstTimestamp", _as_it_is),
    ("lastTimestamp", "lastTimestamp", _as_it_is),
    ("count", "count", _amount),
    ("type", "type", _words),
    ("eventTime", "eventTime", _as_it_is),
    ("action", "action", _words),
    ("related", "related", internal_forms.object_reference),
    ("reportingComponent", "reportingController", _words),
    ("reportingInstance", "reportingInstance", _words),
)


def event_k8s_io_update(new: Object, old: Object) -> list[FieldError]:
    """A change of an Event through events.k8s.io: only its series moves on."""
    errors = _event_namespace(new) + _reported(new, "reportingController")
    if new.get("series") != old.get("series"):
        errors += _series(new)
    for key, name, form in _EVENT_FIELDS:
        errors += must_equal(name, form(new.get(key)), form(old.get(key)))
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
