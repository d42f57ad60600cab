"""ConfigMaps, Secrets, namespaces, nodes and access rules.

Source: pkg/apis/core/validation/validation.go, pkg/apis/rbac/validation/validation.go.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from controlplane.apiserver.registry.objects import items, strings, sub, text, values
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.parts import (
    check_names,
    check_network,
    dictionary,
    label_selector,
    parse_network,
    qualified_key,
    repeated,
    same,
    selector_of,
    unsupported,
)
from controlplane.apiserver.registry.validation.resources import resource_value
from controlplane.apiserver.registry.validation.scheduling import TAINT_EFFECTS
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required, too_long
from machinery.api.jsontext import loads, syntax_error
from machinery.api.meta import Object, is_deleting

MOST_BYTES = 1024 * 1024
_FIXED = "field is immutable when `immutable` is set"
_REDACTED = "<secret contents redacted>"


def _size(value: Any) -> int:
    return len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else 0


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        return b""


def config_map(obj: Object) -> list[FieldError]:
    """A ConfigMap."""
    data, binary = sub(obj, "data"), sub(obj, "binaryData")
    errors: list[FieldError] = []
    for key in sorted(data):
        errors += check_names(f"data[{key}]", key, names.config_map_key)
        if key in binary:
            errors.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
    for key in sorted(binary):
        errors += check_names(f"binaryData[{key}]", key, names.config_map_key)
    total = sum(map(_size, data.values())) + sum(len(_bytes(v)) for v in binary.values())
    if total > MOST_BYTES:
        errors.append(too_long("[]", MOST_BYTES))
    return errors


def _immutable(new: Object, old: Object, keys: tuple[str, ...]) -> list[FieldError]:
    if old.get("immutable") is not True:
        return []
    errors = [] if new.get("immutable") is True else [forbidden("immutable", _FIXED)]
    return errors + [forbidden(key, _FIXED) for key in keys if not same(new.get(key), old.get(key))]


def config_map_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a ConfigMap."""
    return _immutable(new, old, ("data", "binaryData")) + config_map(new)


def secret(obj: Object) -> list[FieldError]:
    """A Secret: each type demands keys of its own."""
    data = sub(obj, "data")
    errors: list[FieldError] = []
    for key in sorted(data):
        errors += check_names(f"data[{key}]", key, names.config_map_key)
    if sum(len(_bytes(v)) for v in data.values()) > MOST_BYTES:
        errors.append(too_long("data", MOST_BYTES))
    kind = text(obj, "type")
    if kind == "kubernetes.io/service-account-token":
        key = "kubernetes.io/service-account.name"
        if not strings(obj, "metadata", "annotations").get(key):
            errors.append(required(f"metadata.annotations[{key}]"))
    elif kind in _JSON_KEYS:
        errors += _json_key(data, _JSON_KEYS[kind])
    elif kind == "kubernetes.io/basic-auth":
        if "username" not in data and "password" not in data:
            errors += [required("data[username]"), required("data[password]")]
    elif kind == "kubernetes.io/ssh-auth":
        if not data.get("ssh-privatekey"):
            errors.append(required("data[ssh-privatekey]"))
    elif kind == "kubernetes.io/tls":
        errors += [required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data]
    return errors


_JSON_KEYS = {
    "kubernetes.io/dockercfg": ".dockercfg",
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
}


def _json_key(data: Object, key: str) -> list[FieldError]:
    if key not in data:
        return [required(f"data[{key}]")]
    content = _bytes(data[key])
    wrong = syntax_error(content) or _no_object(content)
    return [invalid(f"data[{key}]", _REDACTED, wrong)] if wrong else []


_GO_KINDS = {list: "array", str: "string", bool: "bool", int: "number", float: "number"}


def _no_object(content: bytes) -> str:
    """What Go says of JSON that is to be an object, or null, and is none."""
    kind = _GO_KINDS.get(loads(content)[0].__class__)
    return f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}" if kind else ""


def secret_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a Secret."""
    errors: list[FieldError] = []
    if text(new, "type") != text(old, "type"):
        errors.append(invalid("type", text(new, "type"), "field is immutable"))
    return errors + _immutable(new, old, ("data",)) + secret(new)


_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


def finalizer_name(at: str, name: str) -> list[FieldError]:
    """A finalizer: one of the API's own, or with a domain."""
    errors = check_names(at, name, names.qualified_name)
    if "/" not in name and name not in _FINALIZERS:
        detail = "name is neither a standard finalizer name nor is it fully qualified"
        errors.append(invalid(at, name, detail))
    return errors


def namespace(obj: Object) -> list[FieldError]:
    """A Namespace."""
    found = (f for f in values(obj, "spec", "finalizers") if isinstance(f, str))
    return [e for name in found for e in finalizer_name("spec.finalizers", name)]


def namespace_finalizers(new: Object, old: Object) -> list[FieldError]:
    """A change of what a Namespace waits for."""
    found = [f for f in values(new, "spec", "finalizers") if isinstance(f, str)]
    return [e for index, name in enumerate(found) for e in finalizer_name(f"spec.finalizers[{index}]", name)]


def namespace_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a Namespace."""
    phase = text(new, "status", "phase")
    if not is_deleting(new):
        if phase != "Active":
            return [invalid("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty")]
    elif phase != "Terminating":
        return [invalid("status.Phase", phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")]
    return []


def node(obj: Object) -> list[FieldError]:
    """A Node."""
    spec = sub(obj, "spec")
    errors = taints("metadata.taints", items(spec, "taints")) + _node_amounts(obj)
    ranges = [v for v in values(spec, "podCIDRs") if isinstance(v, str)]
    for index, found in enumerate(ranges):
        errors += check_network(f"spec.podCIDRs[{index}]", found)
    if len(ranges) > 1:
        versions = {n.version for n in map(parse_network, ranges) if n}
        if len(versions) < 2 or len(ranges) > 2:
            detail = "may specify no more than one CIDR for each IP family"
            errors.append(invalid("spec.podCIDRs", ranges, detail))
        for index, found in enumerate(ranges):
            if found in ranges[:index]:
                errors.append(repeated(f"spec.podCIDRs[{index}]", found))
    return errors


def _node_amounts(obj: Object) -> list[FieldError]:
    return [
        error
        for kind in ("capacity", "allocatable")
        for name, amount in sorted(sub(obj, "status", kind).items())
        for error in resource_value(f"status.{kind}.{name}", name, amount)
    ]


def taints(at: str, found: list[Object]) -> list[FieldError]:
    """Taints of a node."""
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(found):
        where = f"{at}[{index}]"
        key, effect = text(taint, "key"), text(taint, "effect")
        errors += qualified_key(f"{where}.key", key)
        if wrong := names.label_value(text(taint, "value")):
            errors.append(invalid(f"{where}.value", text(taint, "value"), ";".join(wrong)))
        if not effect:
            errors.append(required(f"{where}.effect"))
        elif effect not in TAINT_EFFECTS:
            errors.append(unsupported(f"{where}.effect", effect, TAINT_EFFECTS))
        if (key, effect) in seen:
            detail = "taints must be unique by key and effect pair"
            errors.append(repeated(where, internal_forms.taint(taint), detail))
        seen.add((key, effect))
    return errors


def node_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a Node: held against the rules for new ones too, so that what both refuse is told twice."""
    return node(new) + node_status(new, old)


def node_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a Node."""
    after, before = sub(new, "spec"), sub(old, "spec")
    errors = _node_amounts(new)
    seen: list[Object] = []
    for index, address in enumerate(items(new, "status", "addresses")):
        if address in seen:
            shown = {"Type": text(address, "type"), "Address": text(address, "address")}
            errors.append(repeated(f"status.addresses[{index}]", shown))
        seen.append(address)
    was, now = values(before, "podCIDRs"), values(after, "podCIDRs")
    changes = sum(a != b for a, b in zip(was, now, strict=True)) if len(was) == len(now) else len(was[:1])
    detail = 'node updates may not change podCIDR except from "" to valid'
    errors += [forbidden("spec.podCIDRs", detail)] * changes
    if text(before, "providerID") and text(after, "providerID") != text(before, "providerID"):
        detail = 'node updates may not change providerID except from "" to valid'
        errors.append(forbidden("spec.providerID", detail))
    errors += taints("metadata.taints", items(after, "taints"))
    if text(after, "externalID") != text(before, "externalID"):
        errors.append(forbidden("spec.externalID", "may not be updated"))
    return errors


def role_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a Role: upstream looks at it as at a new one first, and then once more."""
    return role(new) * 2


def cluster_role_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a ClusterRole: looked at twice, as a Role."""
    return cluster_role(new) * 2


def rules(at: str, found: list[Object], *, namespaced: bool) -> list[FieldError]:
    """What a role allows."""
    errors: list[FieldError] = []
    for index, rule in enumerate(found):
        where = f"{at}[{index}]"
        if not values(rule, "verbs"):
            errors.append(required(f"{where}.verbs", "verbs must contain at least one value"))
        urls = values(rule, "nonResourceURLs")
        if urls:
            if namespaced:
                detail = "namespaced rules cannot apply to non-resource URLs"
                errors.append(invalid(f"{where}.nonResourceURLs", urls, detail))
            if any(values(rule, k) for k in ("apiGroups", "resources", "resourceNames")):
                detail = "rules cannot apply to both regular resources and non-resource URLs"
                errors.append(invalid(f"{where}.nonResourceURLs", urls, detail))
            continue
        if not values(rule, "apiGroups"):
            errors.append(required(f"{where}.apiGroups", "resource rules must supply at least one api group"))
        if not values(rule, "resources"):
            errors.append(required(f"{where}.resources", "resource rules must supply at least one resource"))
    return errors


def role(obj: Object) -> list[FieldError]:
    """A Role."""
    return rules("rules", items(obj, "rules"), namespaced=True)


def cluster_role(obj: Object) -> list[FieldError]:
    """A ClusterRole."""
    errors = rules("rules", items(obj, "rules"), namespaced=False)
    aggregation = dictionary(obj, "aggregationRule")
    if aggregation is None:
        return errors
    at = "aggregationRule.clusterRoleSelectors"
    selectors = items(aggregation, "clusterRoleSelectors")
    if not selectors:
        detail = "at least one clusterRoleSelector required if aggregationRule is non-nil"
        errors.append(required(at, detail))
    for index, selector in enumerate(selectors):
        errors += label_selector(f"{at}[{index}]", selector)
        if selector_of(selector) is None:
            errors.append(invalid(f"{at}[{index}]", selector, "invalid label selector."))
    return errors


_GROUP = "rbac.authorization.k8s.io"


def binding(obj: Object, *, namespaced: bool) -> list[FieldError]:
    """A RoleBinding or ClusterRoleBinding."""
    reference = sub(obj, "roleRef")
    group, kind, name = text(reference, "apiGroup"), text(reference, "kind"), text(reference, "name")
    kinds = ("Role", "ClusterRole") if namespaced else ("ClusterRole",)
    errors: list[FieldError] = []
    if group != _GROUP:
        errors.append(unsupported("roleRef.apiGroup", group, (_GROUP,)))
    if kind not in kinds:
        errors.append(unsupported("roleRef.kind", kind, kinds))
    errors += check_names("roleRef.name", name, names.path_segment) if name else [required("roleRef.name")]
    for index, subject in enumerate(items(obj, "subjects")):
        errors += _subject(f"subjects[{index}]", subject, namespaced=namespaced)
    return errors


def _subject(at: str, subject: Object, *, namespaced: bool) -> list[FieldError]:
    name, kind, group = text(subject, "name"), text(subject, "kind"), text(subject, "apiGroup")
    errors = [] if name else [required(f"{at}.name")]
    if kind == "ServiceAccount":
        if name:
            errors += check_names(f"{at}.name", name, names.dns1123_subdomain)
        if group:
            errors.append(unsupported(f"{at}.apiGroup", group, ("",)))
        if not namespaced and not text(subject, "namespace"):
            errors.append(required(f"{at}.namespace"))
    elif kind in ("User", "Group"):
        if not name:
            errors.append(invalid(f"{at}.name", name, f"{kind.lower()} name cannot be empty"))
        if group != _GROUP:
            errors.append(unsupported(f"{at}.apiGroup", group, (_GROUP,)))
    else:
        errors.append(unsupported(f"{at}.kind", kind, ("ServiceAccount", "User", "Group")))
    return errors


def binding_update(new: Object, old: Object, *, namespaced: bool) -> list[FieldError]:
    """A change of a binding: what it binds to stays."""
    errors = binding(new, namespaced=namespaced) * 2
    if sub(new, "roleRef") != sub(old, "roleRef"):
        errors.append(invalid("roleRef", internal_forms.role_ref(sub(new, "roleRef")), "cannot change roleRef"))
    return errors
