"""Watches: what happens to the objects selected, as a stream.

A watcher is a function that the collection calls with each batch of events; it writes bytes that are shared with all
other watchers straight to the connection.  There is no task and no queue for each event.  A client that does not read
has its connection closed when too much is waiting for it.

Source: API concepts, "Efficient detection of changes"; k8s.io/apiserver/pkg/endpoints/handlers/watch.go.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from controlplane.apiserver import envelope, yamltext
from controlplane.apiserver.cacher.record import ADDED, DELETED, MODIFIED, Event, Record
from controlplane.apiserver.handlers import encoding, forms, negotiated, table
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.exchange import JSON, PROTOBUF, YAML, Exchange
from controlplane.apiserver.handlers.options import invalid_options, not_supported, parse_integer, parse_revision
from controlplane.apiserver.handlers.proxying import is_websocket
from controlplane.apiserver.handlers.read import not_older
from controlplane.apiserver.handlers.selection import Selection, selection
from controlplane.apiserver.handlers.wirestream import ChunkedSink, Sink, WebSocketSink
from controlplane.apiserver.http.request import Answered
from controlplane.apiserver.negotiation import Form
from controlplane.apiserver.resources import Served
from controlplane.apiserver.routing import Query
from machinery.api import fielderror
from machinery.api.fielderror import FieldError
from machinery.api.protobuf import envelope as protobuf
from machinery.errors import InternalError, StatusError

_BOOKMARK_SECONDS = 60.0
_BEFORE_END_SECONDS = 2.0  # a last bookmark comes this long before a watch ends by itself
_INITIAL_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What a watch is asked to be like."""

    resource_version: str
    bookmarks: bool
    initial: bool | None
    """sendInitialEvents."""
    seconds: float


def watch_options(query: Query, shortest_seconds: int) -> WatchOptions:
    """The options of a watch. Raises BadRequest, Invalid."""
    if query.get("limit"):
        parse_integer(query.get("limit"))
    seconds = parse_integer(query.get("timeoutSeconds")) if query.get("timeoutSeconds") else 0
    match, initial = query.get("resourceVersionMatch"), "sendInitialEvents" in query
    field = "resourceVersionMatch"
    errors: list[FieldError] = []
    if initial and match != "NotOlderThan":
        told = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        errors.append(fielderror.forbidden(field, told))
    if match:
        if not initial:
            told = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            errors.append(fielderror.forbidden(field, told))
        if match != "NotOlderThan":
            errors.append(not_supported(field, match, ["NotOlderThan"]))
        if query.get("continue"):
            errors.append(fielderror.forbidden(field, "resourceVersionMatch is forbidden when continue is provided"))
    if errors:
        raise invalid_options("ListOptions", errors)
    return WatchOptions(
        query.get("resourceVersion"),
        query.flag("allowWatchBookmarks"),
        query.flag("sendInitialEvents") if initial else None,
        float(seconds) if seconds > 0 else shortest_seconds * (1 + secrets.randbelow(1000) / 1000),
    )


async def watch(api: Api, exchange: Exchange) -> Answered:
    """GET of a collection with `watch`, over chunked HTTP or WebSocket."""
    served, info = exchange.served, exchange.info
    form = negotiated.form(exchange, list_or_watch=True)
    include = negotiated.include(exchange, form)
    options = watch_options(exchange.query, api.settings.min_request_timeout_seconds)
    chosen = selection(exchange, served, info.namespace, info.name if exchange.target.watch_path else "")
    revision = parse_revision(options.resource_version)
    if not options.resource_version:
        await api.objects.cacher.fresh()
    if options.initial is not None and revision:
        await not_older(api, revision)
    sink: Sink = WebSocketSink() if is_websocket(exchange) else ChunkedSink()
    media = f"{PROTOBUF};stream=watch" if form.media == PROTOBUF else form.media
    response = sink.open(exchange, media)
    stream = _Stream(api, served, chosen, form, include, sink)
    stream.initialised = exchange.initialised
    await stream.run(options, revision)
    return response


def _needs_progress(api: Api, options: WatchOptions) -> bool:
    """Whether upstream would need etcd's RequestWatchProgress, and this etcd has none that works.

    Source: k8s.io/apiserver/pkg/storage/cacher (watch with an unset resourceVersion and bookmarks).
    """
    return options.bookmarks and not api.objects.cacher.storage.progress_requests


class _Stream:
    """One watch."""

    def __init__(self, api: Api, served: Served, chosen: Selection, form: Form, include: str, sink: Sink) -> None:
        self._api, self._served, self._chosen = api, served, chosen
        self._form, self._include, self._sink = form, include, sink
        self._collection = api.objects.collection(served.prefix)
        self._ended = asyncio.Event()
        self._told_definitions = False
        self.initialised: Callable[[], None] | None = None
        """Called when what is there has been told."""
        self._reached = 0
        self._sent = api.metrics.watch_events(served.type)
        as_stored = served.view is None and served.conversion is None
        plain = form.media == JSON and not form.shape and as_stored and not form.pretty
        self._waits = served.conversion is not None and served.conversion.waits
        self._waiting: asyncio.Queue[tuple[Sequence[Event], int] | int] = asyncio.Queue()
        """Events to be converted first, and revisions of which a bookmark is to tell after those."""
        self._shared = plain
        """The client gets the bytes that all others get."""

    async def run(self, options: WatchOptions, revision: int) -> None:
        """Serve until time is up, the client is gone or events were lost."""
        loop = asyncio.get_running_loop()
        if not options.resource_version and options.initial is not False and _needs_progress(self._api, options):
            told = (
                "a watch stream was requested by the client but the required storage feature RequestWatchProgress is "
                "disabled"
            )
            self._sink.send([self._error(InternalError(told))])
            self._sink.close()
            return
        pump = asyncio.ensure_future(self._convert()) if self._waits else None
        try:
            await self._present()
            self._begin(options, revision)
        except StatusError as exc:
            if pump is not None:
                pump.cancel()
            self._sink.send([self._error(exc)])
            self._sink.close()
            return
        if self.initialised is not None:
            self.initialised()
        timers = [loop.call_later(options.seconds, self._ended.set)]
        if options.bookmarks:
            first = min(_BOOKMARK_SECONDS, max(0.0, options.seconds - _BEFORE_END_SECONDS))
            timers.append(loop.call_later(first, self._bookmark_later, timers, loop.time() + options.seconds))
        try:
            await self._sink.wait(self._ended)
        finally:
            self._collection.unsubscribe(self)
            if pump is not None:
                pump.cancel()
            for timer in timers:
                timer.cancel()
        self._sink.close()

    def _begin(self, options: WatchOptions, revision: int) -> None:
        """Tell what is there or has happened, and listen from then on: in one go, so that nothing is missed."""
        deliver = self._deliver if not self._waits else self._later
        self._collection.subscribe(self, deliver, self._ended.set)
        now = self._api.objects.cacher.revision
        snapshot = options.initial or (options.initial is None and not revision)
        try:
            if snapshot:
                chosen = self._chosen.of(self._collection, self._served)
                self._sink.send([self._told(ADDED, record) for record in chosen])
                self._sent[0] += len(chosen)
                self._reached = now
                if options.initial and options.bookmarks:
                    self._sink.send([self._bookmark(now, {_INITIAL_END: "true"})])
            elif revision:
                self._reached = max(revision, now)
                deliver(self._collection.since(revision), after=revision)
            else:
                self._reached = now
        except StatusError:
            self._collection.unsubscribe(self)
            raise

    async def _present(self) -> None:
        """Have everything converted that is there; what comes meanwhile as well, so that `_begin` finds it so."""
        conversion = self._served.conversion
        if conversion is not None and conversion.waits:
            while conversion.missing(records := self._collection.list(self._chosen.namespace)):
                await conversion.present(records)

    def _later(self, events: Sequence[Event], after: int = -1) -> bool:
        """Deliver once a webhook has converted the objects."""
        self._waiting.put_nowait((events, after))
        return True

    async def _convert(self) -> None:
        while True:
            told = await self._waiting.get()
            if isinstance(told, int):
                self._tell_progress(told)
                continue
            events, after = told
            concerned = [e.record for e in events]
            concerned += [r for e in events if e.previous is not None for r in (e.previous, e.vanished)]
            try:
                await forms.present(concerned, self._served)
            except StatusError as exc:
                self._sink.send([self._error(exc)])
                self._ended.set()
                return
            self._deliver(events, after)

    def _deliver(self, events: Sequence[Event], after: int = -1) -> bool:
        """Write what the events mean for this watcher; whether that was anything."""
        lines: list[bytes] = []
        reached = self._reached if after < 0 else after
        if self._shared and self._chosen.matches is None:
            namespace, name = self._chosen.namespace, self._chosen.name
            for event in events:
                record = event.record
                if (
                    record.revision > reached
                    and (not namespace or record.namespace == namespace)
                    and (not name or record.name == name)
                ):
                    lines.append(event.line)
        else:
            for event in events:
                if event.record.revision > reached:
                    told = self._meant(event)
                    if told is not None:
                        lines.append(told)
        if not lines:
            return False
        self._sent[0] += len(lines)
        if not self._sink.send(lines):
            self._ended.set()
        return True

    def _meant(self, event: Event) -> bytes | None:
        """An event as this watcher sees it, whose selection the object may have entered or left."""
        now, before = self._chosen.selects_event(event)
        if event.kind != MODIFIED:
            if not now:
                return None
            return event.line if self._shared else self._told(event.kind, event.record)
        if now and before:
            return event.line if self._shared else self._told(MODIFIED, event.record)
        if now:
            return self._told(ADDED, event.record)
        return self._told(DELETED, event.vanished) if before else None

    def _told(self, kind: str, record: Record) -> bytes:
        if self._shared:
            return envelope.watch_event(kind, record.value)
        if self._form.media == PROTOBUF:
            form = Form(PROTOBUF, self._form.shape.removesuffix("List"), self._form.shape_version)
            return protobuf.watch_frame(kind, bytes(encoding.one(record, self._served, form).body))
        if self._form.shape == "Table":
            data = table.render(
                [record],
                self._served,
                self._form.shape_version,
                self._include,
                {"resourceVersion": str(record.revision)},
                with_definitions=not self._told_definitions,
            )
            self._told_definitions = True
        else:
            form = Form(JSON, self._form.shape.removesuffix("List"), self._form.shape_version)
            data = bytes(encoding.one(record, self._served, form).body)
        return self._framed(kind, data)

    def _framed(self, kind: str, data: bytes) -> bytes:
        """An event from the JSON of its object, as the client's media type has it."""
        if self._form.media == PROTOBUF:
            return protobuf.watch_frame(kind, protobuf.encode(orjson.loads(data)))
        if self._form.media == YAML:
            document: Any = {"type": kind, "object": orjson.loads(data)}
            return b"---\n" + yamltext.dumps(document)
        return envelope.watch_event(kind, data)

    def _error(self, error: StatusError) -> bytes:
        return self._framed("ERROR", orjson.dumps(error.to_status()))

    def _bookmark(self, revision: int, annotations: dict[str, str] | None = None) -> bytes:
        kind = self._served.type
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        if annotations:
            metadata["annotations"] = annotations
        obj: dict[str, Any] = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
        if self._form.shape == "Table":
            obj = {
                "kind": "Table",
                "apiVersion": f"meta.k8s.io/{self._form.shape_version}",
                "metadata": {"resourceVersion": metadata["resourceVersion"]},
                "columnDefinitions": None,
                "rows": [{"cells": [], "object": {**obj, **_partial(self._form)}}],
            }
        elif self._form.shape:
            obj |= _partial(self._form)
        return self._framed("BOOKMARK", orjson.dumps(obj))

    def _tell_progress(self, revision: int) -> None:
        if not self._sink.send([self._bookmark(revision)]):
            self._ended.set()

    def _bookmark_later(self, timers: list[asyncio.TimerHandle], end: float) -> None:
        """Tell progress now and again, the last time shortly before the end."""
        self._collection.deliver()  # a bookmark says that all up to it has been told
        reached = max(self._reached, self._api.objects.cacher.revision)
        if self._waits:
            self._waiting.put_nowait(reached)
        else:
            self._tell_progress(reached)
        loop = asyncio.get_running_loop()
        left = end - loop.time() - _BEFORE_END_SECONDS
        if left > 0.1:
            timers.append(loop.call_later(min(_BOOKMARK_SECONDS, left), self._bookmark_later, timers, end))


def _partial(form: Form) -> dict[str, str]:
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{form.shape_version}"}
