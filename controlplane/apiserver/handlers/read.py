"""GET of objects and collections, from memory.

Source: API concepts, "Resource versions", "Retrieving large results sets in chunks"; k8s.io/apiserver/pkg/storage.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.handlers import encoding, negotiated
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.failures import not_found
from controlplane.apiserver.handlers.forms import present
from controlplane.apiserver.handlers.options import invalid_options, not_supported, parse_integer, parse_revision
from controlplane.apiserver.handlers.selection import Selection, selection
from controlplane.apiserver.handlers.writer import key_of
from controlplane.apiserver.resources import Served
from controlplane.apiserver.routing import Query
from machinery.api import fielderror, jsontext
from machinery.api.fielderror import FieldError
from machinery.errors import BadRequest, Expired, RevisionCompacted, StatusError, Timeout

WAIT_SECONDS = 3.0  # how long a read of a future resourceVersion waits for it
_TOKEN_VERSION = "meta.k8s.io/v1"
_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


async def get(api: Api, exchange: Exchange) -> Answer:
    """GET of an object (or of a subresource that shows it)."""
    served, info = exchange.served, exchange.info
    form = negotiated.form(exchange)
    record = await find(api, served, info.namespace, info.name, exchange.query.get("resourceVersion"))
    return encoding.one(record, served, form, negotiated.include(exchange, form))


async def find(api: Api, served: Served, namespace: str, name: str, resource_version: str = "") -> Record:
    """An object, not older than asked for ("": as of now, "0": any). Raises NotFound."""
    key = key_of(served, namespace, name)
    if not resource_version:
        record = await api.objects.fresh(served.prefix, key)
    else:
        await not_older(api, parse_revision(resource_version))
        record = api.objects.collection(served.prefix).records.get(key)
    if record is None:
        raise not_found(served.type, name)
    await present((record,), served)
    return record


async def not_older(api: Api, revision: int) -> None:
    """Wait until memory has reached a revision. Raises Timeout (504) if it doesn't."""
    if not await api.objects.cacher.reached(revision, WAIT_SECONDS):
        current = api.objects.cacher.revision
        cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
        raise Timeout(
            f"Too large resource version: {revision}, current: {current}",
            details={"causes": [cause], "retryAfterSeconds": 1},
        )


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What a list is asked to be like."""

    limit: int
    token: str
    resource_version: str
    exact: bool


def list_options(query: Query) -> ListOptions:
    """The options of a list. Raises BadRequest, Invalid."""
    if not query:
        return _ANY
    limit = parse_integer(query.get("limit")) if query.get("limit") else 0
    if query.get("timeoutSeconds"):
        parse_integer(query.get("timeoutSeconds"))
    version, match, token = query.get("resourceVersion"), query.get("resourceVersionMatch"), query.get("continue")
    errors: list[FieldError] = []
    field = "resourceVersionMatch"
    if match:
        if not version:
            told = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            errors.append(fielderror.forbidden(field, told))
        if token:
            errors.append(fielderror.forbidden(field, "resourceVersionMatch is forbidden when continue is provided"))
        if match not in ("Exact", "NotOlderThan"):
            errors.append(not_supported(field, match, ["Exact", "NotOlderThan", ""]))
        if match == "Exact" and version == "0":
            told = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            errors.append(fielderror.forbidden(field, told))
    if "sendInitialEvents" in query:
        errors.append(fielderror.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if errors:
        raise invalid_options("ListOptions", errors)
    if token and version and version != "0":
        raise BadRequest("specifying resource version is not allowed when using continue")
    return ListOptions(max(0, limit), token, version, match == "Exact")


_ANY = ListOptions(0, "", "", False)


@dataclass(frozen=True, slots=True)
class Page:
    """Objects of one revision, and how to go on."""

    records: Sequence[Record]
    revision: int
    token: str = ""
    remaining: int | None = None

    def metadata(self) -> dict[str, Any]:
        """The list's metadata."""
        made: dict[str, Any] = {"resourceVersion": str(self.revision)}
        if self.token:
            made["continue"] = self.token
        if self.remaining is not None:
            made["remainingItemCount"] = self.remaining
        return made


async def list_(api: Api, exchange: Exchange) -> Answer:
    """GET of a collection."""
    served, info = exchange.served, exchange.info
    form = negotiated.form(exchange, list_or_watch=True)
    options = list_options(exchange.query)
    chosen = selection(exchange, served, info.namespace)
    await present_to_select(api, served, chosen)
    page = await read_page(api, served, chosen, options)
    await present(page.records, served)
    return encoding.many(page.records, served, form, page.metadata(), negotiated.include(exchange, form))


async def present_to_select(api: Api, served: Served, chosen: Selection) -> None:
    """Have a webhook convert what a selector has to look into."""
    if served.conversion is not None and chosen.matches is not None:
        await present(api.objects.collection(served.prefix).list(chosen.namespace), served)


async def read_page(api: Api, served: Served, chosen: Selection, options: ListOptions) -> Page:
    """The objects selected, or the first of them."""
    if options.token:
        start, revision = _decode_token(options.token, chosen.namespace)
        return await _continued(api, served, chosen, options.limit, start, revision)
    collection = api.objects.collection(served.prefix)
    cacher = api.objects.cacher
    if options.exact:
        return await _past(api, served, chosen, options.limit, _list_revision(options.resource_version))
    if options.resource_version:
        await not_older(api, _list_revision(options.resource_version))
    elif not await cacher.fresh():
        return await _stored(api, served, chosen, options.limit, "", 0)
    if chosen.name:
        found = (
            collection.records.get(key_of(served, chosen.namespace, chosen.name)) if _direct(served, chosen) else None
        )
        if _direct(served, chosen):
            return Page([found] if found is not None and chosen.selects(found) else [], cacher.revision)
    return _page(chosen.of(collection, served), chosen, options.limit, cacher.revision)


def _direct(served: Served, chosen: Selection) -> bool:
    """Whether namespace and name are a whole key."""
    return bool(chosen.name) and (bool(chosen.namespace) or not served.type.namespaced)


def _list_revision(text: str) -> int:
    try:
        return parse_revision(text)
    except StatusError as exc:
        raise BadRequest(f"invalid resource version: {exc.message}") from exc


def _page(found: Sequence[Record], chosen: Selection, limit: int, revision: int) -> Page:
    """The first `limit` of all those that are selected."""
    if not limit or len(found) <= limit:
        return Page(found, revision)
    taken = found[:limit]
    remaining = len(found) - limit if chosen.plain else None
    return Page(taken, revision, _encode_token(taken[-1].key, revision, chosen.namespace), remaining)


async def _continued(api: Api, served: Served, chosen: Selection, limit: int, start: str, revision: int) -> Page:
    """The next page, of the same revision as the first (or of now, if the token says -1)."""
    cacher = api.objects.cacher
    collection = api.objects.collection(served.prefix)
    if revision < 0:
        if await cacher.fresh():
            return _page(chosen.of(collection, served, start), chosen, limit, cacher.revision)
        return await _stored(api, served, chosen, limit, start, 0)
    if collection.changed <= revision <= cacher.revision:
        return _page(chosen.of(collection, served, start), chosen, limit, revision)
    try:
        return await _stored(api, served, chosen, limit, start, revision)
    except RevisionCompacted as exc:
        key = start.removesuffix("\0")
        raise _ExpiredPage(_EXPIRED, _encode_token(key, -1, chosen.namespace)) from exc


async def _past(api: Api, served: Served, chosen: Selection, limit: int, revision: int) -> Page:
    """The state at an exact revision."""
    await not_older(api, revision)
    collection = api.objects.collection(served.prefix)
    if collection.changed <= revision <= api.objects.cacher.revision:
        return _page(chosen.of(collection, served), chosen, limit, revision)
    try:
        return await _stored(api, served, chosen, limit, "", revision)
    except RevisionCompacted as exc:
        told = "The resourceVersion for the provided list is too old."
        raise Expired(told) from exc


async def _stored(api: Api, served: Served, chosen: Selection, limit: int, start: str, revision: int) -> Page:
    """A page read from storage itself."""
    cacher = api.objects.cacher
    base = f"{cacher.prefix}{served.prefix}"
    prefix = f"{base}{chosen.namespace}/" if chosen.namespace else base
    stored, at, _ = await cacher.storage.list(prefix, start=f"{base}{start}" if start else "", revision=revision)
    made = (cacher.record(s.key[len(base) :], s.value, s.revision) for s in stored)
    return _page([record for record in made if record is not None and chosen.selects(record)], chosen, limit, at)


class _ExpiredPage(Expired):
    """410 with a token that goes on from the present state."""

    def __init__(self, message: str, token: str) -> None:
        super().__init__(message)
        self._token = token

    def to_status(self) -> dict[str, Any]:
        return {**super().to_status(), "metadata": {"continue": self._token}}


def _encode_token(last: str, revision: int, namespace: str) -> str:
    """A continue token: the key after `last`, relative to what is listed."""
    start = last.removeprefix(namespace + "/") if namespace else last
    text = orjson.dumps({"v": _TOKEN_VERSION, "rv": revision, "start": start + "\0"})
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def _decode_token(token: str, namespace: str) -> tuple[str, int]:
    """(key to start from, revision) of a continue token. Raises BadRequest."""
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BadRequest(f"invalid continue token: continue key is not valid: {_base64_error(token)}") from exc
    try:
        value, _ = jsontext.loads(data)
    except jsontext.JSONError as exc:
        told = str(exc).replace("'\\u00", "'\\x")  # Go's own parser, not the one that reads bodies
        raise BadRequest(f"invalid continue token: continue key is not valid: {told}") from exc
    if not isinstance(value, dict) or value.get("v") != _TOKEN_VERSION:
        version = value.get("v", "") if isinstance(value, dict) else ""
        told = f'continue key is not valid: server does not recognize this encoded version "{version}"'
        raise BadRequest(f"invalid continue token: {told}")
    start, revision = value.get("start"), value.get("rv")
    if not isinstance(revision, int) or revision == 0:
        told = "continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)"
        raise BadRequest(f"invalid continue token: {told}")
    if not isinstance(start, str) or not start:
        told = "continue key is not valid: encoded start key empty (version meta.k8s.io/v1)"
        raise BadRequest(f"invalid continue token: {told}")
    if ".." in start.split("/") or "." in start.rstrip("\0").split("/") or start.startswith("/"):
        raise BadRequest(f"invalid continue token: continue key is not valid: {start}")
    return (f"{namespace}/{start}" if namespace else start), revision


def _base64_error(token: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at = next((i for i, char in enumerate(token) if char not in alphabet), len(token))
    return f"illegal base64 data at input byte {at}"
