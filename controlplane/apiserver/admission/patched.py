"""Applying what webhooks and policies want changed, and making the result an object of its kind again.

Source: k8s.io/apiserver/pkg/admission/plugin/webhook/mutating/dispatcher.go,
pkg/admission/plugin/policy/mutating/patch.
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.admission.admissionrequest import kind_of
from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.registry import strategy_for
from machinery.api import schema
from machinery.api.meta import Object
from machinery.api.patch import json as json_patch
from machinery.api.patch import merge, strategic
from machinery.errors import NavarchError, StatusError


class PatchError(NavarchError):
    """A patch does not apply, or what it makes is no object of the kind."""


def apply_json_patch(operation: Operation, patch: Any) -> Object:
    """The operation's object after a JSON patch. Raises PatchError."""
    try:
        made = json_patch.apply(operation.object, patch)
    except StatusError as exc:
        raise PatchError(f"unable to apply the JSON patch: {exc.message}") from exc
    return settled(operation, made)


def apply_configuration(operation: Operation, patch: Any) -> Object:
    """The operation's object with a partial object merged into it. Raises PatchError."""
    if not isinstance(patch, dict):
        raise PatchError("an apply configuration must be an object")
    kind = schema.load().of(*kind_of(operation))
    try:
        made = (
            strategic.apply(kind, operation.object, patch) if kind is not None else merge.apply(operation.object, patch)
        )
    except StatusError as exc:
        raise PatchError(f"unable to apply the configuration: {exc.message}") from exc
    return settled(operation, made)


def settled(operation: Operation, obj: Any) -> Object:
    """The object as its kind reads it, with defaults. Raises PatchError."""
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata"), dict):
        raise PatchError("the patched object is no object")
    before = operation.object or {}
    if (obj.get("apiVersion"), obj.get("kind")) != (before.get("apiVersion"), before.get("kind")):
        raise PatchError("a patch can't change apiVersion or kind")
    kind = schema.load().of(*kind_of(operation))
    if kind is not None:
        decoded = kind.decode(obj)
        if decoded.errors:
            raise PatchError(decoded.errors[0])
        obj = {**{key: obj[key] for key in ("apiVersion", "kind") if key in obj}, **decoded.object}
    if not operation.subresource:
        strategy_for(operation.resource).default(obj)
    made: Object = obj
    return made
