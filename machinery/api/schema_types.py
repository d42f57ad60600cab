"""The shape of objects: a tree of types, read from the published definitions of Kubernetes v1.36.

One `Type` stands for a definition or for the value of one property; it says what Go's decoder, strategic merge and
server-side apply need to know.  Trees are shared and may be cyclic (JSONSchemaProps); nobody changes them.

Source: PyPI kubernetes-validate (the OpenAPI definitions of each release); k8s.io/kube-openapi extensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final, Literal

import orjson

from machinery.imports import folder_of

VERSION: Final = "v1.36.0"
_REF: Final = "#/$defs/"

Sort = Literal[
    "object", "map", "list", "string", "integer", "number", "boolean", "bytes", "quantity", "intorstr", "time", "any"
]

_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."
_CRD: Final = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
_SPECIAL: Final[dict[str, tuple[Sort, str]]] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": ("quantity", "resource.Quantity"),
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": ("intorstr", "intstr.IntOrString"),
    "io.k8s.apimachinery.pkg.runtime.RawExtension": ("any", "runtime.RawExtension"),
    _META + "Time": ("time", "v1.Time"),
    _META + "MicroTime": ("time", "v1.MicroTime"),
    _META + "FieldsV1": ("any", "v1.FieldsV1"),
    _CRD + "JSON": ("any", "v1.JSON"),
    _CRD + "JSONSchemaPropsOrArray": ("any", "v1.JSONSchemaPropsOrArray"),
    _CRD + "JSONSchemaPropsOrBool": ("any", "v1.JSONSchemaPropsOrBool"),
    _CRD + "JSONSchemaPropsOrStringArray": ("any", "v1.JSONSchemaPropsOrStringArray"),
}


@dataclass(slots=True, eq=False)
class Type:
    """What a value looks like.

    `name` is the definition's long name (empty for what has none); `go` is how Go prints the type.
    """

    sort: Sort
    go: str
    name: str = ""
    fields: dict[str, Type] = field(default_factory=dict)  # object
    required: frozenset[str] = frozenset()  # object
    element: Type | None = None  # list, map; an object of which other fields are allowed as well
    format: str = ""
    list_type: str = "atomic"  # atomic, set or map
    map_keys: tuple[str, ...] = ()
    atomic: bool = False  # object, map: owned as a whole
    merge_key: str = ""  # strategic merge: the key of a list that is merged
    strategies: frozenset[str] = frozenset()  # strategic merge: merge, retainKeys, replace
    field_strategies: dict[str, frozenset[str]] = field(default_factory=dict)  # object: the same, of its fields
    defaults: dict[str, Any] = field(default_factory=dict)  # of fields that are keys of a list
    preserve: bool = False  # object: unknown fields are kept
    bare: bool = False  # any: no fields of objects in it are kept, though nothing is said of them

    def child(self, name: str) -> Type | None:
        """The type of a field or of a map's value; None if there is no such field."""
        return self.fields.get(name) or self.element


ANY: Final = Type("any", "interface {}")

# Defaults of fields that are keys of list-maps: they take part in the identity of an item though they are absent.
# The published definitions do not carry them: those below are from `+default=` markers in k8s.io/api/core/v1/types.go;
# a required string or number is "" or 0.
_ZERO_KEYS: Final[dict[str, Any]] = {"string": "", "integer": 0}
_KEY_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "io.k8s.api.core.v1.ContainerPort": {"protocol": "TCP"},
    "io.k8s.api.core.v1.ServicePort": {"protocol": "TCP"},
}


def base_type(schema: Mapping[str, Any]) -> str:
    """The JSON type of a definition, without the `null` that kubernetes-validate adds."""
    kind = schema.get("type", "")
    return str(kind[0]) if isinstance(kind, list) else str(kind)


@cache
def definitions() -> dict[str, Any]:
    """The definitions as kubernetes-validate carries them, by long name. Shared: not to be changed."""
    root = folder_of("kubernetes_validate") / "kubernetes-json-schema" / f"{VERSION}-local"
    loaded: dict[str, Any] = orjson.loads((root / "_definitions.json").read_bytes())["$defs"]
    return loaded


class Types:
    """Types by definition, made on first use."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        self._source = source
        self._made: dict[str, Type] = {}

    def of(self, name: str) -> Type:
        """The type of a definition. Raises KeyError."""
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = self._blank(name)
            self._fill(made, self._source[name])
        return made

    def _blank(self, name: str) -> Type:
        package, short = name.split(".")[-2:]
        sort, go = _SPECIAL.get(name, ("object", f"{package}.{short}"))
        kind = base_type(self._source[name])
        if name not in _SPECIAL and kind != "object":
            sort = "any" if not kind else self._property(self._source[name]).sort
        form = "micro" if short == "MicroTime" else ""
        return Type(sort, go, name, format=form, atomic=go.startswith("v1.JSON") and sort == "any")

    def _fill(self, made: Type, schema: Mapping[str, Any]) -> None:
        if made.sort != "object":
            return
        for name, inner in schema.get("properties", {}).items():
            made.fields[name] = self._property(inner)
            if strategies := _strategies(inner):
                made.field_strategies[name] = strategies
        made.required = frozenset(schema.get("required", ()))
        made.atomic = schema.get("x-kubernetes-map-type") == "atomic"
        zeros = {n: _ZERO_KEYS[t.sort] for n, t in made.fields.items() if n in made.required and t.sort in _ZERO_KEYS}
        made.defaults = zeros | _KEY_DEFAULTS.get(made.name, {})
        if made.name == _CRD + "JSONSchemaProps":
            _open_json_schema(made)

    def _property(self, schema: Mapping[str, Any]) -> Type:
        if ref := schema.get("$ref"):
            found = self.of(ref.removeprefix(_REF))
            if schema.get("x-kubernetes-map-type") == "atomic" and not found.atomic:
                return replace(found, atomic=True)
            return found
        kind, form = base_type(schema), schema.get("format", "")
        if kind == "array":
            return self._list(schema)
        if kind == "object":
            return self._map(schema)
        if kind == "string":
            return Type("bytes", "[]uint8") if form == "byte" else Type("string", "string")
        if kind == "integer":
            return Type("integer", form or "int64", format=form or "int64")
        if kind == "number":
            return Type("number", "float64")
        return Type("boolean", "bool") if kind == "boolean" else ANY

    def _list(self, schema: Mapping[str, Any]) -> Type:
        element = self._property(schema["items"])
        return Type(
            "list",
            "[]" + element.go,
            element=element,
            list_type=schema.get("x-kubernetes-list-type", "atomic"),
            map_keys=tuple(schema.get("x-kubernetes-list-map-keys", ())),
            merge_key=schema.get("x-kubernetes-patch-merge-key", ""),
            strategies=_strategies(schema),
        )

    def _map(self, schema: Mapping[str, Any]) -> Type:
        element = self._property(schema["additionalProperties"]) if "additionalProperties" in schema else ANY
        go = "v1.ResourceList" if element.sort == "quantity" else f"map[string]{element.go}"
        atomic = schema.get("x-kubernetes-map-type") == "atomic"
        return Type("map", go, element=element, atomic=atomic, strategies=_strategies(schema))


def _strategies(schema: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(s for s in schema.get("x-kubernetes-patch-strategy", "").split(",") if s)


def _open_json_schema(made: Type) -> None:
    """JSON Schema's own unions, which OpenAPI can't express: a schema, or a boolean, or a list."""
    made.fields["items"] = Type("any", "v1.JSONSchemaPropsOrArray", element=made, atomic=True)
    made.fields["additionalProperties"] = Type("any", "v1.JSONSchemaPropsOrBool", element=made, atomic=True)


def published() -> dict[str, Any]:
    """The definitions as upstream publishes them: without kubernetes-validate's nulls, unions and enums.

    A new structure at every call; references keep the form `#/$defs/NAME`.
    """
    return {name: _restored(name, schema) for name, schema in definitions().items()}


def _restored(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if name.endswith("resource.Quantity"):
        return {"description": schema.get("description", ""), "type": "string"}
    if name.endswith("intstr.IntOrString"):
        return {"description": schema.get("description", ""), "type": "string", "format": "int-or-string"}
    out = {k: v for k, v in schema.items() if k not in ("enum", "properties", "items", "additionalProperties")}
    if "type" in out:
        out["type"] = base_type(schema)
    if name.startswith(_CRD + "JSON") and out.get("type") == "object" and "properties" not in schema:
        del out["type"]
    if "properties" in schema:
        out["properties"] = {k: _restored("", v) for k, v in schema["properties"].items()}
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            out[inner] = _restored("", schema[inner])
    return out
