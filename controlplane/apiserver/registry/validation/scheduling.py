"""Where a pod may run: node selectors, affinity, tolerations, spread.

Source: pkg/apis/core/validation/validation.go (validateAffinity, ValidateTolerations, …).
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import integer, items, number, sub, text, values
from controlplane.apiserver.registry.validation.parts import (
    check_names,
    dictionary,
    label_selector,
    qualified_key,
    repeated,
    unsupported,
)
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object

TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def node_selector_requirement(at: str, requirement: Object, *, any_value: bool = False) -> list[FieldError]:
    """An expression on the labels of a node."""
    errors: list[FieldError] = []
    operator, wanted = text(requirement, "operator"), values(requirement, "values")
    if operator in ("In", "NotIn"):
        if not wanted:
            errors.append(required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if wanted:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden(f"{at}.values", detail))
    elif operator in ("Gt", "Lt"):
        if len(wanted) != 1:
            detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{at}.values", detail))
    else:
        errors.append(invalid(f"{at}.operator", operator, "not a valid selector operator"))
    errors += qualified_key(f"{at}.key", text(requirement, "key"))
    for index, value in enumerate(wanted):
        if isinstance(value, str) and not any_value:
            errors += check_names(f"{at}.values[{index}]", value, names.label_value)
    return errors


def _field_requirement(at: str, requirement: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    operator, wanted, key = text(requirement, "operator"), values(requirement, "values"), text(requirement, "key")
    if operator in ("In", "NotIn"):
        if len(wanted) != 1:
            detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            errors.append(required(f"{at}.values", detail))
    else:
        errors.append(invalid(f"{at}.operator", operator, "not a valid selector operator"))
    if key != "metadata.name":
        return [*errors, invalid(f"{at}.key", key, "not a valid field selector key")]
    for index, value in enumerate(wanted):
        if isinstance(value, str):
            errors += check_names(f"{at}.values[{index}]", value, names.dns1123_subdomain)
    return errors


def node_selector_term(at: str, term: Object, *, any_value: bool = False) -> list[FieldError]:
    """A term of a node selector; where it is but a preference, `any_value` that no label can have will do."""
    errors: list[FieldError] = []
    for index, requirement in enumerate(items(term, "matchExpressions")):
        errors += node_selector_requirement(f"{at}.matchExpressions[{index}]", requirement, any_value=any_value)
    for index, requirement in enumerate(items(term, "matchFields")):
        errors += _field_requirement(f"{at}.matchFields[{index}]", requirement)
    return errors


def node_selector(at: str, selector: Object) -> list[FieldError]:
    """A node selector: at least one term."""
    terms = items(selector, "nodeSelectorTerms")
    if not terms:
        return [required(f"{at}.nodeSelectorTerms", "must have at least one node selector term")]
    return [e for index, term in enumerate(terms) for e in node_selector_term(f"{at}.nodeSelectorTerms[{index}]", term)]


def affinity(at: str, found: Object | None) -> list[FieldError]:
    """`affinity` of a pod."""
    if found is None:
        return []
    errors: list[FieldError] = []
    if (node := dictionary(found, "nodeAffinity")) is not None:
        where = f"{at}.nodeAffinity"
        if (selector := dictionary(node, _REQUIRED)) is not None:
            errors += node_selector(f"{where}.{_REQUIRED}", selector)
        for index, term in enumerate(items(node, _PREFERRED)):
            errors += _weight(f"{where}.{_PREFERRED}[{index}].weight", term)
            preference = f"{where}.{_PREFERRED}[{index}].preference"
            errors += node_selector_term(preference, sub(term, "preference"), any_value=True)
    for kind in ("podAffinity", "podAntiAffinity"):
        if (pods := dictionary(found, kind)) is not None:
            errors += _pod_affinity(f"{at}.{kind}", pods)
    return errors


def _weight(at: str, term: Object) -> list[FieldError]:
    weight = number(term, "weight")
    return [] if 1 <= weight <= 100 else [invalid(at, weight, "must be in the range 1-100")]


def _pod_affinity(at: str, pods: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, term in enumerate(items(pods, _REQUIRED)):
        errors += _pod_term(f"{at}.{_REQUIRED}[{index}]", term)
    for index, weighted in enumerate(items(pods, _PREFERRED)):
        where = f"{at}.{_PREFERRED}[{index}]"
        errors += _weight(f"{where}.weight", weighted)
        errors += _pod_term(f"{where}.podAffinityTerm", sub(weighted, "podAffinityTerm"))
    return errors


def _pod_term(at: str, term: Object) -> list[FieldError]:
    errors = label_selector(f"{at}.labelSelector", term.get("labelSelector"))
    errors += label_selector(f"{at}.namespaceSelector", term.get("namespaceSelector"))
    for name in values(term, "namespaces"):
        if isinstance(name, str):
            errors += check_names(f"{at}.namespace", name, names.dns1123_label)
    errors += _label_keys(at, term)
    key = text(term, "topologyKey")
    if not key:
        errors.append(required(f"{at}.topologyKey", "can not be empty"))
    return errors + qualified_key(f"{at}.topologyKey", key)


def _label_keys(at: str, term: Object) -> list[FieldError]:
    """Keys of labels whose values are those of the pod itself."""
    keys, others = ([k for k in values(term, f) if isinstance(k, str)] for f in ("matchLabelKeys", "mismatchLabelKeys"))
    selector = dictionary(term, "labelSelector")
    errors = _named_keys(f"{at}.matchLabelKeys", keys, selector)
    errors += _named_keys(f"{at}.mismatchLabelKeys", others, selector)
    if selector is not None:
        # A key is added to the selector when the pod is made: what is wrong is that it meets another there.
        seen = set(sub(selector, "matchLabels"))
        for key in (text(e, "key") for e in items(selector, "matchExpressions")):
            if key in keys and key in seen:
                index = len(keys) - 1 - keys[::-1].index(key)
                errors.append(invalid(f"{at}[{index}]", key, "exists in both matchLabelKeys and labelSelector"))
            seen.add(key)
    detail = "exists in both matchLabelKeys and mismatchLabelKeys"
    return errors + [invalid(f"{at}.matchLabelKeys[{i}]", k, detail) for i, k in enumerate(keys) if k in others]


def _named_keys(at: str, keys: list[str], selector: Object | None) -> list[FieldError]:
    if keys and selector is None:
        return [forbidden(at, "must not be specified when labelSelector is not set")]
    return [error for index, key in enumerate(keys) for error in qualified_key(f"{at}[{index}]", key)]


def tolerations(at: str, found: list[Object]) -> list[FieldError]:
    """`tolerations` of a pod."""
    errors: list[FieldError] = []
    for index, toleration in enumerate(found):
        where = f"{at}[{index}]"
        key, operator = text(toleration, "key"), text(toleration, "operator")
        value, effect = text(toleration, "value"), text(toleration, "effect")
        if key:
            errors += qualified_key(f"{where}.key", key)
        if not key and operator != "Exists":
            detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.append(invalid(f"{where}.operator", operator, detail))
        if integer(toleration, "tolerationSeconds") is not None and effect != "NoExecute":
            detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(invalid(f"{where}.effect", effect, detail))
        if operator in ("", "Equal"):
            if wrong := names.label_value(value):
                errors.append(invalid(f"{where}.operator", value, ";".join(wrong)))
        elif operator == "Exists":
            if value:
                errors.append(invalid(f"{where}.operator", value, "value must be empty when `operator` is 'Exists'"))
        else:
            errors.append(unsupported(f"{where}.operator", operator, ("Equal", "Exists")))
        if effect and effect not in TAINT_EFFECTS:
            errors.append(unsupported(f"{where}.effect", effect, TAINT_EFFECTS))
    return errors


def spread(at: str, constraints: list[Object]) -> list[FieldError]:
    """`topologySpreadConstraints` of a pod."""
    errors: list[FieldError] = []
    pairs = [(text(c, "topologyKey"), text(c, "whenUnsatisfiable")) for c in constraints]
    for index, constraint in enumerate(constraints):
        where = f"{at}[{index}]"
        skew = number(constraint, "maxSkew")
        if skew <= 0:
            errors.append(invalid(f"{where}.maxSkew", skew, "must be greater than zero"))
        key, action = pairs[index]
        if not key:
            errors.append(required(f"{where}.topologyKey", "can not be empty"))
        if action not in ("DoNotSchedule", "ScheduleAnyway"):
            errors.append(unsupported(f"{where}.whenUnsatisfiable", action, ("DoNotSchedule", "ScheduleAnyway")))
        errors += _unique_pair(where, pairs, index)
        errors += _min_domains(f"{where}.minDomains", constraint, action)
        for policy in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            found = constraint.get(policy)
            if isinstance(found, str) and found not in ("Honor", "Ignore"):
                errors.append(unsupported(f"{where}.{policy}", found, ("Honor", "Ignore")))
        errors += _label_keys(where, constraint)
        errors += label_selector(f"{where}.labelSelector", constraint.get("labelSelector"))
    return errors


def _unique_pair(at: str, pairs: list[tuple[str, str]], index: int) -> list[FieldError]:
    if pairs[index] in pairs[index + 1 :]:
        key, action = pairs[index]
        return [repeated(f"{at}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}")]
    return []


def _min_domains(at: str, constraint: Object, action: str) -> list[FieldError]:
    least = integer(constraint, "minDomains")
    if least is None:
        return []
    errors: list[FieldError] = []
    if least <= 0:
        errors.append(invalid(at, least, "must be greater than zero"))
    if action != "DoNotSchedule":
        detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
        errors.append(invalid(at, least, detail))
    return errors


def scheduling_gates(at: str, gates: list[Object]) -> list[FieldError]:
    """`schedulingGates` of a pod."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, gate in enumerate(gates):
        name = text(gate, "name")
        errors += check_names(f"{at}[{index}]", name, names.qualified_name)
        if name in seen:
            errors.append(repeated(f"{at}[{index}]", name))
        seen.add(name)
    return errors
