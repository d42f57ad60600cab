"""Compiling types into closures that make of a JSON value what Go would print after reading it.

Unknown fields are left out, nulls and what is empty vanish or become zero as `schema_presence` says, quantities and
times are put in their canonical form.  The closures only notice *that* something is unknown or of the wrong type; the
slow path (`schema_strict`) says what and where.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final

from machinery.api import gotime, quantity, schema_presence
from machinery.api.schema_types import Type

Notes = list[str]
"""Filled with the names of unknown fields that were met."""

Decoder = Callable[[Any, Notes], Any]

_INT_RANGE: Final = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
_SIMPLE: Final[dict[str, type]] = {"string": str, "boolean": bool, "integer": int}
_ZERO: Final[dict[str, Any]] = {
    "string": "", "boolean": False, "integer": 0, "number": 0, "bytes": "", "quantity": "0", "intorstr": 0,
}  # fmt: skip


class Mismatch(Exception):
    """Some value does not have the type that the schema wants; `message` if the value itself says why."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


def _integer(low: int, high: int) -> Decoder:
    def decode(value: Any, _: Notes) -> Any:
        if not low <= value <= high:
            raise Mismatch
        return value

    return decode


def _number(value: Any, _: Notes) -> Any:
    if value.__class__ is not float and value.__class__ is not int:
        raise Mismatch
    return value


def _bytes(value: Any, _: Notes) -> Any:
    if value.__class__ is not str:
        raise Mismatch
    return canonical_base64(value)


def canonical_base64(text: str) -> str:
    """The text as Go prints the bytes it stands for. Raises Mismatch with Go's message."""
    compact = text.replace("\n", "").replace("\r", "")
    try:
        raw = binascii.a2b_base64(compact, strict_mode=True) if compact else b""
    except (binascii.Error, ValueError):
        raise Mismatch(f"illegal base64 data at input byte {_base64_fault(text)}") from None
    return base64.b64encode(raw).decode()


def _base64_fault(text: str) -> int:
    """Where Go's decoder stops: the offset of the first byte that can't be."""
    alphabet = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
    count = 0
    data = text.encode("utf-8", "surrogatepass")
    for at, byte in enumerate(data):
        char = chr(byte)
        if char in "\r\n":
            continue
        if char in alphabet:
            count += 1
            continue
        if char == "=" and count % 4 >= 2:
            rest = [(i, c) for i, c in enumerate(data[at + 1 :], at + 1) if c not in b"\r\n"]
            if count % 4 == 2:
                if not rest:
                    return len(data)
                if rest[0][1] != ord("="):
                    return at
                rest = rest[1:]
            return rest[0][0] if rest else at
        return at
    return len(data) - count % 4


def _quantity(value: Any, _: Notes) -> Any:
    if value.__class__ is bool or value.__class__ in (dict, list):
        raise Mismatch(quantity.FORMAT_WRONG)
    try:
        return quantity.parse(value.strip() if value.__class__ is str else value).canonical()
    except ValueError as exc:
        raise Mismatch(str(exc)) from None


def _int_or_string(value: Any, _: Notes) -> Any:
    if value.__class__ is str:
        return value
    if value.__class__ is not int or not -(2**31) <= value < 2**31:
        raise Mismatch(f"json: cannot unmarshal {go_value(value)} into Go value of type int32")
    return value


def go_value(value: Any) -> str:
    """What Go's decoder calls a JSON value in its messages."""
    if value.__class__ in (int, float):
        return f"number {value}"
    names: dict[type, str] = {str: "string", bool: "bool", list: "array", dict: "object"}
    return names.get(value.__class__, "null")


def _time(*, micro: bool) -> Decoder:
    def decode(value: Any, _: Notes) -> Any:
        if value.__class__ is not str:
            name = go_value(value).split(" ", maxsplit=1)[0]
            raise Mismatch(f"json: cannot unmarshal {name} into Go value of type string")
        try:
            return gotime.canonical(value, micro=micro)
        except ValueError as exc:
            raise Mismatch(str(exc)) from None

    return decode


def _any(value: Any, _: Notes) -> Any:
    return value


class Compiler:
    """Makes and keeps the decoders of definitions."""

    def __init__(self) -> None:
        self._made: dict[int, Decoder] = {}
        self._kept: list[Type] = []  # the keys above are identities: their types must live

    def decoder(self, kind: Type) -> Decoder:
        """The decoder of a type; compiled on first use of the value, so that types may contain themselves."""
        made = self._made.get(id(kind))
        if made is None:

            def compile_then_decode(value: Any, notes: Notes) -> Any:
                return self._made[id(kind)](value, notes)

            self._made[id(kind)] = compile_then_decode
            self._kept.append(kind)
            made = self._made[id(kind)] = self._compile(kind)
        return made

    def zero(self, kind: Type) -> Any:
        """What Go prints of such a value when nothing was set."""
        if kind.sort == "object":
            return self.decoder(kind)({}, [])
        return _ZERO.get(kind.sort)

    def _compile(self, kind: Type) -> Decoder:
        match kind.sort:
            case "object":
                return self._object(kind)
            case "map":
                return self._map(kind)
            case "list":
                return self._list(kind)
            case "any" if kind.element is not None:
                return self._union(kind.element)
            case "integer":
                return _checked(int, _integer(*_INT_RANGE[kind.format]))
            case "string" | "boolean":
                return _checked(_SIMPLE[kind.sort], None)
            case "number":
                return _number
            case "bytes":
                return _bytes
            case "quantity":
                return _quantity
            case "intorstr":
                return _int_or_string
            case "time":
                return _time(micro=kind.format == "micro")
        return _any

    def _rule(self, kind: Type, *, keep: bool) -> tuple[type | None, bool, Decoder | None]:
        """(class the value must have or None for the decoder to check, whether it stays when empty, decoder)."""
        if kind.sort in ("string", "boolean"):
            return _SIMPLE[kind.sort], keep, None
        if kind.sort == "integer":
            return int, keep, _integer(*_INT_RANGE[kind.format])
        if kind.sort == "list" and kind.element is not None and kind.element.sort == "string":
            return list, keep, _strings
        if kind.sort == "map" and kind.element is not None and kind.element.sort == "string":
            return dict, keep, _string_map
        return None, keep, self.decoder(kind)

    def _object(self, kind: Type) -> Decoder:
        facts = schema_presence.of(kind.name) if kind.name.count(".") > 2 else schema_presence.Presence()
        # A list that is required and empty is an error that validation finds; as null it would only be in the way.
        printed = {
            n for n in kind.required - facts.omitted if kind.fields[n].sort not in ("list", "map")
        } | facts.always
        if "metadata" in kind.fields:
            printed |= {n for n in ("metadata", "spec", "status") if _is_struct(kind.fields.get(n))}
        printed -= {"apiVersion", "kind"} - kind.required
        printed &= kind.fields.keys()
        rules: dict[str, tuple[type | None, bool, Decoder | None]] = {}
        always: list[tuple[str, Callable[[], Any]]] = []
        for name, inner in kind.fields.items():
            rules[name] = self._rule(inner, keep=_kept(name, inner, facts, printed))
            if name in printed:
                always.append((name, self._absent(inner, null=name in facts.nulls)))

        def decode(value: Any, notes: Notes) -> Any:
            if value.__class__ is not dict:
                raise Mismatch
            out = {}
            for key, item in value.items():
                rule = rules.get(key)
                if rule is None:
                    notes.append(key)
                    continue
                if item is None:
                    continue
                cls, keep, convert = rule
                if cls is not None and item.__class__ is not cls:
                    raise Mismatch
                if convert is not None:
                    item = convert(item, notes)
                if item or keep:
                    out[key] = item
            for key, make in always:
                if key not in out:
                    out[key] = make()
            return out

        return decode

    def _absent(self, kind: Type, *, null: bool) -> Callable[[], Any]:
        if null or kind.sort in ("list", "map", "time", "any", "bytes"):
            return lambda: None
        if kind.sort == "object":
            return lambda: self.decoder(kind)({}, [])
        zero = _ZERO[kind.sort]
        return lambda: zero

    def _map(self, kind: Type) -> Decoder:
        assert kind.element is not None
        element, convert = kind.element, self.decoder(kind.element)
        if element.sort == "string":
            return _checked(dict, _string_map)

        def decode(value: Any, notes: Notes) -> Any:
            if value.__class__ is not dict:
                raise Mismatch
            return {k: self.zero(element) if v is None else convert(v, notes) for k, v in value.items()}

        return decode

    def _list(self, kind: Type) -> Decoder:
        assert kind.element is not None
        element, convert = kind.element, self.decoder(kind.element)
        if element.sort == "string":
            return _checked(list, _strings)

        def decode(value: Any, notes: Notes) -> Any:
            if value.__class__ is not list:
                raise Mismatch
            return [self.zero(element) if v is None else convert(v, notes) for v in value]

        return decode

    def _union(self, element: Type) -> Decoder:
        convert = self.decoder(element)

        def decode(value: Any, notes: Notes) -> Any:
            if value.__class__ is dict:
                return convert(value, notes)
            return [convert(v, notes) for v in value] if value.__class__ is list else value

        return decode


def _printed(kind: Type) -> set[str]:
    """The fields that Go prints even if nothing was set."""
    facts = schema_presence.of(kind.name)
    printed = set((kind.required - facts.omitted) | facts.always)
    if "metadata" in kind.fields:
        printed |= {n for n in ("metadata", "spec", "status") if _is_struct(kind.fields.get(n))}
    return printed & kind.fields.keys()


def empty(kind: Type) -> Any:
    """The value of which nothing was set as Go prints it, empty lists that it requires as null."""
    if kind.sort != "object":
        return _ZERO.get(kind.sort)
    nulls = schema_presence.of(kind.name).nulls
    return {name: None if name in nulls else empty(kind.fields[name]) for name in _printed(kind)}


def _is_struct(kind: Type | None) -> bool:
    return kind is not None and kind.sort == "object"


def _kept(name: str, kind: Type, facts: schema_presence.Presence, printed: set[str]) -> bool:
    """Whether a value that is given stays although it is empty or zero."""
    if kind.sort in ("list", "map"):
        return name == "items"  # of lists of objects; what else is printed although empty is then added as null
    if name in printed or name in facts.pointers:
        return True
    if kind.sort in ("integer", "boolean", "number"):
        return name not in facts.values
    return kind.sort not in ("string", "bytes")


def _checked(cls: type, convert: Decoder | None) -> Decoder:
    def decode(value: Any, notes: Notes) -> Any:
        if value.__class__ is not cls:
            raise Mismatch
        return value if convert is None else convert(value, notes)

    return decode


def _strings(value: Any, _: Notes) -> Any:
    for item in value:
        if item.__class__ is not str:
            break
    else:
        return value
    if any(item is not None and item.__class__ is not str for item in value):
        raise Mismatch
    return ["" if item is None else item for item in value]


def _string_map(value: Any, _: Notes) -> Any:
    for item in value.values():
        if item.__class__ is not str:
            break
    else:
        return value
    if any(item is not None and item.__class__ is not str for item in value.values()):
        raise Mismatch
    return {k: "" if item is None else item for k, item in value.items()}
