"""SubjectAccessReview and its siblings: may somebody, may I, what may I.

Source: k8s.io/kubernetes/pkg/registry/authorization, pkg/apis/authorization/validation.
"""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.apiserver.authz.chain import Chain
from controlplane.apiserver.authz.contract import Decision
from controlplane.apiserver.authz.rbac import aggregate
from controlplane.apiserver.authz.rules import Rule
from controlplane.apiserver.authz.selectors import read_fields, read_labels
from controlplane.apiserver.handlers.contract import Call
from controlplane.apiserver.request import RequestInfo, User
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, invalid_object, required
from machinery.api.meta import Object
from machinery.errors import BadRequest, StatusError

GROUP = "authorization.k8s.io"
_RESOURCE = ("namespace", "verb", "group", "version", "resource", "subresource", "name")


class AccessReviews:
    """Answers SubjectAccessReviews, LocalSubjectAccessReviews, SelfSubjectAccessReviews, SelfSubjectRulesReviews."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def subject(self, call: Call) -> Object:
        """May the user of the spec? Raises Invalid."""
        spec = call.object.get("spec") or {}
        _refuse([*_spec_errors(spec, subject=True), *_metadata_errors(call.object)])
        return await self._answer(call, spec, _subject(spec))

    async def local(self, call: Call) -> Object:
        """May the user of the spec, in this namespace? Raises Invalid."""
        spec = call.object.get("spec") or {}
        errors = [*_spec_errors(spec, subject=True), *_metadata_errors(call.object, local=True)]
        attributes = spec.get("resourceAttributes")
        if attributes is not None and (attributes.get("namespace") or "") != call.namespace:
            field = "spec.resourceAttributes.namespace"
            errors.append(invalid(field, attributes.get("namespace") or "", "must match metadata.namespace"))
        if (paths := spec.get("nonResourceAttributes")) is not None:
            errors.append(invalid("spec.nonResourceAttributes", _go_paths(paths), "disallowed on this kind of request"))
        _refuse(errors)
        return await self._answer(call, spec, _subject(spec))

    async def self_access(self, call: Call) -> Object:
        """May the caller? Raises Invalid."""
        spec = call.object.get("spec") or {}
        _refuse([*_spec_errors(spec), *_metadata_errors(call.object)])
        return await self._answer(call, spec, call.user)

    async def self_rules(self, call: Call) -> Object:
        """What may the caller in a namespace? Raises BadRequest."""
        namespace = (call.object.get("spec") or {}).get("namespace") or ""
        if not namespace:
            raise BadRequest("no namespace on request")
        rules, errors, incomplete = self._chain.rules_for(call.user, namespace)
        status: Object = {
            "resourceRules": [_resource_rule(rule) for rule in rules if rule.resources],
            "nonResourceRules": [_path_rule(rule) for rule in rules if rule.urls],
            "incomplete": incomplete,
        }
        if errors:
            status["evaluationError"] = aggregate(errors)
        return call.object | {"metadata": {}, "spec": {}, "status": status}

    async def _answer(self, call: Call, spec: Object, user: User) -> Object:
        asked, ignored = _asked(spec)
        decision, reason = await self._chain.authorize(user, asked)
        status: Object = {"allowed": decision is Decision.ALLOW}
        if decision is Decision.DENY:
            status["denied"] = True
        if reason:
            status["reason"] = reason
        if ignored:
            status["evaluationError"] = ignored
        return call.object | {"spec": _tidy(spec), "status": status}


def _subject(spec: Object) -> User:
    extra = {key.lower(): tuple(values or ()) for key, values in (spec.get("extra") or {}).items()}
    return User(spec.get("user") or "", spec.get("uid") or "", tuple(spec.get("groups") or ()), extra)


def _asked(spec: Object) -> tuple[RequestInfo, str]:
    """What is asked, and which of its selectors can't be understood."""
    paths = spec.get("nonResourceAttributes")
    if paths is not None:
        return RequestInfo(verb=paths.get("verb") or "", path=paths.get("path") or ""), ""
    attributes = spec.get("resourceAttributes") or {}
    fields, lost = read_fields(attributes.get("fieldSelector"))
    labels, lost_too = read_labels(attributes.get("labelSelector"))
    asked = RequestInfo(
        path="",
        is_resource=True,
        field_selector=fields,
        label_selector=labels,
        **{key: attributes.get(key) or "" for key in _RESOURCE},
    )
    return asked, "; ".join(filter(None, (lost, lost_too)))


def _refuse(errors: Sequence[FieldError]) -> None:
    if errors:
        refusal: StatusError = invalid_object(GROUP, "", "", errors)
        (refusal.details or {}).pop("kind", None)  # upstream names no kind here
        raise refusal


def _spec_errors(spec: Object, *, subject: bool = False) -> list[FieldError]:
    attributes, paths = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    errors = []
    if attributes is not None and paths is not None:
        told = "cannot be specified in combination with resourceAttributes"
        errors.append(invalid("spec.nonResourceAttributes", _go_paths(paths), told))
    if attributes is None and paths is None:
        told = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        errors.append(invalid("spec.resourceAttributes", None, told))
    if subject and not spec.get("user") and not spec.get("groups"):
        told = "at least one of user or group must be specified"
        errors.append(invalid("spec.user", spec.get("user") or "", told))
    for name in ("fieldSelector", "labelSelector"):
        selector = (attributes or {}).get(name)
        if selector is not None:
            errors += _selector_errors(selector, f"spec.resourceAttributes.{name}", labels=name == "labelSelector")
    return errors


def _selector_errors(selector: Object, field: str, *, labels: bool) -> list[FieldError]:
    raw, requirements = selector.get("rawSelector") or "", selector.get("requirements") or ()
    errors = []
    if raw and requirements:
        errors.append(invalid(f"{field}.rawSelector", raw, "may not specified at the same time as requirements"))
    if not raw and not requirements:
        told = f"when {field} is specified, requirements or rawSelector is required"
        errors.append(required(f"{field}.requirements", told))
    for index, one in enumerate(requirements):
        at, operator = f"{field}.requirements[{index}]", one.get("operator") or ""
        key, values = one.get("key") or "", one.get("values") or ()
        if not labels and not key:
            errors.append(required(f"{at}.key", "must be specified"))
        # Other operators may be of later versions: who asks with them is answered as if they were not there.
        if operator in ("In", "NotIn") and not values:
            errors.append(required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        if operator in ("Exists", "DoesNotExist") and values:
            told = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden(f"{at}.values", told))
        if labels:
            errors += [invalid(f"{at}.key", key, why) for why in names.qualified_name(key)]
            for position, value in enumerate(values):
                errors += [invalid(f"{at}.values[{position}]", value, why) for why in names.label_value(value)]
    return errors


def _metadata_errors(obj: Object, *, local: bool = False) -> list[FieldError]:
    ignored = {"managedFields", "creationTimestamp"} | ({"namespace"} if local else set())
    given = {key: value for key, value in (obj.get("metadata") or {}).items() if value and key not in ignored}
    if not given:
        return []
    told = "must be empty except for namespace" if local else "must be empty"
    return [invalid("metadata", given, told)]


def _go_paths(attributes: Object) -> Object:
    """As upstream's messages show it: by the names the fields have in Go."""
    return {"Path": attributes.get("path") or "", "Verb": attributes.get("verb") or ""}


def _tidy(value: Object) -> Object:
    """The spec without the empty fields that upstream leaves out."""
    return {
        key: _tidy(item) if isinstance(item, dict) else item
        for key, item in value.items()
        if item is not None and item not in ("", [])
    }


def _resource_rule(rule: Rule) -> Object:
    made = {"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources, "resourceNames": rule.names}
    return {key: list(values) for key, values in made.items() if values or key == "verbs"}


def _path_rule(rule: Rule) -> Object:
    return {"verbs": list(rule.verbs), "nonResourceURLs": list(rule.urls)}
