"""Events of the scheduler, through events.k8s.io/v1: told once, counted when they repeat, in nobody's way.

Source: client-go tools/events (event_broadcaster.go); events.k8s.io/v1 Event; KEP-383.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass

from machinery.api import meta
from machinery.api.catalogue import EVENTS_K8S_IO
from machinery.api.meta import Object
from machinery.client.rest import Client
from machinery.clock import Clock, SystemClock
from machinery.errors import StatusError, TransportError
from machinery.log import get_logger

log = get_logger(__name__)

_WAITING = 1000
_REMEMBERED = 4096
_SERIES_SECONDS = 360.0  # the same again within this time is one series
_SENDERS = 4
_TRIES = 12
_RETRY_SECONDS = 10.0
_LONGEST_NOTE = 1024


@dataclass(slots=True)
class _Series:
    name: str
    namespace: str
    count: int
    seen_at: float


@dataclass(frozen=True, slots=True)
class Action:
    """What the scheduler was doing when there was something to tell: `reason` is what users filter events by."""

    type: str
    reason: str
    name: str


SCHEDULED = Action("Normal", "Scheduled", "Binding")
FAILED = Action("Warning", "FailedScheduling", "Scheduling")
PREEMPTED = Action("Normal", "Preempted", "Preempting")


class Recorder:
    """Sends events in the background: `run()` in a task group; recording never waits and never fails."""

    def __init__(self, client: Client, host: str, clock: Clock | None = None) -> None:
        self._client = client
        self._host = host
        self._clock = clock or SystemClock()
        self._series: OrderedDict[tuple[str, ...], _Series] = OrderedDict()
        self._waiting: deque[tuple[str, Object]] = deque(maxlen=_WAITING)
        self._wake = asyncio.Event()

    def record(
        self, pod: Object, scheduler_name: str, action: Action, note: str, related: Object | None = None
    ) -> None:
        """Tell about a pod; `scheduler_name` is who tells."""
        regarding = _reference(pod)
        identity = (action.reason, action.name, scheduler_name, *regarding.values(), meta.uid_of(related or {}))
        moment = self._clock.now()
        now = meta.format_micro_time(moment)
        known = self._series.get(identity)
        if known is not None and self._clock.monotonic() - known.seen_at < _SERIES_SECONDS:
            known.count += 1
            known.seen_at = self._clock.monotonic()
            if known.count == 2:
                change = {"series": {"count": known.count, "lastObservedTime": now}}
                self._put("PATCH", {"metadata": {"name": known.name, "namespace": known.namespace}, **change})
            return
        name = f"{meta.name_of(pod)}.{int(moment.timestamp() * 1e9):x}"
        namespace = meta.namespace_of(pod) or "default"
        self._series[identity] = _Series(name, namespace, 1, self._clock.monotonic())
        if len(self._series) > _REMEMBERED:
            self._series.popitem(last=False)
        event: Object = {
            "apiVersion": EVENTS_K8S_IO.api_version,
            "kind": EVENTS_K8S_IO.kind,
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": now,
            "reportingController": scheduler_name,
            "reportingInstance": f"{scheduler_name}-{self._host}",
            "action": action.name,
            "reason": action.reason,
            "regarding": regarding,
            "note": note if len(note) <= _LONGEST_NOTE else note[: _LONGEST_NOTE - 4] + " ...",
            "type": action.type,
        }
        if related is not None:
            event["related"] = _reference(related)
        self._put("POST", event)

    def _put(self, method: str, event: Object) -> None:
        self._waiting.append((method, event))
        self._wake.set()

    async def run(self) -> None:
        """Send what is recorded, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_SENDERS):
                group.create_task(self._send_all())

    async def _send_all(self) -> None:
        while True:
            while self._waiting:
                method, event = self._waiting.popleft()
                await self._send(method, event)
            self._wake.clear()
            await self._wake.wait()

    async def _send(self, method: str, event: Object) -> None:
        for _ in range(_TRIES):
            try:
                if method == "POST":
                    await self._client.create(EVENTS_K8S_IO, event)
                else:
                    found = event["metadata"]
                    await self._client.patch(
                        EVENTS_K8S_IO, found["name"], {"series": event["series"]}, found["namespace"]
                    )
            except StatusError as exc:  # the namespace ends, or we may not: trying again would not help
                log.debug("event refused", err=str(exc))
                return
            except TransportError as exc:
                log.debug("event not sent, trying again", err=str(exc))
                await self._clock.sleep(_RETRY_SECONDS)
            else:
                return


def _reference(obj: Object) -> dict[str, str]:
    return {
        "kind": obj.get("kind", "Pod"),
        "namespace": meta.namespace_of(obj),
        "name": meta.name_of(obj),
        "uid": meta.uid_of(obj),
        "apiVersion": obj.get("apiVersion", "v1"),
        "resourceVersion": obj["metadata"].get("resourceVersion", ""),
    }
