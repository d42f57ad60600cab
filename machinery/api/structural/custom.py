"""Compiling a structural schema: decoding (pruning), defaulting, and the types that patches and apply look at.

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema (pruning, defaulting, objectmeta); KEP "Structural schemas".
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from machinery.api import schema as builtin
from machinery.api import schema_strict
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object
from machinery.api.schema import KindSchema
from machinery.api.schema_decode import Mismatch, Notes
from machinery.api.schema_types import ANY, Type
from machinery.api.structural import listtype, rulerun, validation
from machinery.api.structural.rules import RuleTree, rule_tree

OBJECT_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_STRING: Final = Type("string", "string")
_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED: Final = "x-kubernetes-embedded-resource"
_INT_OR_STRING: Final = "x-kubernetes-int-or-string"

FREE: Final = Type("any", "interface {}", preserve=True)
"""The type of what is not described."""


@dataclass(frozen=True, slots=True, eq=False)
class CustomSchema(KindSchema):
    """The schema of a custom kind."""

    custom: ClassVar[bool] = True

    definition: Mapping[str, Any]
    """The openAPIV3Schema, as the CustomResourceDefinition has it. Not to be changed."""
    rules: RuleTree
    """Its CEL rules."""

    def default(self, obj: Object) -> None:
        """Fill in the defaults of the schema, in place; values that are null without being nullable give way."""
        _default(obj, self.definition)

    def shape_errors(self, obj: Object, old: Object | None = None) -> list[FieldError]:
        """Errors of an object against the schema; on an update, parts that did not change are not looked at again."""
        return validation.validate(self.definition, obj, old)

    def status_errors(self, obj: Object, old: Object) -> list[FieldError]:
        """Errors of the status of an object, looked at by itself."""
        schema = (self.definition.get("properties") or {}).get("status")
        if schema is None or "status" not in obj:
            return []
        found = validation.validate(schema, obj["status"], old.get("status"))
        return [FieldError(e.reason, _under("status", e.field), e.body) for e in found]

    def duplicates(self, obj: Object, old: Object | None = None) -> list[FieldError]:
        """What lists have twice, unless they had before."""
        found = list(listtype.duplicates(self.definition, obj, ""))
        if found and old is not None and any(listtype.duplicates(self.definition, old, "")):
            return []
        return found

    def rule_errors(self, errors: list[FieldError], obj: Object, old: Object | None = None) -> list[FieldError]:
        """Errors by rules, which can't run on an object with some sorts of other `errors`."""
        if self.rules.empty:
            return []
        if validation.blocks_rules(errors):
            return [validation.NOT_CHECKED]
        return rulerun.validate(self.rules, obj, old)

    def validate(self, obj: Object, old: Object | None = None) -> list[FieldError]:
        """All of that, of an object as a whole."""
        errors = self.shape_errors(obj, old) + self.duplicates(obj, old)
        return errors + self.rule_errors(errors, obj, old)


def compile_schema(group: str, version: str, kind: str, definition: Mapping[str, Any] | None) -> CustomSchema:
    """The schema of a custom kind; `definition` is its openAPIV3Schema (None or {}: anything goes)."""
    definition = definition or {"type": "object", _PRESERVE: True}
    root = type_of(definition, resource=True)

    def decode(value: Any, notes: Notes) -> Any:
        return _pruned(root, value, notes)

    def mismatch(value: Any) -> str:
        if not isinstance(value, dict):
            return schema_strict.mismatch(builtin.load().compiler, Type("object", "unstructured.Unstructured"), value)
        metadata = _metadata_of(root, value)
        return next((m for kind_, v in metadata if (m := _wrong(kind_, v))), "")

    empty = {"apiVersion": f"{group}/{version}", "kind": kind}
    tree = rule_tree(definition, resource=True)
    return CustomSchema(group, version, kind, root, empty, decode, mismatch, definition, tree)


def has_defaults(definition: Mapping[str, Any]) -> bool:
    """Whether a schema has defaults anywhere."""
    if definition.get("default") is not None:
        return True
    inner = [
        *(definition.get("properties") or {}).values(),
        definition.get("items"),
        definition.get("additionalProperties"),
    ]
    return any(has_defaults(part) for part in inner if isinstance(part, Mapping))


def _under(parent: str, field: str) -> str:
    if field in ("", "<nil>"):
        return parent
    return f"{parent}{field}" if field.startswith("[") else f"{parent}.{field}"


def _wrong(kind: Type, value: Any) -> str:
    try:
        builtin.load().compiler.decoder(kind)(value, [])
    except Mismatch:
        return schema_strict.mismatch(builtin.load().compiler, kind, value)
    return ""


def _metadata_of(kind: Type, value: Any) -> list[tuple[Type, Any]]:
    """All metadata in an object: its own, and that of resources embedded in it."""
    found = []
    if isinstance(value, dict):
        for name, inner in value.items():
            child = kind.child(name)
            if child is not None and child.name == OBJECT_META:
                found.append((child, inner))
            elif child is not None:
                found += _metadata_of(child, inner)
    elif isinstance(value, list) and kind.element is not None:
        for item in value:
            found += _metadata_of(kind.element, item)
    return found


def type_of(definition: Mapping[str, Any], *, resource: bool = False) -> Type:
    """The type that patches, apply and pruning see; `resource`: an object with apiVersion, kind and metadata."""
    preserve = bool(definition.get(_PRESERVE))
    sort = definition.get("type", "")
    if definition.get(_INT_OR_STRING):
        return Type("intorstr", "intstr.IntOrString")
    if sort == "array":
        return _list_of(definition)
    if sort == "object" or (not sort and "properties" in definition) or resource:
        return _object_of(definition, resource=resource or bool(definition.get(_EMBEDDED)), preserve=preserve)
    if sort in ("string", "boolean", "number"):
        return Type(sort, sort)
    if sort == "integer":
        return Type("integer", "int64", format="int64")
    return FREE


def _object_of(definition: Mapping[str, Any], *, resource: bool, preserve: bool) -> Type:
    fields = {name: type_of(inner) for name, inner in (definition.get("properties") or {}).items()}
    if resource:
        fields |= {"apiVersion": _STRING, "kind": _STRING, "metadata": builtin.load().type(OBJECT_META)}
    rest = definition.get("additionalProperties")
    element = None
    if isinstance(rest, Mapping):
        element = type_of(rest)
    elif rest:
        element = FREE
    atomic = definition.get("x-kubernetes-map-type") == "atomic"
    required = frozenset(definition.get("required") or ())
    if preserve and not fields and element is None:
        return Type("any", "map[string]interface {}", preserve=True, atomic=atomic)
    defaults = {
        name: inner["default"]
        for name, inner in (definition.get("properties") or {}).items()
        if inner.get("default") is not None
    }
    return Type(
        "map" if element is not None and not fields else "object",
        "map[string]interface {}",
        fields=fields,
        required=required,
        element=element,
        atomic=atomic,
        preserve=preserve,
        defaults=defaults,
    )


def _list_of(definition: Mapping[str, Any]) -> Type:
    element = type_of(definition.get("items") or {})
    return Type(
        "list",
        "[]interface {}",
        element=element,
        list_type=definition.get("x-kubernetes-list-type") or "atomic",
        map_keys=tuple(definition.get("x-kubernetes-list-map-keys") or ()),
        preserve=bool(definition.get(_PRESERVE)),
    )


def _pruned(kind: Type, value: Any, notes: Notes) -> Any:
    """The value without unknown fields; metadata as its own type reads it. Raises Mismatch."""
    if kind.name == OBJECT_META:
        return None if value is None else builtin.load().compiler.decoder(kind)(value, notes)
    if isinstance(value, dict):
        return value if kind.sort == "any" else _pruned_members(kind, value, notes)
    if isinstance(value, list):
        inner = kind.element if kind.sort == "list" else None
        if inner is None or (kind.preserve and inner is ANY):
            return value
        return [_pruned(inner, item, notes) for item in value]
    if kind.sort == "object" and "metadata" in kind.fields and kind.fields["metadata"].name == OBJECT_META:
        raise Mismatch
    return value


def _pruned_members(kind: Type, value: dict[str, Any], notes: Notes) -> dict[str, Any]:
    made = {}
    described = bool(kind.fields) or kind.element is not None or kind.sort in ("object", "map")
    for name, inner in value.items():
        child = kind.child(name)
        if child is not None:
            pruned = _pruned(child, inner, notes)
            if pruned is not None or inner is None:
                made[name] = pruned
        elif kind.preserve or not described:
            made[name] = inner
        else:
            notes.append(name)
    return made


def _default(value: Any, definition: Mapping[str, Any]) -> None:
    if isinstance(value, dict):
        properties = definition.get("properties") or {}
        for name, inner in properties.items():
            wanted = inner.get("default")
            if wanted is not None and (name not in value or _gives_way(value[name], inner)):
                value[name] = copy.deepcopy(wanted)
        rest = definition.get("additionalProperties")
        for name, inner in value.items():
            if name in properties:
                _default(inner, properties[name])
            elif isinstance(rest, Mapping):
                value[name] = _defaulted(inner, rest)
    elif isinstance(value, list) and isinstance(definition.get("items"), Mapping):
        value[:] = [_defaulted(item, definition["items"]) for item in value]


def _gives_way(value: Any, definition: Mapping[str, Any]) -> bool:
    return value is None and not definition.get("nullable")


def _defaulted(value: Any, definition: Mapping[str, Any]) -> Any:
    if _gives_way(value, definition) and definition.get("default") is not None:
        value = copy.deepcopy(definition["default"])
    _default(value, definition)
    return value
