"""OpenAPI v2 as the protobuf that kubectl asks for.

Only fields that Kubernetes' documents use are written.  Written by hand: the message is large and made rarely.

Source: field numbers of google/gnostic openapiv2/OpenAPIv2.proto; https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
# What clients before 1.27 ask for; it is answered as MEDIA_TYPE, since "@" has no place in a media type (RFC 9110).
OLD_MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


def encode(document: Mapping[str, Any]) -> bytes:
    """A version 2 document as an openapi.v2.Document message."""
    info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
    paths = b"".join(_message(2, _named(path, _path_item(item))) for path, item in document["paths"].items())
    definitions = _named_all(document["definitions"], _schema)
    return _text(1, document["swagger"]) + _message(2, info) + _message(8, paths) + _message(9, definitions)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _message(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _text(field: int, text: str | None) -> bytes:
    return _message(field, text.encode()) if text else b""


def _texts(field: int, texts: Iterable[str] | None) -> bytes:
    return b"".join(_message(field, text.encode()) for text in texts or ())


def _flag(field: int, value: Any) -> bytes:
    return _varint(field << 3) + b"\x01" if value else b""


def _named(name: str, value: bytes) -> bytes:
    return _text(1, name) + _message(2, value)


def _named_all(values: Mapping[str, Any], encode_one: Callable[[Any], bytes]) -> bytes:
    return b"".join(_message(1, _named(name, encode_one(value))) for name, value in values.items())


def _any(value: Any) -> bytes:
    return _text(2, json.dumps(value) + "\n")  # YAML, of which JSON is a part


def _extensions(field: int, given: Mapping[str, Any]) -> bytes:
    return b"".join(_message(field, _named(k, _any(v))) for k, v in given.items() if k.startswith("x-"))


_OPERATIONS = (("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("options", 6), ("head", 7), ("patch", 8))


def _path_item(item: Mapping[str, Any]) -> bytes:
    operations = b"".join(_message(field, _operation(item[method])) for method, field in _OPERATIONS if method in item)
    return operations + b"".join(_message(9, _parameter(p)) for p in item.get("parameters", ()))


def _operation(given: Mapping[str, Any]) -> bytes:
    responses = _named_all(given["responses"], _response)
    return (
        _texts(1, given.get("tags"))
        + _text(3, given.get("description"))
        + _text(5, given.get("operationId"))
        + _texts(6, given.get("produces"))
        + _texts(7, given.get("consumes"))
        + b"".join(_message(8, _parameter(p)) for p in given.get("parameters", ()))
        + _message(9, responses)
        + _texts(10, given.get("schemes"))
        + _extensions(13, given)
    )


def _response(given: Mapping[str, Any]) -> bytes:
    schema = _message(2, _message(1, _schema(given["schema"]))) if "schema" in given else b""
    return _message(1, _text(1, given["description"]) + schema)


def _parameter(given: Mapping[str, Any]) -> bytes:
    """A ParametersItem: body, query or path parameter."""
    if given["in"] == "body":
        body = _text(2, given["name"]) + _text(3, "body") + _flag(4, given.get("required"))
        return _message(1, _message(1, body + _message(5, _schema(given["schema"]))))
    in_path = given["in"] == "path"
    common = _flag(1, given.get("required")) + _text(2, given["in"]) + _text(3, given.get("description"))
    common += _text(4, given["name"]) + _text(5 if in_path else 6, given["type"])
    return _message(1, _message(2, _message(4 if in_path else 3, common)))


def _schema(given: Mapping[str, Any]) -> bytes:
    out = _text(1, given.get("$ref")) + _text(2, given.get("format")) + _text(4, given.get("description"))
    if "default" in given:
        out += _message(5, _any(given["default"]))
    out += _texts(19, given.get("required"))
    out += b"".join(_message(20, _any(value)) for value in given.get("enum", ()))
    additional = given.get("additionalProperties")
    if isinstance(additional, Mapping):
        out += _message(21, _message(1, _schema(additional)))
    elif additional:
        out += _message(21, _flag(2, value=True))
    if "type" in given:
        out += _message(22, _text(1, given["type"]))
    if "items" in given:
        out += _message(23, _message(1, _schema(given["items"])))
    out += b"".join(_message(24, _schema(each)) for each in given.get("allOf", ()))
    if "properties" in given:
        out += _message(25, _named_all(given["properties"], _schema))
    return out + _extensions(31, given)
