"""The configuration in force, and requests' way through it.

Source: k8s.io/apiserver/pkg/util/flowcontrol/apf_controller.go, pkg/server/filters/priority-and-fairness.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.apiserver.bootstrap.flowcontrol import MANDATORY, flow_schemas, priority_levels
from controlplane.apiserver.flowcontrol.estimate import most_seats
from controlplane.apiserver.flowcontrol.level import TIMED_OUT, Level, LevelSpec, Queue, Rejected, read_level
from controlplane.apiserver.flowcontrol.matching import FlowSchema, compile_schema
from controlplane.apiserver.flowcontrol.shares import Limits, allocate, limits
from controlplane.apiserver.flowcontrol.tally import Tally
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.request import RequestInfo, User
from machinery.api.catalogue import FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS
from machinery.api.meta import Object, name_of
from machinery.api.resource import ResourceType

ADJUST_SECONDS = 10.0
_REMEMBERED = 8192


@dataclass(slots=True)
class Ticket:
    """A request that is being served. `end` it once for all; ending it again does nothing."""

    schema: FlowSchema
    level: Level
    seats: int
    queue: Queue | None = None
    ended: bool = False

    def end(self, hold_seconds: float = 0.0) -> None:
        """Give the seats back, now or after a while (the work that the request caused goes on)."""
        if self.ended:
            return
        self.ended = True
        if hold_seconds:
            asyncio.get_running_loop().call_later(hold_seconds, self.level.end, self.seats, self.queue)
        else:
            self.level.end(self.seats, self.queue)


class FlowControl:
    """Classifies requests and lets them begin. For use by one event loop."""

    def __init__(self, reader: Reader, total: int, request_seconds: float) -> None:
        """`total` seats; a request waits for a quarter of `request_seconds` at most."""
        self._reader = reader
        self._total = total
        self._wait_seconds = request_seconds / 4
        self._schemas: list[FlowSchema] = []
        self.levels: dict[str, Level] = {}
        self.bounds: dict[str, Limits] = {}
        self.tally = Tally()
        self.changed = asyncio.Event()
        """Set when the configuration has changed; for the one who keeps statuses true."""
        self._known: dict[tuple[object, ...], tuple[FlowSchema, Level]] = {}
        self._outdated = True
        for resource in (FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS):
            reader.on_change(resource, self._note)

    def _note(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or old.get("spec") != new.get("spec"):
            self._outdated = True
            self._known.clear()
        self.changed.set()

    def schemas(self) -> list[FlowSchema]:
        """The schemas in force, in the order of matching."""
        if self._outdated:
            self._read()
        return self._schemas

    def _read(self) -> None:
        """Take the configuration from the cache; what every server has by itself if it isn't there."""
        self._outdated = False
        specs = {s.name: s for s in map(read_level, self._objects(PRIORITYLEVELCONFIGURATIONS, priority_levels()))}
        for name, spec in specs.items():
            if name in self.levels:
                self.levels[name].take_spec(spec)
            else:
                self.levels[name] = Level(spec, self._wait_seconds)
        for name in [n for n, level in self.levels.items() if n not in specs and not level.seats and not level.waiting]:
            del self.levels[name]
        self._divide(list(specs.values()))
        compiled = map(compile_schema, self._objects(FLOWSCHEMAS, flow_schemas()))
        self._schemas = sorted((s for s in compiled if s.level in specs), key=lambda s: (s.precedence, s.name))
        self._known.clear()

    def _objects(self, resource: ResourceType, own: Iterable[Object]) -> Iterable[Object]:
        mandatory = {name_of(obj): obj for obj in own if name_of(obj) in MANDATORY}
        return (mandatory | {name_of(obj): obj for obj in self._reader.list(resource)}).values()

    def _divide(self, specs: list[LevelSpec]) -> None:
        self.bounds = limits(specs, self._total)
        for name, bounds in self.bounds.items():
            level = self.levels[name]
            level.nominal = bounds.nominal
            level.limit = max(1, bounds.nominal)
            level.dispatch()

    def classify(self, user: User, info: RequestInfo) -> tuple[FlowSchema, Level]:
        """Schema and level of a request."""
        key = (
            user.name,
            user.groups,
            info.verb,
            info.group,
            info.resource or info.path,
            info.subresource,
            info.namespace,
        )
        found = self._known.get(key)
        if found is None:
            schema = next((s for s in self.schemas() if s.matches(user, info)), None) or self._last()
            found = schema, self.levels[schema.level]
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = found
        return found

    def _last(self) -> FlowSchema:
        """For who is in no group at all, as upstream: the catch-all takes everybody."""
        return next(s for s in self._schemas if s.name == "catch-all")

    def begin(self, schema: FlowSchema, level: Level, seats: int) -> Ticket | None:
        """Begin at once; None if the request has to `wait`."""
        seats = seats if seats == 1 else min(seats, most_seats(level.nominal))
        if not level.begin(seats):
            return None
        self.tally.dispatched(level.spec.name, schema.name)
        return Ticket(schema, level, seats)

    async def wait(self, schema: FlowSchema, level: Level, seats: int, flow: str) -> Ticket:
        """Begin when there are seats. Raises Rejected."""
        seats = min(seats, most_seats(level.nominal))
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        names = level.spec.name, schema.name
        try:
            queue = await level.wait(seats, f"{schema.name}\0{flow}")
        except Rejected as exc:
            self.tally.rejected(*names, exc.reason, loop.time())
            if exc.reason == TIMED_OUT:
                self.tally.waited(*names, loop.time() - arrived, executed=False)
            raise
        self.tally.dispatched(*names)
        self.tally.waited(*names, loop.time() - arrived, executed=True)
        return Ticket(schema, level, seats, queue)

    async def adjust_regularly(self) -> None:
        """Lend seats that are not wanted to levels that want them, until cancelled."""
        while True:
            await asyncio.sleep(ADJUST_SECONDS)
            self.adjust()

    def adjust(self) -> None:
        """Divide the seats by what was wanted since the last time."""
        self.schemas()
        demand = {name: float(level.most) for name, level in self.levels.items()}
        bounds = {name: b for name, b in self.bounds.items() if not self.levels[name].spec.exempt}
        for name, seats in allocate(bounds, demand, self._total).items():
            self.levels[name].limit = seats
            self.levels[name].dispatch()
        for level in self.levels.values():
            level.most = level.seats + level.waiting_seats
