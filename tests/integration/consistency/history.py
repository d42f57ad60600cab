"""What clients saw, and whether one store that does one thing at a time could have shown it to them.

Each key is a register that is written by compare-and-set: a create (expects nothing), an update or a delete (of one
revision).  etcd's revisions, which the API tells as resourceVersion, put all states of a key into one order, its
*positions*: `(r, 0)` while revision r is there, `(r, 1)` after the deletion of r, `(0, 0)` before anything.  A history
is linearizable if and only if operations can be put in the order of their positions without turning around any two
of which one ended before the other began, each read sees the state of its position, and each write follows the
position that it expected.  As positions are known (of absences a smallest possible one is chosen, which never hurts
those that come later), that takes no search.

Source: Herlihy and Wing, "Linearizability" (1990); Lowe, "Testing for linearizability" (2017).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from heapq import heapify, heappop, heappush
from itertools import accumulate, pairwise

Position = tuple[int, int]
NOTHING: Position = (0, 0)


class Kind(Enum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    READ = "read"


class Outcome(Enum):
    DONE = "done"
    REFUSED = "refused"  # certainly without effect
    UNKNOWN = "unknown"  # perhaps with effect


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of one client, on one key. Times are those of one clock, in seconds."""

    key: str
    kind: Kind
    begun: float
    ended: float
    outcome: Outcome
    value: str = ""
    """Written, or read; "" when nothing was there."""
    revision: int = 0
    """Written, or read; 0 when nothing was there or it is not known."""
    expected: int = 0
    """The revision that a write is to follow."""


@dataclass(slots=True)
class _Write:
    """A write that took effect, or is known to have from what was read."""

    position: Position
    begun: float
    ended: float
    expected: Position


def problems(operations: Sequence[Operation]) -> list[str]:
    """What no single store could have done; empty if all is well."""
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_key[operation.key].append(operation)
    return [f"{key}: {told}" for key, found in sorted(by_key.items()) for told in _Register(found).problems()]


class _Register:
    """The history of one key."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._operations = operations
        self._told: list[str] = []
        self._writes: dict[Position, _Write] = {}

    def problems(self) -> list[str]:
        """What is wrong with it."""
        self._place_writes()
        self._place_unsure_writes()
        self._check_expectations()
        placed = [(w.position, w.begun, w.ended, True) for w in self._writes.values()]
        placed += self._place_reads()
        self._check_order(placed)
        self._place_absences(placed)
        return self._told

    def _place_writes(self) -> None:
        for op in self._operations:
            if op.kind is not Kind.READ and op.outcome is Outcome.DONE:
                position = (op.expected, 1) if op.kind is Kind.DELETE else (op.revision, 0)
                self._add(op, position, op.ended)

    def _add(self, op: Operation, position: Position, ended: float) -> None:
        if position in self._writes:
            self._told.append(f"two writes took effect as {position}: the second is {op}")
            return
        expected = NOTHING if op.kind is Kind.CREATE else (op.expected, 0)
        self._writes[position] = _Write(position, op.begun, ended, expected)

    def _place_unsure_writes(self) -> None:
        """Writes whose answer was lost took effect if somebody has read what they wrote."""
        seen = {op.value: op.revision for op in self._operations if op.kind is Kind.READ and op.value}
        for op in self._operations:
            if op.outcome is Outcome.UNKNOWN and op.kind in (Kind.CREATE, Kind.UPDATE) and op.value in seen:
                self._add(op, (seen[op.value], 0), math.inf)

    def _check_expectations(self) -> None:
        """Each write follows what it expected: nothing was written between, or it would be lost."""
        unsure = self._deleted()
        order = sorted(self._writes)
        for before, position in pairwise([NOTHING, *order]):
            write = self._writes[position]
            if write.expected == NOTHING:
                # a create follows an absence; that of an unsure delete is not among the writes
                fine = before == NOTHING or before[1] == 1 or before[0] in unsure
            else:
                fine = before == write.expected
            if not fine:
                self._told.append(f"the write at {position} expected {write.expected} and followed {before}")

    def _place_reads(self) -> list[tuple[Position, float, float, bool]]:
        values = {op.value: op for op in self._operations if op.kind in (Kind.CREATE, Kind.UPDATE)}
        found = []
        for op in self._operations:
            if op.kind is not Kind.READ or op.outcome is not Outcome.DONE or not op.value:
                continue
            writer = values.get(op.value)
            if writer is None or writer.outcome is Outcome.REFUSED:
                self._told.append(f"a value that nobody wrote was read: {op}, {writer}")
            elif writer.outcome is Outcome.DONE and writer.revision != op.revision:
                self._told.append(f"a value was read at another revision than it was written at: {op}, {writer}")
            found.append(((op.revision, 0), op.begun, op.ended, False))
        return found

    def _check_order(self, placed: Sequence[tuple[Position, float, float, bool]]) -> None:
        """No operation has an earlier position than one that had ended before it began."""
        by_begin = sorted(placed, key=lambda one: one[1])
        by_end = sorted(placed, key=lambda one: one[2])
        latest, at = NOTHING, 0
        for position, begun, _, is_write in by_begin:
            while by_end[at][2] < begun:
                latest = max(latest, by_end[at][0])
                at += 1
            if is_write and position == latest:
                self._told.append(f"{position} was read before it was written")
            elif position < latest:
                what = "a write went back" if is_write else "a stale read"
                self._told.append(f"{what}: {position}, begun at {begun:.3f}, after {latest} was known")

    def _place_absences(self, placed: Sequence[tuple[Position, float, float, bool]]) -> None:
        """Each read of nothing gets the smallest position that fits; those begun first come first."""
        absences = sorted({NOTHING, *((revision, 1) for revision in self._deleted())})
        by_begin = sorted((begun, position) for position, begun, _, _ in placed)
        begins = [begun for begun, _ in by_begin]
        least_from = list(accumulate((p for _, p in reversed(by_begin)), min))[::-1]  # of all from here on
        ended = [(end, position) for position, _, end, _ in placed]
        heapify(ended)
        lowest = NOTHING
        reads = [o for o in self._operations if o.kind is Kind.READ and o.outcome is Outcome.DONE and not o.value]
        for op in sorted(reads, key=lambda one: one.begun):
            while ended and ended[0][0] < op.begun:
                lowest = max(lowest, heappop(ended)[1])
            # Absences placed before have begun before: they are no bound from above.
            later = bisect_right(begins, op.ended)
            highest: tuple[float, int] = least_from[later] if later < len(least_from) else (math.inf, 0)
            at = bisect_left(absences, lowest)
            if at == len(absences) or absences[at] > highest:
                self._told.append(f"nothing was read, where something between {lowest} and {highest} was: {op}")
            else:
                heappush(ended, (op.ended, absences[at]))

    def _deleted(self) -> set[int]:
        """Revisions that were deleted, or perhaps."""
        return {o.expected for o in self._operations if o.kind is Kind.DELETE and o.outcome is not Outcome.REFUSED}


@dataclass(frozen=True, slots=True)
class Seen:
    """One event of a watch."""

    type: str
    key: str
    revision: int
    value: str = ""


@dataclass(slots=True)
class Watched:
    """A stretch of a watch without a gap: all events with revisions in (start, end]."""

    start: int
    end: int
    events: list[Seen]


def watch_problems(watches: Sequence[Watched], operations: Sequence[Operation]) -> list[str]:
    """Events that are skipped, repeated, out of order, or other than what was written or another watcher saw."""
    known = {event.revision: event for watched in watches for event in watched.events}
    types = {Kind.CREATE: "ADDED", Kind.UPDATE: "MODIFIED"}
    for op in operations:
        if op.outcome is Outcome.DONE and op.kind in types:
            known[op.revision] = Seen(types[op.kind], op.key, op.revision, op.value)
    order = sorted(known)
    told = []
    for watched in watches:
        revisions = [event.revision for event in watched.events]
        told += [f"an event of revision {b} after one of {a}" for a, b in pairwise(revisions) if b <= a]
        told += [f"{e} in the place of {known[e.revision]}" for e in watched.events if e != known[e.revision]]
        expected = order[bisect_right(order, watched.start) : bisect_right(order, watched.end)]
        seen = set(revisions)
        told += [f"skipped {known[revision]}" for revision in expected if revision not in seen]
        told += _deletion_problems(watched, operations)
    return told


def _deletion_problems(watched: Watched, operations: Sequence[Operation]) -> list[str]:
    """Whoever saw what came next of the key must have seen its deletion before."""
    by_key: dict[str, list[Seen]] = defaultdict(list)
    for event in watched.events:
        by_key[event.key].append(event)
    told = []
    for op in operations:
        if op.kind is Kind.DELETE and op.outcome is Outcome.DONE and watched.start < op.expected:
            events = by_key.get(op.key, [])
            at = bisect_right(events, op.expected, key=lambda event: event.revision)
            if at < len(events) and events[at].type != "DELETED":
                told.append(f"skipped {op}: {events[at]} came next")
    return told
