"""What is wrong with the apiVersion, kind and metadata of resources that stand inside a custom resource.

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta/validation.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from controlplane.apiserver.handlers import metadata
from machinery.api import names
from machinery.api.fielderror import FieldError, invalid, required
from machinery.api.structural.words import EMBEDDED


def errors(schema: Mapping[str, Any], value: Any, path: str = "") -> Iterator[FieldError]:
    """The errors of all embedded resources in a value."""
    if isinstance(value, dict):
        if schema.get(EMBEDDED):
            yield from _resource(value, path)
        properties, rest = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, inner in value.items():
            if name in properties:
                yield from errors(properties[name], inner, f"{path}.{name}" if path else name)
            elif isinstance(rest, Mapping):
                yield from errors(rest, inner, f"{path}[{name}]")
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for i, item in enumerate(value):
            yield from errors(schema["items"], item, f"{path}[{i}]")


def _resource(value: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    for key, check in (("apiVersion", _version), ("kind", _kind)):
        given = value.get(key)
        if key in value and not isinstance(given, str):
            yield invalid(f"{path}.{key}", given, "must be a string")
        elif not given:
            yield required(f"{path}.{key}")
        elif wrong := check(str(given)):
            yield invalid(f"{path}.{key}", given, wrong)
    meta = value.get("metadata")
    if isinstance(meta, dict):
        given_meta = {**meta, "name": meta.get("name") or "fakename"}  # a name is not asked for
        namespaced = bool(meta.get("namespace"))
        for error in metadata.validate(given_meta, namespaced=namespaced, check_name=names.path_segment):
            yield FieldError(error.reason, f"{path}.{error.field}", error.body)


def _version(given: str) -> str:
    return f"unexpected GroupVersion string: {given}" if given.count("/") > 1 else ""


def _kind(given: str) -> str:
    wrong = names.dns1035_label(given.lower())
    return f"may have mixed case, but should otherwise match: {','.join(wrong)}" if wrong else ""
