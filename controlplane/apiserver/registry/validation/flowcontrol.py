"""FlowSchemas and PriorityLevelConfigurations.

Source: pkg/apis/flowcontrol/validation/validation.go.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Final

from controlplane.apiserver.bootstrap import flowcontrol as bootstrap
from controlplane.apiserver.registry.objects import flag, integer, items, number, sub, text, values
from controlplane.apiserver.registry.validation.parts import check_names, dictionary, repeated, unsupported
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object, name_of

_VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_SUBJECTS: Final = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}
_MOST_QUEUES: Final = 10_000_000
_HASH_BITS: Final = 60


@cache
def _mandatory(kind: str) -> dict[str, Object]:
    made = bootstrap.flow_schemas() if kind == "FlowSchema" else bootstrap.priority_levels()
    return {name_of(obj): obj["spec"] for obj in made if name_of(obj) in bootstrap.MANDATORY}


def _fixed(kind: str, name: str, spec: Object, wanted: Object | None) -> list[FieldError]:
    if wanted is None or spec == wanted:
        return []
    return [invalid("spec", spec, f"spec of '{name}' must equal the fixed value")]


def flow_schema(obj: Object) -> list[FieldError]:
    """A FlowSchema, new or changed."""
    name, spec = name_of(obj), sub(obj, "spec")
    precedence = number(spec, "matchingPrecedence")
    at = "spec.matchingPrecedence"
    errors: list[FieldError] = []
    if precedence <= 0:
        errors.append(invalid(at, precedence, "must be a positive value"))
    if precedence > 10_000:
        errors.append(invalid(at, precedence, "must not be greater than 10000"))
    if precedence == 1 and name != "exempt":
        errors.append(invalid(at, precedence, "only the schema named 'exempt' may have matchingPrecedence 1"))
    method = dictionary(spec, "distinguisherMethod")
    if method is not None and text(method, "type") not in ("ByNamespace", "ByUser"):
        shown = {"Type": text(method, "type")}
        errors.append(unsupported("spec.distinguisherMethod.type", shown, ("ByNamespace", "ByUser")))
    level = text(spec, "priorityLevelConfiguration", "name")
    if level:
        errors += check_names("spec.priorityLevelConfiguration.name", level, names.dns1123_subdomain)
    else:
        errors.append(required("spec.priorityLevelConfiguration.name", "must reference a priority level"))
    for index, rule in enumerate(items(spec, "rules")):
        errors += _rule(f"spec.rules[{index}]", rule)
    errors += _fixed("FlowSchema", name, spec, _mandatory("FlowSchema").get(name))
    return errors + conditions(obj)


def _rule(at: str, rule: Object) -> list[FieldError]:
    subjects = items(rule, "subjects")
    resources, paths = items(rule, "resourceRules"), items(rule, "nonResourceRules")
    errors: list[FieldError] = []
    for index, subject in enumerate(subjects):
        errors += _subject(f"{at}.subjects[{index}]", subject)
    if not subjects:
        errors.append(required(f"{at}.subjects", "subjects must contain at least one value"))
    if not resources and not paths:
        told = "at least one of resourceRules and nonResourceRules has to be non-empty"
        errors.append(required(at, told))
    for index, inner in enumerate(resources):
        errors += _resource_rule(f"{at}.resourceRules[{index}]", inner)
    for index, inner in enumerate(paths):
        errors += _path_rule(f"{at}.nonResourceRules[{index}]", inner)
    return errors


def _subject(at: str, subject: Object) -> list[FieldError]:
    kind = text(subject, "kind")
    if kind not in _SUBJECTS:
        return [unsupported(f"{at}.kind", kind, sorted(_SUBJECTS))]
    key = _SUBJECTS[kind]
    found = dictionary(subject, key)
    where = f"{at}.{key}"
    errors: list[FieldError] = []
    if found is None:
        errors.append(required(where, f"{key} is required when subject kind is '{kind}'"))
    else:
        name = text(found, "name")
        if not name:
            errors.append(required(f"{where}.name"))
        elif kind == "ServiceAccount" and name != "*":
            errors += check_names(f"{where}.name", name, names.dns1123_subdomain)
        if kind == "ServiceAccount":
            errors += _namespace_of(where, text(found, "namespace"))
    for other, other_key in (("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")):
        if other != kind and dictionary(subject, other_key) is not None:
            told = f"{other_key} is forbidden when subject kind is not '{other}'"
            errors.append(forbidden(f"{at}.{other_key}", told))
    return errors


def _namespace_of(at: str, namespace: str) -> list[FieldError]:
    if not namespace:
        return [required(f"{at}.namespace", "must specify namespace for service account")]
    return check_names(f"{at}.namespace", namespace, names.dns1123_label)


def _verbs(at: str, rule: Object) -> list[FieldError]:
    verbs = values(rule, "verbs")
    if not verbs:
        return [required(f"{at}.verbs", "verbs must contain at least one value")]
    if "*" in verbs:
        return _alone(f"{at}.verbs", verbs, "verbs")
    return [] if set(verbs) <= set(_VERBS) else [unsupported(f"{at}.verbs", verbs, _VERBS)]


def _alone(at: str, found: list[Any], word: str) -> list[FieldError]:
    """A wildcard stands alone."""
    if len(found) > 1 and "*" in found:
        return [invalid(at, found, f"if '*' is present, must not specify other {word}")]
    return []


def _resource_rule(at: str, rule: Object) -> list[FieldError]:
    errors = _verbs(at, rule)
    for key, one, many in (("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")):
        found = values(rule, key)
        if not found:
            errors.append(required(f"{at}.{key}", f"resource rules must supply at least one {one}"))
        errors += _alone(f"{at}.{key}", found, many)
    namespaces = values(rule, "namespaces")
    if not namespaces and not flag(rule, "clusterScope"):
        told = "resource rules that are not cluster scoped must supply at least one namespace"
        errors.append(required(f"{at}.namespaces", told))
    elif "*" in namespaces:
        errors += _alone(f"{at}.namespaces", namespaces, "namespaces")
    else:
        for index, namespace in enumerate(namespaces):
            told = "each member of this list must be '*' or a DNS-1123 label; "
            where = f"{at}.namespaces[{index}]"
            errors += [invalid(where, namespace, told + wrong) for wrong in names.dns1123_label(namespace)]
    return errors


def _path_rule(at: str, rule: Object) -> list[FieldError]:
    errors = _verbs(at, rule)
    paths = values(rule, "nonResourceURLs")
    if not paths:
        errors.append(required(f"{at}.nonResourceURLs", "nonResourceURLs must contain at least one value"))
    elif "*" in paths:
        errors += _alone(f"{at}.nonResourceURLs", paths, "non-resource URLs")
    else:
        for index, path in enumerate(paths):
            if wrong := _wrong_path(path):
                errors.append(invalid(f"{at}.nonResourceURLs[{index}]", path, wrong))
    return errors


def _wrong_path(path: str) -> str:
    if not path:
        return "must not be empty"
    if path == "/":
        return ""
    if not path.startswith("/"):
        return "must start with slash"
    if " " in path:
        return "must not contain white-space"
    if "//" in path:
        return "must not contain double slash"
    stars = path.count("*")
    return "wildcard can only do suffix matching" if stars > 1 or (stars and not path.endswith("/*")) else ""


def conditions(obj: Object) -> list[FieldError]:
    """The conditions in the status of either kind."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, condition in enumerate(items(obj, "status", "conditions")):
        at, kind = f"status.conditions[{index}].type", text(condition, "type")
        if kind in seen:
            errors.append(repeated(at, kind))
        seen.add(kind)
        if not kind:
            errors.append(required(at, "must not be empty"))
    return errors


def priority_level(obj: Object) -> list[FieldError]:
    """A PriorityLevelConfiguration, new or changed."""
    name, spec = name_of(obj), sub(obj, "spec")
    kind = text(spec, "type")
    errors: list[FieldError] = []
    if (name == "exempt") != (kind == "Exempt"):
        errors.append(invalid("spec.type", kind, "type must be 'Exempt' if and only if name is 'exempt'"))
    limited, exempt = dictionary(spec, "limited"), dictionary(spec, "exempt")
    if kind == "Exempt":
        if limited is not None:
            errors.append(forbidden("spec.limited", "must be nil if the type is not Limited"))
        errors += _shares("spec.exempt", exempt or {})
    elif kind == "Limited":
        if exempt is not None:
            errors.append(forbidden("spec.exempt", "must be nil if the type is Limited"))
        if limited is None:
            errors.append(required("spec.limited", "must not be empty when type is Limited"))
        else:
            errors += _limited("spec.limited", limited)
    else:
        errors.append(unsupported("spec.type", kind, ("Exempt", "Limited")))
    wanted = _mandatory("PriorityLevelConfiguration").get(name)
    if wanted is not None and kind == "Exempt" and exempt is not None:
        wanted = {**wanted, "exempt": exempt}  # how much of the exempt level is lent may be chosen
    return errors + _fixed("PriorityLevelConfiguration", name, spec, wanted) + conditions(obj)


def _shares(at: str, level: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    shares, lendable = integer(level, "nominalConcurrencyShares"), integer(level, "lendablePercent")
    if shares is not None and shares < 0:
        errors.append(invalid(f"{at}.nominalConcurrencyShares", shares, "must be a non-negative integer"))
    if lendable is not None and not 0 <= lendable <= 100:
        errors.append(invalid(f"{at}.lendablePercent", lendable, "must be between 0 and 100, inclusive"))
    return errors


def _limited(at: str, limited: Object) -> list[FieldError]:
    errors = [e for e in _shares(at, limited) if not e.field.endswith("lendablePercent")]
    errors += _response(f"{at}.limitResponse", sub(limited, "limitResponse"))
    errors += [e for e in _shares(at, limited) if e.field.endswith("lendablePercent")]
    borrowing = integer(limited, "borrowingLimitPercent")
    if borrowing is not None and borrowing < 0:
        told = "if specified, must be a non-negative integer"
        errors.append(invalid(f"{at}.borrowingLimitPercent", borrowing, told))
    return errors


def _response(at: str, response: Object) -> list[FieldError]:
    kind, queuing = text(response, "type"), dictionary(response, "queuing")
    if kind == "Reject":
        told = "must be nil if limited.limitResponse.type is not Limited"
        return [] if queuing is None else [forbidden(f"{at}.queuing", told)]
    if kind != "Queue":
        return [unsupported(f"{at}.type", kind, ("Queue", "Reject"))]
    if queuing is None:
        return [required(f"{at}.queuing", "must not be empty if limited.limitResponse.type is Limited")]
    return _queuing(f"{at}.queuing", queuing)


def _queuing(at: str, queuing: Object) -> list[FieldError]:
    length, queues, hand = (number(queuing, key) for key in ("queueLengthLimit", "queues", "handSize"))
    errors: list[FieldError] = []
    if length <= 0:
        errors.append(invalid(f"{at}.queueLengthLimit", length, "must be positive"))
    if queues <= 0:
        errors.append(invalid(f"{at}.queues", queues, "must be positive"))
    elif queues > _MOST_QUEUES:
        errors.append(invalid(f"{at}.queues", queues, f"must not be greater than {_MOST_QUEUES}"))
    if hand <= 0:
        errors.append(invalid(f"{at}.handSize", hand, "must be positive"))
    elif hand > queues:
        errors.append(invalid(f"{at}.handSize", hand, f"should not be greater than queues ({queues})"))
    elif _entropy_bits(queues, hand) > _HASH_BITS:
        told = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {_HASH_BITS}"
        errors.append(invalid(f"{at}.handSize", hand, told))
    return errors


def _entropy_bits(deck: int, hand: int) -> int:
    """Bits that tell all hands apart. Source: k8s.io/apiserver/pkg/util/shufflesharding."""
    return math.ceil(sum(math.log2(deck - i) for i in range(min(hand, _HASH_BITS + 1))))
