"""The schemas as they are published, from the one schema source: null, which it allows nearly everywhere, taken out;
defaults and enums, which it lacks, put in.

Source: k8s.io/kube-openapi (how Go types become schemas).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controlplane.apiserver.openapi.enums import DEFAULTS, ENUMS
from machinery.api import schema_presence
from machinery.api.resource import ResourceType
from machinery.api.schema_types import definitions as source

Schema = dict[str, Any]

_SPECIAL: dict[str, Schema] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    },
}
_NO_DEFAULT = (".Time", ".MicroTime", ".Quantity", ".IntOrString")
_ZERO = {"string": "", "integer": 0, "number": 0, "boolean": False}


class Definitions:
    """Published schemas by long name, made on first use; custom resources may be added."""

    def __init__(self) -> None:
        self._source: Mapping[str, Any] = source()
        self._made: dict[str, Schema] = {}

        self._names = {
            (kind["group"], kind["version"], kind["kind"]): name
            for name, definition in self._source.items()
            for kind in definition.get("x-kubernetes-group-version-kind", ())
        }

    def name_of(self, group: str, version: str, kind: str) -> str | None:
        """The long name of a kind's definition."""
        return self._names.get((group, version, kind))

    def add(self, name: str, schema: Schema, kind: tuple[str, str, str]) -> None:
        """Publish the schema of a custom (group, version, kind)."""
        self._made[name] = schema
        self._names[kind] = name

    def is_built_in(self, name: str) -> bool:
        """Whether the definition is of a type of Kubernetes' own, and not of a custom resource."""
        return name in self._source

    def schema(self, name: str) -> Schema:
        """The OpenAPI v3 schema of a definition; shared, not to be changed. Raises KeyError."""
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = _SPECIAL.get(name) or self._publish(name, self._source[name])
        return made

    def closure(self, names: Iterable[str]) -> dict[str, Schema]:
        """These definitions and all that they refer to, sorted by name."""
        found: dict[str, Schema] = {}
        todo = [name for name in names if name in self._source or name in self._made]
        while todo:
            name = todo.pop()
            if name not in found:
                schema = found[name] = self.schema(name)
                todo += _references(schema)
        return dict(sorted(found.items()))

    def _publish(self, name: str, given: Schema) -> Schema:
        made: Schema = self._clean(given)
        facts = schema_presence.of(name)
        values = facts.always | (set(given.get("required", ())) - facts.nulls - facts.pointers)
        if given.get("x-kubernetes-group-version-kind"):
            values |= {"metadata", "spec", "status"} - facts.nulls
            for field in ("apiVersion", "kind"):
                made["properties"].get(field, {}).pop("enum", None)
        for field, schema in made.get("properties", {}).items():
            _annotate(f"{name}.{field}", schema, is_value=field in values)
        return made

    def _clean(self, given: Any) -> Any:
        if isinstance(given, list):
            return [self._clean(item) for item in given]
        if not isinstance(given, dict):
            return given
        made: Schema = {}
        for key, value in given.items():
            if key == "$ref":
                made["allOf"] = [{"$ref": _v3(value)}]
            elif key == "type" and isinstance(value, list):
                made["type"] = next(kind for kind in value if kind != "null")
            elif key == "properties":
                made[key] = {name: self._clean(schema) for name, schema in value.items()}
            elif key in ("items", "additionalProperties") and isinstance(value, dict) and "$ref" in value:
                made[key] = {"$ref": _v3(value["$ref"])}
            else:
                made[key] = self._clean(value)
        return made


def _annotate(path: str, schema: Schema, *, is_value: bool) -> None:
    """Put in what the schema source lacks. A field that is no pointer in Go has its zero value as default."""
    if path in ENUMS:
        (schema["items"] if schema.get("type") == "array" else schema)["enum"] = ENUMS[path]
    if path in DEFAULTS:
        schema["default"] = DEFAULTS[path]
    elif is_value and "allOf" in schema:
        if not schema["allOf"][0]["$ref"].endswith(_NO_DEFAULT):
            schema["default"] = {}
    elif is_value and schema.get("type") in _ZERO:
        schema["default"] = _ZERO[schema["type"]]


def _v3(reference: str) -> str:
    return "#/components/schemas/" + reference.rpartition("/")[2]


def _short(reference: str) -> str:
    return reference.rpartition("/")[2]


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for item in schema for name in _references(item)]
    if not isinstance(schema, dict):
        return []
    found = [_short(schema["$ref"])] if isinstance(schema.get("$ref"), str) else []
    for value in schema.values():
        found += _references(value)
    return found


def schema_name(kind: ResourceType) -> str:
    """What the schema of a custom resource is called."""
    return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])
