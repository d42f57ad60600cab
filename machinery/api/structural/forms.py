"""A schema as messages show it: in the form of upstream's internal type, all fields, in their order.

Source: k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/types_jsonschema.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from machinery.api.structural.words import EMBEDDED, INT_OR_STRING, LIST_KEYS, LIST_TYPE, MAP_TYPE, PRESERVE, RULES


def _same(value: Any) -> Any:
    return value


def _docs(value: Any) -> Any:
    return {"Description": value.get("description", ""), "URL": value.get("url", "")}


def _rules(value: list[Any]) -> Any:
    return [
        {
            "Rule": rule.get("rule", ""), "Message": rule.get("message", ""),
            "MessageExpression": rule.get("messageExpression", ""), "Reason": rule.get("reason"),
            "FieldPath": rule.get("fieldPath", ""), "OptionalOldSelf": rule.get("optionalOldSelf"),
        }
        for rule in value
    ]  # fmt: skip


def internal_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The whole schema in that form."""
    return {name: _field(schema.get(key), zero, form) for name, key, zero, form in _FIELDS}


def _field(value: Any, zero: Any, form: Callable[[Any], Any]) -> Any:
    return zero if value is None or value in ([], {}) else form(value)


def _many(value: Any) -> Any:
    return [internal_schema(part) for part in value]


def _named(value: Any) -> Any:
    return {name: internal_schema(inner) for name, inner in sorted(value.items())}


def _rest(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {"Allows": True, "Schema": internal_schema(value)}
    return {"Allows": bool(value), "Schema": None}


def _items(value: Any) -> Any:
    if isinstance(value, list):
        return {"Schema": None, "JSONSchemas": _many(part for part in value if isinstance(part, Mapping))}
    return {"Schema": internal_schema(value) if isinstance(value, Mapping) else None, "JSONSchemas": None}


_FIELDS: Final[tuple[tuple[str, str, Any, Callable[[Any], Any]], ...]] = (
    ("ID", "id", "", _same), ("Schema", "$schema", "", _same), ("Ref", "$ref", None, _same),
    ("Description", "description", "", _same), ("Type", "type", "", _same), ("Nullable", "nullable", False, _same),
    ("Format", "format", "", _same), ("Title", "title", "", _same), ("Default", "default", None, _same),
    ("Maximum", "maximum", None, _same), ("ExclusiveMaximum", "exclusiveMaximum", False, _same),
    ("Minimum", "minimum", None, _same), ("ExclusiveMinimum", "exclusiveMinimum", False, _same),
    ("MaxLength", "maxLength", None, _same), ("MinLength", "minLength", None, _same), ("Pattern", "pattern", "", _same),
    ("MaxItems", "maxItems", None, _same), ("MinItems", "minItems", None, _same),
    ("UniqueItems", "uniqueItems", False, _same), ("MultipleOf", "multipleOf", None, _same),
    ("Enum", "enum", None, _same), ("MaxProperties", "maxProperties", None, _same),
    ("MinProperties", "minProperties", None, _same), ("Required", "required", None, _same),
    ("Items", "items", None, _items), ("AllOf", "allOf", None, _many), ("OneOf", "oneOf", None, _many),
    ("AnyOf", "anyOf", None, _many), ("Not", "not", None, internal_schema), ("Properties", "properties", None, _named),
    ("AdditionalProperties", "additionalProperties", None, _rest),
    ("PatternProperties", "patternProperties", None, _named), ("Dependencies", "dependencies", None, _same),
    ("AdditionalItems", "additionalItems", None, _rest), ("Definitions", "definitions", None, _named),
    ("ExternalDocs", "externalDocs", None, _docs), ("Example", "example", None, _same),
    ("XPreserveUnknownFields", PRESERVE, None, _same), ("XEmbeddedResource", EMBEDDED, False, _same),
    ("XIntOrString", INT_OR_STRING, False, _same), ("XListMapKeys", LIST_KEYS, None, _same),
    ("XListType", LIST_TYPE, None, _same), ("XMapType", MAP_TYPE, None, _same), ("XValidations", RULES, None, _rules),
)  # fmt: skip
