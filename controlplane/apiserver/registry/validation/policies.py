"""Admission policies and their bindings.

Source: pkg/apis/admissionregistration/validation/validation.go.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace

from controlplane.apiserver.admission.expressions import POLICY_VARIABLES, Expressions
from controlplane.apiserver.registry.objects import items, sub, text, values
from controlplane.apiserver.registry.validation.conditions import conditions
from controlplane.apiserver.registry.validation.expressions import identifier, wrong_expression
from controlplane.apiserver.registry.validation.parts import (
    check_names,
    dictionary,
    label_selector,
    repeated,
    unsupported,
)
from controlplane.apiserver.registry.validation.webhooks import match_conditions, match_resources, word
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object
from machinery.cel.errors import CompileError

_KIND = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ACTIONS = ("Audit", "Deny", "Warn")


def param_kind(at: str, kind: Object) -> list[FieldError]:
    """The kind of objects that a policy takes parameters from."""
    errors: list[FieldError] = []
    version, name = text(kind, "apiVersion"), text(kind, "kind")
    group, _, number = version.rpartition("/")
    if not version:
        errors.append(required(f"{at}.apiVersion"))
    elif version.count("/") > 1:
        errors.append(invalid(f"{at}.apiVersion", version, f"unexpected GroupVersion string: {version}"))
    else:
        if group and (wrong := names.dns1123_subdomain(group)):
            errors.append(invalid(f"{at}.apiVersion", group, ",".join(wrong)))
        if not number:
            errors.append(invalid(f"{at}.apiVersion", version, "version must be specified"))
        elif wrong := names.dns1035_label(number):
            errors.append(invalid(f"{at}.apiVersion", number, ",".join(wrong)))
    if not name:
        errors.append(required(f"{at}.kind"))
    elif wrong := names.dns1035_label(name.lower()):
        detail = "may have mixed case, but should otherwise match: " + ",".join(wrong)
        errors.append(invalid(f"{at}.kind", name, detail))
    return errors


def _variables(at: str, found: list[Object], known: Expressions) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, variable in enumerate(found):
        where = f"{at}[{index}]"
        name, expression = text(variable, "name"), text(variable, "expression")
        if not name.strip():
            errors.append(required(f"{where}.name", "name is not specified"))
        elif not identifier(name):
            errors.append(invalid(f"{where}.name", name, "must be a valid CEL identifier"))
        if not expression.strip():
            errors.append(required(f"{where}.expression", "expression is not specified"))
        else:
            before = replace(known, variables=known.variables[:index])
            errors += wrong_expression(f"{where}.expression", expression, before)
    return errors


def _known(spec: Object) -> Expressions:
    """What expressions of a policy can name; variables that don't compile are told of elsewhere, and left out."""
    names = POLICY_VARIABLES if spec.get("paramKind") is not None else POLICY_VARIABLES - {"params"}
    known = Expressions((), names, literals=spec.get("mutations") is not None)
    for variable in items(spec, "variables"):
        with suppress(CompileError):
            known.program(text(variable, "expression"))
            named = (text(variable, "name"), text(variable, "expression"))
            known = replace(known, variables=(*known.variables, named))
    return known


def validating_policy(obj: Object) -> list[FieldError]:
    """A ValidatingAdmissionPolicy."""
    spec = sub(obj, "spec")
    errors = _policy_head("spec", spec)
    validations, annotations = items(spec, "validations"), items(spec, "auditAnnotations")
    known = _known(spec)
    errors += _variables("spec.variables", items(spec, "variables"), known)
    if not validations and not annotations:
        detail = "validations or auditAnnotations must contain at least one item"
        errors += [required("spec.validations", detail), required("spec.auditAnnotations", detail)]
    for index, validation in enumerate(validations):
        errors += _validation(f"spec.validations[{index}]", validation, known)
    if len(annotations) > 20:
        errors.append(invalid("spec.auditAnnotations", annotations, "must not have more than 20 auditAnnotations"))
    seen: set[str] = set()
    for index, annotation in enumerate(annotations):
        errors += _annotation(f"spec.auditAnnotations[{index}]", annotation, obj, known, seen)
    return errors


def validating_policy_status(new: Object, _: Object) -> list[FieldError]:
    """What is reported about a ValidatingAdmissionPolicy."""
    status = sub(new, "status")
    errors: list[FieldError] = []
    for index, warning in enumerate(items(sub(status, "typeChecking"), "expressionWarnings")):
        at = f"status.typeChecking.expressionWarnings[{index}]"
        errors += [required(f"{at}.{key}") for key in ("warning", "fieldRef") if not text(warning, key).strip()]
    return errors + conditions("status.conditions", items(status, "conditions"))


def _policy_head(at: str, spec: Object) -> list[FieldError]:
    policy = spec.get("failurePolicy")
    errors = (
        [required(f"{at}.failurePolicy")] if policy is None else word(f"{at}.failurePolicy", policy, ("Fail", "Ignore"))
    )
    if (kind := dictionary(spec, "paramKind")) is not None:
        errors += param_kind(f"{at}.paramKind", kind)
    constraints = dictionary(spec, "matchConstraints")
    if constraints is None:
        errors.append(required(f"{at}.matchConstraints"))
    else:
        errors += match_resources(f"{at}.matchConstraints", constraints, of_binding=False)
    return errors + match_conditions(f"{at}.matchConditions", items(spec, "matchConditions"), _known(spec))


def _validation(at: str, validation: Object, known: Expressions) -> list[FieldError]:
    expression, message = text(validation, "expression"), text(validation, "message")
    errors: list[FieldError] = []
    if not expression.strip():
        errors.append(required(f"{at}.expression", "expression is not specified"))
    else:
        errors += wrong_expression(f"{at}.expression", expression, known, "bool")
    told = text(validation, "messageExpression")
    if told:
        if not told.strip():
            errors.append(invalid(f"{at}.messageExpression", told, "must be non-empty if specified"))
        else:
            # Messages can't ask who may do what.
            without = replace(known, names=known.names - {"authorizer"})
            errors += wrong_expression(f"{at}.messageExpression", told, without, "string")
    if message and not message.strip():
        errors.append(invalid(f"{at}.message", message, "message must be non-empty if specified"))
    elif re.search(r"[\n\r]", message.strip()):
        errors.append(invalid(f"{at}.message", message, "message must not contain line breaks"))
    reason = validation.get("reason")
    if isinstance(reason, str) and reason not in (*_REASONS, "Unauthorized"):
        errors.append(unsupported(f"{at}.reason", reason, _REASONS))
    return errors


def _annotation(at: str, annotation: Object, obj: Object, known: Expressions, seen: set[str]) -> list[FieldError]:
    key, expression = text(annotation, "key"), text(annotation, "valueExpression")
    errors = check_names(f"{at}.key", text(obj, "metadata", "name") + "/" + key, names.qualified_name)
    trimmed = expression.strip()
    if not trimmed:
        errors.append(required(f"{at}.valueExpression", "valueExpression is not specified"))
    elif len(trimmed.encode()) > 5 * 1024:
        errors.append(required(f"{at}.valueExpression", f"must not exceed {5 * 1024} bytes in length"))
    else:
        at_value = f"{at}.valueExpression"
        errors += wrong_expression(at_value, trimmed, known, "string", "null", shown=expression)
    if key in seen:
        errors.append(repeated(f"{at}.key", key))
    seen.add(key)
    return errors


def validating_binding(obj: Object) -> list[FieldError]:
    """A ValidatingAdmissionPolicyBinding."""
    spec = sub(obj, "spec")
    errors = _binding(spec)
    actions = [a for a in values(spec, "validationActions") if isinstance(a, str)]
    at = "spec.validationActions"
    if not actions:
        return [*errors, required(at, "at least one validation action is required")]
    for index, action in enumerate(actions):
        if action not in _ACTIONS:
            errors.append(unsupported(f"{at}[{index}]", action, _ACTIONS))
        if action in actions[:index]:
            errors.append(repeated(f"{at}[{index}]", action))
    if "Deny" in actions and "Warn" in actions:
        detail = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the API "
            "response and headers serves no purpose)"
        )
        errors.append(invalid(at, actions, detail))
    return errors


def _binding(spec: Object) -> list[FieldError]:
    name = text(spec, "policyName")
    errors = check_names("spec.policyName", name, names.dns1123_subdomain) if name else [required("spec.policyName")]
    reference = dictionary(spec, "paramRef")
    if reference is not None:
        errors += _param_ref("spec.paramRef", reference)
    found = dictionary(spec, "matchResources")
    return errors + ([] if found is None else match_resources("spec.matchResources", found, of_binding=True))


def _param_ref(at: str, reference: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    name, selector = text(reference, "name"), dictionary(reference, "selector")
    if name:
        errors += check_names(f"{at}.name", name, names.path_segment)
        if selector is not None:
            errors.append(forbidden(f"{at}.name", "name and selector are mutually exclusive"))
    if selector is not None:
        errors += label_selector(f"{at}.selector", selector)
        if name:
            errors.append(forbidden(f"{at}.selector", "name and selector are mutually exclusive"))
    if not name and selector is None:
        errors.append(required(at, "one of name or selector must be specified"))
    if namespace := text(reference, "namespace"):
        errors += check_names(f"{at}.namespace", namespace, names.dns1123_label)
    action = reference.get("parameterNotFoundAction")
    if action is None or not action:
        errors.append(required(f"{at}.parameterNotFoundAction"))
    return errors + word(f"{at}.parameterNotFoundAction", action or None, ("Deny", "Allow"))


def mutating_policy(obj: Object) -> list[FieldError]:
    """A MutatingAdmissionPolicy."""
    spec = sub(obj, "spec")
    errors = _policy_head("spec", spec)
    known = _known(spec)
    errors += _variables("spec.variables", items(spec, "variables"), known)
    mutations = items(spec, "mutations")
    if not mutations:
        errors.append(required("spec.mutations", "mutations must contain at least one item"))
    for index, mutation in enumerate(mutations):
        errors += _mutation(f"spec.mutations[{index}]", mutation, known)
    policy = text(spec, "reinvocationPolicy")
    if not policy:
        errors.append(required("spec.reinvocationPolicy"))
    return errors + word("spec.reinvocationPolicy", policy or None, ("IfNeeded", "Never"))


def _mutation(at: str, mutation: Object, known: Expressions) -> list[FieldError]:
    kinds = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}
    kind = text(mutation, "patchType")
    if not kind:
        return [required(f"{at}.patchType")]
    if kind not in kinds:
        return [unsupported(f"{at}.patchType", kind, tuple(kinds))]
    wanted = kinds[kind]
    errors: list[FieldError] = []
    for key in kinds.values():
        found = dictionary(mutation, key)
        if key == wanted:
            if found is None:
                errors.append(required(f"{at}.{key}", f"must be specified when patchType is {kind}"))
            elif not text(found, "expression").strip():
                errors.append(required(f"{at}.{key}.expression", "expression is not specified"))
            else:
                yields = ("list(JSONPatch)",) if kind == "JSONPatch" else ("Object",)
                errors += wrong_expression(f"{at}.{key}.expression", text(found, "expression"), known, *yields)
        elif found is not None:
            detail = f"must not be specified when patchType is {kind}"
            errors.append(invalid(f"{at}.{key}", {"Expression": text(found, "expression")}, detail))
    return errors


def mutating_binding(obj: Object) -> list[FieldError]:
    """A MutatingAdmissionPolicyBinding."""
    return _binding(sub(obj, "spec"))
