"""The schemas of the kinds of Kubernetes v1.36: what an object may contain, and what it looks like once read.

    schemas = schema.load()
    pods = schemas.of("", "v1", "Pod")
    decoded = pods.decode(obj)          # .object, .unknown, .errors

Source: as `schema_types` and `schema_presence`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from machinery.api import jsontext, schema_strict
from machinery.api.meta import Object
from machinery.api.schema_decode import Compiler, Decoder, Mismatch, empty
from machinery.api.schema_types import Type, Types, definitions


@dataclass(frozen=True, slots=True)
class Decoded:
    """An object as the server understands it."""

    object: Object
    """A new object, without what is unknown and as Go would print it; shares unchanged leaves with what was read."""

    unknown: tuple[str, ...] = ()
    """`unknown field "spec.foo"`, in the order of the object."""

    errors: tuple[str, ...] = ()
    """What makes the object unreadable (the first such thing, as Go's decoder reports it); `object` is then empty."""


@dataclass(frozen=True, slots=True, eq=False)
class KindSchema:
    """The schema of one kind, built in or custom."""

    group: str
    version: str
    kind: str
    type: Type
    empty: Object
    """What a new object of the kind is before anything is set: what managedFields of a create are counted from."""

    custom: ClassVar[bool] = False
    """Whether a CustomResourceDefinition describes it."""

    _decoder: Decoder
    _mismatch: Callable[[Any], str]

    @property
    def api_version(self) -> str:
        """The apiVersion of objects of the kind."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def decode(self, obj: Any) -> Decoded:
        """Read a JSON value as an object of this kind; the value itself is not changed."""
        notes: list[str] = []
        try:
            made = self._decoder(obj, notes)
        except Mismatch:
            return Decoded({}, (), (self._mismatch(obj),))
        return Decoded(made, tuple(schema_strict.unknown_fields(self.type, obj)) if notes else ())

    def strict_errors(self, data: bytes) -> list[str]:
        """Duplicate and unknown fields of a JSON text, in its order, as strict field validation words them."""
        return schema_strict.strict_errors(self.type, jsontext.pairs(data))


class SchemaSet:
    """The schemas of built-in kinds, compiled on first use."""

    def __init__(self) -> None:
        self._types = Types(definitions())
        self.compiler = Compiler()
        """The decoders of single definitions, for what is embedded elsewhere (metadata in custom resources)."""
        self._names = {
            (g["group"], g["version"], g["kind"]): name
            for name, definition in definitions().items()
            for g in definition.get("x-kubernetes-group-version-kind", ())
        }
        self._kinds: dict[tuple[str, str, str], KindSchema] = {}

    def of(self, group: str, version: str, kind: str) -> KindSchema | None:
        """The schema of a kind, or None if v1.36 has no such kind."""
        key = (group, version, kind)
        found = self._kinds.get(key)
        if found is None and key in self._names:
            found = self._kinds[key] = self._kind(key, self._types.of(self._names[key]))
        return found

    def kinds(self) -> list[tuple[str, str, str]]:
        """All (group, version, kind)."""
        return list(self._names)

    def type(self, definition: str) -> Type:
        """The type of a definition by its long name. Raises KeyError."""
        return self._types.of(definition)

    def definition_name(self, group: str, version: str, kind: str) -> str | None:
        """The long name of a kind's definition (for OpenAPI)."""
        return self._names.get((group, version, kind))

    def _kind(self, key: tuple[str, str, str], root: Type) -> KindSchema:
        compiler = self.compiler
        return KindSchema(
            *key, root, empty(root), compiler.decoder(root), lambda value: schema_strict.mismatch(compiler, root, value)
        )


@cache
def load() -> SchemaSet:
    """The schemas of all built-in kinds; made once."""
    return SchemaSet()
