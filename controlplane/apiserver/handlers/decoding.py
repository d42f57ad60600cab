"""Request bodies as objects, with upstream's words for what is wrong with them.

Source: k8s.io/apiserver/pkg/endpoints/handlers/create.go, k8s.io/apimachinery/pkg/runtime/serializer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

from controlplane.apiserver.handlers import registered, yamlbody
from controlplane.apiserver.handlers.exchange import JSON, PROTOBUF, YAML, Exchange
from controlplane.apiserver.negotiation import unsupported_body
from controlplane.apiserver.resources import Resources
from machinery.api import fielderror, jsontext, rawtext
from machinery.api.meta import Object
from machinery.api.protobuf import envelope
from machinery.api.protobuf.wire import DecodeError
from machinery.api.schema import KindSchema
from machinery.api.structural.custom import CustomSchema
from machinery.errors import BadRequest

BUILT_IN_SCHEME = "pkg/api/legacyscheme/scheme.go:30"
_INTO = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
_LIST_KINDS = re.compile(r"[A-Za-z0-9]+List|List")


class Unrecognized(ValueError):
    """The body can't be read at all; the message is upstream's."""


class WrongKind(ValueError):
    """The body holds an object of another kind; the message is upstream's."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A body as a value; `strict` are complaints that the parser itself has (YAML's duplicate keys)."""

    value: Any
    json: bytes
    """The body as JSON."""
    strict: tuple[str, ...] = ()


def media_type(exchange: Exchange) -> str:
    """JSON, YAML or PROTOBUF. Raises UnsupportedMediaType."""
    kind = exchange.content_type.lower()
    if not kind or kind == JSON:
        return JSON
    if kind in (YAML, PROTOBUF):
        return kind
    raise unsupported_body()


def parse(body: bytes, media: str) -> Parsed:
    """Read a body.

    Raises:
        Unrecognized: it is not of that media type.
    """
    if media == PROTOBUF:
        if body[:4] != b"k8s\0":
            told = "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
            raise Unrecognized(told)
        try:
            return Parsed(envelope.decode(body), b"")
        except (DecodeError, envelope.UnsupportedKindError) as exc:
            raise Unrecognized(str(exc)) from exc
    if media == YAML:
        return _parse_yaml(body)
    try:
        value, _ = jsontext.loads(body)
    except jsontext.JSONError as exc:
        raise Unrecognized(f"couldn't get version/kind; json parse error: {exc}") from exc
    return Parsed(value, body)


def _parse_yaml(body: bytes) -> Parsed:
    try:
        value, complaint = yamlbody.loads(body)
    except yamlbody.YamlError as exc:
        raise Unrecognized(str(exc)) from exc
    strict = (complaint,) if complaint else ()
    return Parsed(value, orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS), strict)


def excerpt(body: bytes) -> str:
    """The beginning of a body, for messages: as text if it is text, else in hexadecimal."""
    if not body:
        return "<empty>"
    text = body
    shown = text[:30]
    printable = text.lstrip()[:1] in (b"{", b"-") or b":" in text[:30] or b"\n" in text[:30]
    if not printable:
        return text[:30].hex() + (" ..." if len(text) > 30 else "")
    return shown.decode("utf-8", "replace") + (" ..." if len(text) > 30 else "")


@dataclass(frozen=True, slots=True)
class Expected:
    """What kind of object a body should hold."""

    group: str
    version: str
    kind: str
    schema: KindSchema | None
    scheme: str = BUILT_IN_SCHEME


def type_of(value: Any) -> tuple[str, str]:
    """(apiVersion, kind) of a parsed body. Raises Unrecognized."""
    if value is None:
        return "", ""
    if not isinstance(value, dict):
        name = {list: "array", str: "string", bool: "bool"}.get(type(value), "number")
        told = f"json: cannot unmarshal {name} into Go value of type {_INTO}"
        raise Unrecognized(f"couldn't get version/kind; json parse error: {told}")
    for key in value:
        if key in ("apiVersion", "kind") and value[key] is not None and not isinstance(value[key], str):
            name = {list: "array", dict: "object", bool: "bool"}.get(type(value[key]), "number")
            told = f"json: cannot unmarshal {name} into Go struct field .{key} of type string"
            raise Unrecognized(f"couldn't get version/kind; json parse error: {told}")
    api_version = value.get("apiVersion") or ""
    if api_version.count("/") > 1:
        raise Unrecognized(f"unexpected GroupVersion string: {api_version}")
    return api_version, value.get("kind") or ""


def decode(exchange: Exchange, body: bytes, expected: Expected, resources: Resources, validation: str) -> Object:
    """The object a body holds: of the expected kind, type-checked, pruned; a new dict.

    `validation` is fieldValidation: Strict raises for unknown and duplicate fields, Warn notes them in the exchange.

    Raises:
        BadRequest, UnsupportedMediaType: upstream's.
    """
    media = media_type(exchange)
    try:
        parsed = parse(body, media)
        api_version, kind = type_of(parsed.value)
    except Unrecognized as exc:
        told = f"the object provided is unrecognized (must be of type {expected.kind}): {exc} ({excerpt(body)})"
        raise BadRequest(told) from exc
    if isinstance(expected.schema, CustomSchema) and not kind:
        told = f"Object 'Kind' is missing in '{body.decode('utf-8', 'replace')}' ({excerpt(body)})"
        raise BadRequest(f"the object provided is unrecognized (must be of type {expected.kind}): {told}")
    group, version, kind = kind_of(api_version, kind, expected)
    if isinstance(expected.schema, CustomSchema):
        check_version(group, version, expected)
        _check_custom_kind(group, kind, parsed.value, expected)
        return _checked(exchange, parsed, expected, group, version, kind, validation)
    if (group, kind) == (expected.group, expected.kind) and registered.known(group, version, kind):
        check_version(group, version, expected)
    try:
        check_kind(group, version, kind, expected)
    except WrongKind as exc:
        told = f'{kind} in version "{version}" cannot be handled as a {expected.kind}: {exc}'
        raise BadRequest(told) from exc
    return _checked(exchange, parsed, expected, group, version, kind, validation)


def _check_custom_kind(group: str, kind: str, value: Any, expected: Expected) -> None:
    if kind != expected.kind:
        metadata = value.get("metadata") if isinstance(value, dict) else None
        name = metadata.get("name") if isinstance(metadata, dict) else ""
        error = fielderror.invalid("kind", kind, f"must be {expected.kind}")
        raise fielderror.invalid_object(group, kind, name if isinstance(name, str) else "", [error])


def kind_of(api_version: str, kind: str, expected: Expected) -> tuple[str, str, str]:
    """(group, version, kind) that a body names; what it leaves out is what is expected."""
    group, _, version = api_version.rpartition("/")
    group, version = (group, version) if api_version else (expected.group, expected.version)
    return group, version, kind or expected.kind


def check_version(group: str, version: str, expected: Expected) -> None:
    """Raise BadRequest if this is not the version asked for."""
    if (group, version) != (expected.group, expected.version):
        given = f"{group}/{version}" if group else version
        wanted = f"{expected.group}/{expected.version}" if expected.group else expected.version
        raise BadRequest(f"the API version in the data ({given}) does not match the expected API version ({wanted})")


def check_kind(group: str, version: str, kind: str, expected: Expected) -> None:
    """Raise WrongKind if this is not the kind that is expected, in whatever version."""
    if (group, version, kind) == (expected.group, expected.version, expected.kind):
        return
    if not registered.known(group, version, kind):
        api_version = f"{group}/{version}" if group else version
        raise WrongKind(f'no kind "{kind}" is registered for version "{api_version}" in scheme "{expected.scheme}"')
    if (group, kind) != (expected.group, expected.kind):
        package = expected.group.partition(".")[0] or "core"
        raise WrongKind(f"converting ({version}.{kind}) to ({package}.{expected.kind}): unknown conversion")


def _checked(
    exchange: Exchange, parsed: Parsed, expected: Expected, group: str, version: str, kind: str, validation: str
) -> Object:
    head = f'{kind} in version "{version}" cannot be handled as a {expected.kind}: '
    value = parsed.value if parsed.value is not None else {}
    api_version = f"{group}/{version}" if group else version
    if expected.schema is None:
        obj: Object = {**value, "apiVersion": api_version, "kind": kind}
        if not isinstance(obj.get("metadata") or {}, dict):
            raise BadRequest(head + "json: cannot unmarshal into Go struct field of type v1.ObjectMeta")
        obj["metadata"] = dict(obj.get("metadata") or {})
        return obj
    decoded = expected.schema.decode(value)
    if decoded.errors:
        raise BadRequest(head + decoded.errors[0])
    told: list[str] = []
    if validation in ("Strict", "Warn"):
        told = [*parsed.strict, *decoded.unknown]
        if not parsed.strict and parsed.json and _may_repeat(parsed):
            told = list(expected.schema.strict_errors(parsed.json))
            if isinstance(expected.schema, CustomSchema):  # upstream reads these twice: for duplicates, then by schema
                told.sort(key=lambda text: not text.startswith("duplicate field"))
    if told and validation == "Strict":
        raise BadRequest(f"{head}strict decoding error: {', '.join(told)}")
    exchange.warnings.extend(w for complaint in told for w in yamlbody.warnings_of(complaint))
    obj = rawtext.marked(expected.schema.type, decoded.object, parsed.json) if parsed.json else decoded.object
    obj["apiVersion"], obj["kind"] = api_version, kind
    metadata = obj.get("metadata")
    if metadata is None:
        obj["metadata"] = {}
    return obj


def _may_repeat(parsed: Parsed) -> bool:
    """Whether a key comes twice in an object of the JSON text."""
    return jsontext.repeats(parsed.json, parsed.value)
