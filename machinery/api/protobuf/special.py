"""Messages whose JSON form is not an object with the message's fields: times, quantities, free JSON.

Source: k8s.io/apimachinery/pkg/apis/meta/v1 (time_proto.go, micro_time_proto.go), pkg/api/resource, pkg/util/intstr,
pkg/runtime (RawExtension); k8s.io/apiextensions-apiserver (marshal.go); Go's encoding/json (HTMLEscape).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from machinery.api import jsontext, rawtext
from machinery.api.meta import format_micro_time, format_time, parse_time
from machinery.api.protobuf.wire import BYTES, VARINT, DecodeError, read_bytes, read_varint, signed, skip, tag, varint

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ONE, _TWO, _THREE = 1, 2, 3
_ESCAPED_BY_GO: Final = tuple((c.encode(), f"\\u{ord(c):04x}".encode()) for c in "<>&\u2028\u2029")


def _field(number: int, data: bytes) -> bytes:
    return tag(number, BYTES) + varint(len(data)) + data


def scan(data: bytes) -> dict[int, Any]:
    """The fields of a small message, last value of each: int or bytes. Raises DecodeError."""
    found: dict[int, Any] = {}
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == VARINT:
            found[key >> 3], at = read_varint(data, at)
        elif key & 7 == BYTES:
            found[key >> 3], at = read_bytes(data, at)
        else:
            at = skip(data, at, key & 7)
    return found


def _encode_time(value: Any) -> bytes:
    try:
        since = parse_time(value) - _EPOCH
    except (ValueError, TypeError):
        raise ValueError(f"not a time: {value!r}") from None
    seconds = since.days * 86400 + since.seconds
    out = tag(_ONE, VARINT) + varint(seconds)
    return out + tag(_TWO, VARINT) + varint(since.microseconds * 1000) if since.microseconds else out


def _decode_time(*, micro: bool) -> Callable[[bytes], Any]:
    def decode(data: bytes) -> Any:
        found = scan(data)
        seconds, nanos = signed(found.get(_ONE, 0)), signed(found.get(_TWO, 0))
        if not seconds and not nanos:
            return None  # Go's zero time
        try:
            moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
        except OverflowError:
            raise DecodeError(f"time out of range: {seconds} s") from None
        return format_micro_time(moment) if micro else format_time(moment)

    return decode


def _encode_quantity(value: Any) -> bytes:
    return _field(_ONE, str(value).encode())


def _decode_quantity(data: bytes) -> Any:
    return _text(scan(data).get(_ONE, b"0")) or "0"


def _text(value: Any) -> str:
    if not isinstance(value, bytes):
        raise DecodeError("proto: wrong wireType")
    return value.decode("utf-8", "replace")


def _encode_int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return tag(_ONE, VARINT) + varint(1) + _field(_THREE, value.encode("utf-8", "replace"))
    return tag(_ONE, VARINT) + varint(0) + tag(_TWO, VARINT) + varint(value)


def _decode_int_or_string(data: bytes) -> Any:
    found = scan(data)
    if found.get(_ONE):
        return _text(found.get(_THREE, b""))
    return signed(found.get(_TWO, 0))


def _encode_json(value: Any) -> bytes:
    return _field(_ONE, rawtext.dumps(value))


def _encode_raw(value: Any) -> bytes:
    # Controllers compare these bytes with what they would write, and Go writes these characters so.
    text = rawtext.dumps(value)
    for character, escaped in _ESCAPED_BY_GO:
        if character in text:
            text = text.replace(character, escaped)
    return _field(_ONE, text)


def _decode_json(data: bytes) -> Any:
    raw = scan(data).get(_ONE, b"")
    if not raw:
        return None
    try:
        return jsontext.loads(raw)[0]
    except (jsontext.JSONError, TypeError) as exc:
        raise DecodeError(f"embedded object is not JSON: {exc}") from None


Codec = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]

_JSON: Final[Codec] = (_encode_json, _decode_json)
_RAW: Final[Codec] = (_encode_raw, _decode_json)

CODECS: Final[dict[str, Codec]] = {
    "meta.v1.Time": (_encode_time, _decode_time(micro=False)),
    "meta.v1.MicroTime": (_encode_time, _decode_time(micro=True)),
    "api.resource.Quantity": (_encode_quantity, _decode_quantity),
    "util.intstr.IntOrString": (_encode_int_or_string, _decode_int_or_string),
    "meta.v1.FieldsV1": _JSON,
    "pkg.runtime.RawExtension": _RAW,
    "apiextensions.v1.JSON": _RAW,
}

UNIONS: Final = {
    "apiextensions.v1.JSONSchemaPropsOrArray": "jSONSchemas",
    "apiextensions.v1.JSONSchemaPropsOrBool": "allows",
    "apiextensions.v1.JSONSchemaPropsOrStringArray": "property",
}
"""Messages that are a schema (field `schema`) or else something: the field for the latter."""


def union_to_fields(message: str, value: Any) -> dict[str, Any]:
    """The fields of a union's message for its JSON value."""
    if isinstance(value, dict):
        return {"schema": value, "allows": True} if UNIONS[message] == "allows" else {"schema": value}
    return {UNIONS[message]: value}


def union_from_fields(message: str, fields: dict[str, Any]) -> Any:
    """The JSON value of a union's message."""
    if "schema" in fields:
        return fields["schema"]
    return fields.get(UNIONS[message], False if UNIONS[message] == "allows" else [])
