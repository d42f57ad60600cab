"""Telling users what happened to an object, as Events: aggregated, limited, never in anybody's way.

Source: client-go tools/record (event correlation); core/v1 Event.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from machinery.api import meta
from machinery.api.catalogue import EVENTS
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC, Client
from machinery.clock import Clock, SystemClock
from machinery.errors import NotFound, StatusError, TransportError
from machinery.log import get_logger

log = get_logger(__name__)

_REMEMBERED = 4096
_WAITING = 1000
_BURST, _REFILL_SECONDS = 25, 300.0  # of one source about one object: 25 at once, then one in 5 minutes
_TRIES = 12
_RETRY_SECONDS = 10.0


@dataclass(slots=True)
class _Known:
    name: str
    count: int


@dataclass(slots=True)
class _Budget:
    tokens: float
    filled_at: float


class EventRecorder:
    """Sends Events in the background: `run()` in a task group; recording never waits and never fails."""

    def __init__(self, client: Client, *, component: str, host: str = "", clock: Clock | None = None) -> None:
        self._client = client
        self._source = {"component": component} | ({"host": host} if host else {})
        self._clock = clock or SystemClock()
        self._known: OrderedDict[tuple[str, ...], _Known] = OrderedDict()
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()
        self._waiting: deque[tuple[tuple[str, ...], Object]] = deque(maxlen=_WAITING)
        self._wake = asyncio.Event()

    def normal(self, obj: Object, reason: str, message: str, *, field_path: str = "") -> None:
        """Something went as planned. `obj` must carry apiVersion and kind."""
        self._record(obj, "Normal", reason, message, field_path)

    def warning(self, obj: Object, reason: str, message: str, *, field_path: str = "") -> None:
        """Something went wrong that the user should know of."""
        self._record(obj, "Warning", reason, message, field_path)

    def tell(self, obj: Object, events: Iterable[tuple[str, str, str]]) -> None:
        """Several events about one object: (type, reason, message) each."""
        for kind, reason, message in events:
            self._record(obj, kind, reason, message, "")

    def _record(self, obj: Object, kind: str, reason: str, message: str, field_path: str) -> None:
        about = {
            "kind": obj.get("kind", ""),
            "apiVersion": obj.get("apiVersion", ""),
            "name": meta.name_of(obj),
            "namespace": meta.namespace_of(obj),
            "uid": meta.uid_of(obj),
            "resourceVersion": obj.get("metadata", {}).get("resourceVersion", ""),
            "fieldPath": field_path,
        }
        about = {name: value for name, value in about.items() if value}
        if not self._within_budget(f"{about.get('uid', '')}/{about.get('name', '')}"):
            return
        moment = self._clock.now()
        now = meta.format_time(moment)
        namespace = about.get("namespace", "default")
        event: Object = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{about['name']}.{int(moment.timestamp() * 1e9):x}", "namespace": namespace},
            "involvedObject": about,
            "reason": reason,
            "message": message[:1024],
            "source": self._source,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": kind,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source.get("host", ""),
        }
        identity = (namespace, about.get("uid", ""), about["name"], field_path, kind, reason, message)
        self._waiting.append((identity, event))
        self._wake.set()

    def _within_budget(self, about: str) -> bool:
        now = self._clock.monotonic()
        budget = self._budgets.setdefault(about, _Budget(_BURST, now))
        self._budgets.move_to_end(about)
        if len(self._budgets) > _REMEMBERED:
            self._budgets.popitem(last=False)
        budget.tokens = min(_BURST, budget.tokens + (now - budget.filled_at) / _REFILL_SECONDS)
        budget.filled_at = now
        if budget.tokens < 1:
            return False
        budget.tokens -= 1
        return True

    async def run(self) -> None:
        """Send what is recorded, until cancelled."""
        while True:
            while self._waiting:
                identity, event = self._waiting.popleft()
                await self._send(identity, event)
            self._wake.clear()
            await self._wake.wait()

    async def _send(self, identity: tuple[str, ...], event: Object) -> None:
        for _ in range(_TRIES):
            try:
                await self._put(identity, event)
            except StatusError as exc:  # the namespace ends, or we may not: trying again would not help
                log.debug("event refused", err=str(exc), reason=event["reason"])
                return
            except TransportError as exc:
                log.debug("event not sent, trying again", err=str(exc))
                await self._clock.sleep(_RETRY_SECONDS)
            else:
                return

    async def _put(self, identity: tuple[str, ...], event: Object) -> None:
        namespace = event["metadata"]["namespace"]
        known = self._known.get(identity)
        if known is not None:
            self._known.move_to_end(identity)
            change = {"count": known.count + 1, "lastTimestamp": event["lastTimestamp"]}
            try:
                await self._client.patch(EVENTS, known.name, change, namespace, content_type=STRATEGIC)
            except NotFound:  # its time to live is over
                pass
            else:
                known.count += 1
                return
        await self._client.create(EVENTS, event, namespace)
        self._known[identity] = _Known(event["metadata"]["name"], 1)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
