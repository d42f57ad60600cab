"""PATCH: a JSON, merge, strategic merge or apply patch on the object, which then goes the way of an update.

Source: k8s.io/apiserver/pkg/endpoints/handlers/patch.go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson

from controlplane.apiserver.handlers import applying, decoding, encoding, metadata, negotiated
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.failures import not_found
from controlplane.apiserver.handlers.options import WriteOptions, write_options
from controlplane.apiserver.handlers.update import change_object, rules_of
from controlplane.apiserver.handlers.writer import check_name, expected_of, writer_of
from controlplane.apiserver.resources import Served
from machinery.api import goconvert, goorder, jsontext
from machinery.api.meta import Object
from machinery.api.patch import errors, goformat
from machinery.api.patch import json as json_patch
from machinery.api.patch import merge as merge_patch
from machinery.api.patch import strategic as strategic_patch
from machinery.errors import BadRequest, Invalid, UnsupportedMediaType

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_OF_CUSTOM = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)
_OF_BUILT_IN = (*_OF_CUSTOM, STRATEGIC_PATCH)
_NOT_A_MAP = "json: cannot unmarshal into Go value of type map[string]interface {}"


async def patch(api: Api, exchange: Exchange) -> Answer:
    """PATCH of an object, or of a subresource that speaks its kind."""
    served, info = exchange.served, exchange.info
    kind = patch_type(exchange, served)
    form = negotiated.form(exchange)
    options = write_options(exchange.query, "PatchOptions", apply=kind == APPLY_PATCH)
    body = await exchange.body()
    writer = writer_of(exchange, options)
    rules = replace(rules_of(api, served, info.subresource), options="PatchOptions")
    produce: Callable[[Object | None], Awaitable[Object]]
    if kind == APPLY_PATCH:
        applied = applying.Application(exchange, served, body, options, api.now())
        rules = replace(rules, manage=applied.managers, may_create=rules.may_create or not info.subresource)
        produce = applied.produce
    else:
        produce = Patched(exchange, served, kind, body, options).produce
    written = await change_object(api, served, info, produce, rules, writer)
    status = 201 if written.created else 200
    return encoding.one(written.record, served, form, negotiated.include(exchange, form), status)


def patch_type(exchange: Exchange, served: Served) -> str:
    """The kind of patch. Raises UnsupportedMediaType."""
    kind = exchange.content_type
    accepted = _OF_CUSTOM if served.custom or served.schema is None else _OF_BUILT_IN
    if kind not in accepted:
        if served.custom:
            told = "the body of the request was in an unknown format - accepted media types include: "
            raise UnsupportedMediaType(told + ", ".join(accepted), details={})
        raise UnsupportedMediaType("415: Unsupported Media Type", details={})
    return kind


class Patched:
    """Makes the new state of an object from its present one, by a patch that is no apply patch."""

    def __init__(self, exchange: Exchange, served: Served, kind: str, body: bytes, options: WriteOptions) -> None:
        self._exchange = exchange
        self._served = served
        self._kind = kind
        self._validation = options.validation
        self._strict: list[str] = []
        self._value = self._read(body)

    def _read(self, body: bytes) -> Any:
        try:
            value, _ = jsontext.loads(body)
        except jsontext.JSONError as exc:
            if self._kind == MERGE_PATCH and self._validation == "Ignore":
                raise BadRequest("Invalid JSON Patch") from exc
            raise BadRequest(str(exc) if self._kind == STRATEGIC_PATCH else f"error decoding patch: {exc}") from exc
        if self._kind == JSON_PATCH:
            if self._validation in ("Strict", "Warn") and isinstance(value, list):
                self._strict = list(json_patch.strict_errors(value))
            return value
        schema = self._served.schema if self._validation in ("Strict", "Warn") else None
        if schema is not None and isinstance(value, dict) and jsontext.repeats(body, value):
            self._strict = [told for told in schema.strict_errors(body) if told.startswith("duplicate field")]
        return value

    async def produce(self, old: Object | None) -> Object:
        """The patched object in the served version: pruned, type-checked and defaulted."""
        served, info = self._served, self._exchange.info
        if old is None:
            raise not_found(served.type, info.name)
        doc = orjson.loads(orjson.dumps(old))
        if self._kind == JSON_PATCH:
            made = json_patch.apply(doc, self._value)
        elif self._kind == MERGE_PATCH:
            made = merge_patch.apply(doc, self._value)
        else:
            assert served.schema is not None
            made = strategic_patch.apply(served.schema, doc, self._value)
        obj = self._finished(doc, made)
        served.strategy.default(obj)
        check_name(obj, info)
        metadata.match_namespace(obj["metadata"], info.namespace, namespaced=served.type.namespaced)
        return obj

    def _finished(self, doc: Object, made: Any) -> Object:
        """What a JSON or merge patch has made, as an object of the kind."""
        served = self._served
        if served.schema is None:
            if not isinstance(made, dict):
                raise errors.unreadable(orjson.dumps(made).decode(), _NOT_A_MAP)
            return {**made, "metadata": dict(made.get("metadata") or {})}

        strategic = self._kind == STRATEGIC_PATCH

        def refused(told: str) -> Invalid:
            assert served.schema is not None
            if strategic:
                return errors.unreadable(goformat.show(self._value), told)
            if served.custom:
                return errors.unreadable(orjson.dumps(made, option=orjson.OPT_SORT_KEYS).decode(), told)
            return errors.unreadable(goorder.dumps(served.schema.type, made, goorder.taken_apart(doc, made)), told)

        if not isinstance(made, dict):
            raise refused(_NOT_A_MAP)
        if not strategic:  # which fills in a struct, whatever it is called
            self._check_kind(made, refused)
        decoded = served.schema.decode(made)
        if decoded.errors:
            raise refused((strategic and goconvert.mismatch(served.schema.type, made)) or decoded.errors[0])
        self._tell([*self._strict, *(sorted(decoded.unknown) if strategic else decoded.unknown)], refused)
        obj = decoded.object
        resource = served.type
        obj["apiVersion"], obj["kind"] = resource.api_version, resource.kind
        if obj.get("metadata") is None:
            obj["metadata"] = {}
        return obj

    def _check_kind(self, made: Object, refused: Callable[[str], Invalid]) -> None:
        expected = expected_of(self._served)
        try:
            api_version, kind = decoding.type_of(made)
            if not kind:
                raise refused(f"Object 'Kind' is missing in '{orjson.dumps(made).decode()}'")
            decoding.check_kind(*decoding.kind_of(api_version, kind, expected), expected)
        except (decoding.Unrecognized, decoding.WrongKind) as exc:
            raise refused(str(exc)) from exc

    def _tell(self, told: list[str], refused: Callable[[str], Invalid]) -> None:
        """Complain of fields that should not be there, as loudly as the request asks."""
        if self._validation not in ("Strict", "Warn") or not told:
            return
        if self._validation == "Strict":
            raise refused(f"strict decoding error: {', '.join(told)}")
        self._exchange.warnings.extend(told)
