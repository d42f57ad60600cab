"""An object as upstream's types would write it: what is empty left out, what is always written put in, quantities and
times in their canonical form.

`canonical(group, version, kind)` compiles the published schema of the kind into one function that does this in place;
it expects what the schema accepts, and leaves alone what it doesn't know.

Source: the JSON encoding of Go's struct tags; k8s.io/apimachinery/pkg/api/resource, meta/v1 Time.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from controlplane.apiserver.registry import wire_fields as table
from machinery.api import quantity
from machinery.api.meta import Object

Rewrite = Callable[[Any], Any]
"""A value → the value to write."""

_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.Time"
_MICRO_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"
_SCHEMA = "kubernetes-json-schema/v1.36.0-local/_definitions.json"
_ABSENT = object()


@functools.cache
def definitions() -> dict[str, Any]:
    """The published schema of v1.36: definition → JSON schema."""
    text = resources.files("kubernetes_validate").joinpath(_SCHEMA).read_bytes()
    found: dict[str, Any] = json.loads(text)["$defs"]
    return found


@functools.cache
def _kinds() -> dict[tuple[str, str, str], str]:
    return {
        (entry["group"], entry["version"], entry["kind"]): name
        for name, schema in definitions().items()
        for entry in schema.get("x-kubernetes-group-version-kind") or ()
    }


def definition_of(group: str, version: str, kind: str) -> str:
    """The name of a kind's definition. Raises KeyError."""
    return _kinds()[group, version, kind]


def short(definition: str) -> str:
    """`core.v1.Pod` for `io.k8s.api.core.v1.Pod`: how the tables name it."""
    return ".".join(definition.split(".")[-3:])


def _quantity(value: Any) -> Any:
    if value is None:
        return "0"
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return str(quantity.parse(value.strip() if isinstance(value, str) else value))
        except ValueError:
            return value
    return value


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None


def _time(value: Any) -> Any:
    if isinstance(value, str) and not (len(value) == 20 and value[-1] == "Z"):
        moment = _moment(value)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment and moment.year >= 1000 else value
    return value


def _micro_time(value: Any) -> Any:
    if isinstance(value, str) and not (len(value) == 27 and value[-1] == "Z"):
        moment = _moment(value)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment and moment.year >= 1000 else value
    return value


_SCHEMA_PROPS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
_SCHEMAS = {f"{_SCHEMA_PROPS}Or{other}": _SCHEMA_PROPS for other in ("Array", "Bool", "StringArray")}
_LEAVES: dict[str, Rewrite] = {_QUANTITY: _quantity, _TIME: _time, _MICRO_TIME: _micro_time}


class _Field:
    """What happens to a field: `zeros` are left out, `rewrite` makes the value, `absent` is written for none."""

    __slots__ = ("absent", "make", "rewrite", "zeros")

    def __init__(self) -> None:
        self.zeros: tuple[Any, ...] = ()
        self.rewrite: Rewrite | None = None
        self.absent: Any = _ABSENT
        self.make = False  # absent: written as what `rewrite` makes of {}


class _Compiler:
    """Definitions → functions; a definition that refers to itself is reached through a late look-up."""

    def __init__(self) -> None:
        self.made: dict[str, Rewrite | None] = {}
        self.making: set[str] = set()

    def definition(self, name: str) -> Rewrite | None:
        """The function for a definition; None if its values stay as they are."""
        if name in _LEAVES:
            return _LEAVES[name]
        # Either a schema or something else: rewrite it where it is a schema.
        name = _SCHEMAS.get(name, name)
        if name in self.made:
            return self.made[name]
        if name in self.making:
            return lambda value: rewrite(value) if (rewrite := self.made.get(name)) else value
        schema = definitions()[name]
        properties = schema.get("properties")
        if short(name) in table.OPAQUE or not properties:
            self.made[name] = None
            return None
        self.making.add(name)
        required = frozenset(schema.get("required") or ())
        fields = {key: self.field(short(name), key, value, key in required) for key, value in properties.items()}
        self.making.discard(name)
        made = self.made[name] = _struct(fields)
        return made

    def value(self, schema: Object) -> Rewrite | None:
        """The function for values of any schema."""
        if "$ref" in schema:
            return self.definition(schema["$ref"].rpartition("/")[2])
        if "items" in schema and (each := self.value(schema["items"])):
            return _list(each)
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict) and (each := self.value(extra)):
            return _map(each)
        return None

    def field(self, owner: str, key: str, schema: Object, required: bool) -> _Field:
        field = _Field()
        field.rewrite = self.value(schema)
        name = f"{owner}.{key}"
        types = schema.get("type") or ()
        types = {types} if isinstance(types, str) else set(types)
        target = schema.get("$ref", "").rpartition("/")[2]
        target = "" if target in _SCHEMAS else target
        if target in (_TIME, _MICRO_TIME):
            if key not in table.TIME_POINTERS and name != "meta.v1.ManagedFieldsEntry.time":
                field.absent = None
        elif target == _QUANTITY:
            pass
        elif target:
            if "properties" in definitions()[target]:
                written = required or key in ("metadata", "spec", "status") or name in table.WRITTEN_OBJECTS
                if name in table.POINTER_OBJECTS:
                    field.absent = None
                else:
                    field.make = written
        elif "array" in types or "object" in types:
            field.zeros = ([], {})
            if required or name in table.WRITTEN_LISTS:
                field.absent = None
        elif "boolean" in types:
            if required:
                field.absent = False
            elif key in table.BOOLEAN_VALUES and name not in table.BOOLEAN_POINTERS:
                field.zeros = (False,)
        elif "integer" in types or "number" in types:
            if required:
                field.absent = 0
            elif (key in table.NUMBER_VALUES or name in table.NUMBER_VALUES) and name not in table.NUMBER_POINTERS:
                field.zeros = (0,)
        elif "string" in types:
            if required:
                field.absent = ""
            elif key not in table.STRING_POINTERS and name not in table.STRING_POINTERS:
                field.zeros = ("",)
        if name in table.WRITTEN_SCALARS:
            field.absent, field.zeros = table.WRITTEN_SCALARS[name], ()
        return field


def _list(each: Rewrite) -> Rewrite:
    def rewrite(value: Any) -> Any:
        return [each({} if e is None else e) for e in value] if isinstance(value, list) else value

    return rewrite


def _map(each: Rewrite) -> Rewrite:
    def rewrite(value: Any) -> Any:
        return {k: each(e) for k, e in value.items()} if isinstance(value, dict) else value

    return rewrite


def _struct(fields: dict[str, _Field]) -> Rewrite:
    absent = [(k, f.absent) for k, f in fields.items() if f.absent is not _ABSENT]
    made = [(k, f.rewrite or (lambda value: value)) for k, f in fields.items() if f.make]
    zeros = {k: f.zeros for k, f in fields.items() if f.zeros}
    rewrites = {k: f.rewrite for k, f in fields.items() if f.rewrite}

    def rewrite(obj: Any) -> Any:
        if not isinstance(obj, dict):
            return obj
        for key, value in list(obj.items()):
            if value is None or ((zero := zeros.get(key)) and value in zero):
                del obj[key]
            elif nested := rewrites.get(key):
                obj[key] = nested(value)
        for key, make in made:
            if key not in obj:
                obj[key] = make({})
        for key, value in absent:
            if key not in obj:
                obj[key] = value
        return obj

    return rewrite


_COMPILER = _Compiler()


@functools.cache
def canonical(group: str, version: str, kind: str) -> Callable[[Object], None]:
    """The function that makes objects of this kind what upstream would write, in place."""
    name = _kinds().get((group, version, kind))
    rewrite = _COMPILER.definition(name) if name else None

    def apply(obj: Object) -> None:
        if rewrite is not None:
            rewrite(obj)

    return apply
