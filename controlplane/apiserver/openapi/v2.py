"""OpenAPI v2 ("swagger"): the version 3 documents as the one document that older clients read.

Source: k8s.io/kube-openapi/pkg/builder; https://swagger.io/specification/v2/.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

Document = dict[str, Any]

_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED = "x-kubernetes-embedded-resource"
_KINDS = "x-kubernetes-group-version-kind"
_V3, _V2 = "#/components/schemas/", "#/definitions/"


def document(documents: Iterable[Document], custom: Collection[str] = ()) -> Document:
    """The documents of all groups and versions as one of version 2; `custom` names the schemas of custom resources."""
    paths: Document = {}
    schemas: Document = {}
    info: Document = {}
    for each in documents:
        info = each["info"]
        paths |= {path: _path(item) for path, item in each["paths"].items()}
        schemas |= each["components"]["schemas"]
    for name in custom:
        if name in schemas:
            schemas[name] = _custom(schemas[name])
    return {
        "swagger": "2.0",
        "info": info,
        "paths": dict(sorted(paths.items())),
        "definitions": {name: _schema(schema) for name, schema in sorted(schemas.items())},
        "securityDefinitions": {
            "BearerToken": {
                "description": "Bearer Token authentication",
                "type": "apiKey",
                "name": "authorization",
                "in": "header",
            }
        },
        "security": [{"BearerToken": []}],
    }


def _path(item: Document) -> Document:
    made: Document = {}
    for key, value in item.items():
        made[key] = [_parameter(p) for p in value] if key == "parameters" else _operation(value)
    return made


def _operation(given: Document) -> Document:
    made = {key: value for key, value in given.items() if key not in ("requestBody", "responses", "parameters")}
    parameters = [_parameter(p) for p in given.get("parameters", ())]
    made["consumes"] = ["*/*"]
    body = given.get("requestBody")
    if body:
        media = list(body["content"])
        made["consumes"] = media
        schema = _schema(body["content"][media[0]]["schema"])
        parameter = {"name": "body", "in": "body", "schema": schema}
        parameters.insert(0, parameter | {"required": True} if body.get("required") else parameter)
    responses, produces = {}, []
    for code, response in given["responses"].items():
        told: Document = {"description": response["description"]}
        content = response.get("content")
        if content:
            produces = list(content)
            told["schema"] = _schema(next(iter(content.values()))["schema"])
        responses[code] = told
    made |= {"produces": produces, "schemes": ["https"], "responses": responses}
    if parameters:
        made["parameters"] = parameters
    return made


def _parameter(given: Document) -> Document:
    kind: Document = given["schema"]
    return {key: value for key, value in given.items() if key != "schema"} | kind


def _schema(given: Any) -> Any:
    """References elsewhere, and what version 2 can't say (oneOf) as the nearest that it can."""
    if isinstance(given, list):
        return [_schema(item) for item in given]
    if not isinstance(given, dict):
        return given
    if "oneOf" in given:
        return {"type": "string"} | {key: value for key, value in given.items() if key in ("description", "format")}
    made = {key: _schema(value) for key, value in given.items() if key not in ("allOf", "default", "properties")}
    if "properties" in given:  # its keys are names of fields, whatever they look like
        made["properties"] = {name: _schema(value) for name, value in given["properties"].items()}
    if isinstance(given.get("$ref"), str):
        made["$ref"] = given["$ref"].replace(_V3, _V2)
    only = given.get("allOf")
    if only is not None and len(only) == 1:
        made |= _schema(only[0])
    elif only is not None:
        made["allOf"] = _schema(only)
    if given.get("default"):
        made["default"] = given["default"]
    return made


def _custom(schema: Document) -> Document:
    """The schema of a kind of custom resource; clients would take what is not named in it for forbidden."""
    if schema.get(_PRESERVE):
        return {"type": "object", _KINDS: schema[_KINDS]}
    return plain(schema)


def plain(given: Document) -> Document:
    """The schema of a custom resource without what clients of version 2 stumble over: they take a field's type and
    properties for all there is.

    Source: k8s.io/apiextensions-apiserver/pkg/controller/openapi/v2/conversion.go.
    """
    open_ended = bool(given.get(_PRESERVE) or given.get("nullable"))
    made = {key: value for key, value in given.items() if key not in ("anyOf", "oneOf", "not", "nullable")}
    if any("$ref" not in part for part in given.get("allOf") or ()):
        made.pop("allOf", None)  # a reference to the schema of metadata stays
    if open_ended:
        made.pop("items", None)
        made.pop("properties", None)
    if given.get(_PRESERVE) and given.get(_EMBEDDED):  # the two are said of version 3 only
        made["required"] = [name for name in given.get("required") or () if name not in ("kind", "apiVersion")]
    if given.get("nullable") or (given.get(_PRESERVE) and given.get("type") == "object"):
        made.pop("type", None)
    if made.get("type") == "array" and "items" not in made:
        made.pop("type")
    rest = made.get("additionalProperties")
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = plain(made[key])
    properties = made.get("properties")
    if properties is not None:
        made["properties"] = {name: plain(value) for name, value in properties.items()}
        optional = {name for name, value in properties.items() if value.get("nullable")}
        made["required"] = [name for name in given.get("required") or () if name not in optional]
    if not made.get("required") or (isinstance(rest, dict) and rest.get("nullable")):
        made.pop("required", None)
    return made


def merge(document: dict[str, Any], other: dict[str, Any], path: str) -> None:
    """Add what another server's document says of the paths under `path`, with all definitions it needs."""
    paths = {p: item for p, item in (other.get("paths") or {}).items() if p == path or p.startswith(f"{path}/")}
    theirs: dict[str, Any] = other.get("definitions") or {}
    ours: dict[str, Any] = document.setdefault("definitions", {})
    renamed = {name: _free(name, ours) for name, schema in theirs.items() if name in ours and ours[name] != schema}
    text = json.dumps({"paths": paths, "definitions": theirs})
    for name, new in renamed.items():
        text = text.replace(f'"#/definitions/{name}"', f'"#/definitions/{new}"')
    made = json.loads(text)
    document.setdefault("paths", {}).update(made["paths"])
    for name, schema in made["definitions"].items():
        ours.setdefault(renamed.get(name, name), schema)


def _free(name: str, taken: dict[str, Any]) -> str:
    return next(f"{name}_v{i}" for i in range(2, 1000) if f"{name}_v{i}" not in taken)
