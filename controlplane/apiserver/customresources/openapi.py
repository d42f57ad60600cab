"""The published schemas of custom resources, beside those of the built-in kinds.

Source: k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.apiserver.openapi.definitions import Definitions, Schema, schema_name
from controlplane.apiserver.resources import Resources, Served
from machinery.api.structural.custom import CustomSchema
from machinery.api.structural.words import EMBEDDED, INT_OR_STRING

_META = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1."
_API_VERSION = "APIVersion defines the versioned schema of this representation of an object."
_KIND = "Kind is a string value representing the REST resource this object represents."
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_EITHER = [{"type": "integer"}, {"type": "string"}]
_NOT_PUBLISHED = ("externalDocs", "example", "$schema")


def published(resources: Resources) -> Definitions:
    """The definitions of all that is served."""
    definitions = Definitions()
    for served in resources.all():
        if isinstance(served.schema, CustomSchema):
            _add(definitions, served, served.schema)
    return definitions


def _add(definitions: Definitions, served: Served, schema: CustomSchema) -> None:
    kind = served.type
    name = schema_name(kind)
    definitions.add(name, _schema_of(served, schema.definition), (kind.group, kind.version, kind.kind))
    items = {
        "type": "array",
        "items": {"$ref": f"#/components/schemas/{name}"},
        "description": f"List of {kind.plural}.",
    }
    many = {
        "description": f"{kind.list_kind} is a list of {kind.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {**_type_meta("ListMeta"), "items": items},
        "x-kubernetes-group-version-kind": _gvk(served, kind.list_kind),
    }
    definitions.add(f"{name}List", many, (kind.group, kind.version, kind.list_kind))


def _schema_of(served: Served, definition: Any) -> Schema:
    made: Schema = published_part(definition)
    made["type"] = "object"
    if definition.get("properties") or not definition.get(_PRESERVE):
        made["properties"] = {**made.get("properties", {}), **_type_meta("ObjectMeta")}
    made["x-kubernetes-group-version-kind"] = _gvk(served, served.type.kind)
    return made


def published_part(definition: Mapping[str, Any]) -> Schema:
    """A part of a schema as it is published: int-or-strings say so in words of OpenAPI, embedded resources have what
    every resource has."""
    made: Schema = {key: value for key, value in definition.items() if key not in _NOT_PUBLISHED}
    if "properties" in definition:
        made["properties"] = {name: published_part(inner) for name, inner in (definition["properties"] or {}).items()}
    for key in ("items", "additionalProperties"):
        if isinstance(definition.get(key), Mapping):
            made[key] = published_part(definition[key])
    first = (definition.get("allOf") or [{}])[0]
    if definition.get(INT_OR_STRING) and _EITHER not in (definition.get("anyOf"), first.get("anyOf")):
        if definition.get("anyOf"):
            made["allOf"] = [{"anyOf": _EITHER}, *(definition.get("allOf") or ())]
        else:
            made["anyOf"] = _EITHER
    if definition.get(EMBEDDED):
        made["properties"] = {**made.get("properties", {}), **_type_meta("ObjectMeta")}
        required = list(definition.get("required") or ())
        made["required"] = required + [name for name in ("kind", "apiVersion") if name not in required]
    return made


def _type_meta(metadata: str) -> Schema:
    return {
        "apiVersion": {"description": _API_VERSION, "type": "string"},
        "kind": {"description": _KIND, "type": "string"},
        "metadata": {"description": "Standard object's metadata.", "allOf": [{"$ref": f"{_META}{metadata}"}]},
    }


def _gvk(served: Served, kind: str) -> list[dict[str, str]]:
    return [{"group": served.type.group, "kind": kind, "version": served.type.version}]
