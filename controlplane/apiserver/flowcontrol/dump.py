"""/debug/api_priority_and_fairness/…: the state of levels, queues and waiting requests, as tables.

Source: k8s.io/apiserver/pkg/util/flowcontrol/apf_controller_debug.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from controlplane.apiserver.flowcontrol.controller import FlowControl
from controlplane.apiserver.flowcontrol.level import CANCELLED, TIMED_OUT

PREFIX = "/debug/api_priority_and_fairness/"

_LEVELS = (
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
)
_QUEUES = (
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
    "InitialSeatsSum",
    "MaxSeatsSum",
    "TotalWorkSum",
)
_REQUESTS = (
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
)


def table(flow: FlowControl, name: str) -> str | None:
    """One of the tables; None if there is none of the name."""
    flow.schemas()
    if name == "dump_priority_levels":
        return _aligned(_LEVELS, _levels(flow))
    if name == "dump_queues":
        return _aligned(_QUEUES, _queues(flow))
    return _aligned(_REQUESTS, _requests(flow)) if name == "dump_requests" else None


def _levels(flow: FlowControl) -> Iterator[Sequence[object]]:
    for name, level in sorted(flow.levels.items()):
        rejected = dict.fromkeys((TIMED_OUT, CANCELLED, ""), 0)
        for (of, _, reason), count in flow.tally.rejections.items():
            if of == name:
                rejected[reason if reason in rejected else ""] += count
        yield (
            name,
            sum(bool(queue.waiting or queue.seats) for queue in level.queues),
            str(not level.waiting and not level.executing).lower(),
            str(name not in flow.bounds).lower(),
            level.waiting,
            level.executing,
            sum(count for (of, _), count in flow.tally.dispatches.items() if of == name),
            rejected[""],
            rejected[TIMED_OUT],
            rejected[CANCELLED],
        )


def _queues(flow: FlowControl) -> Iterator[Sequence[object]]:
    for name, level in sorted(flow.levels.items()):
        for queue in level.queues:
            seats = sum(waiter.seats for waiter in queue.waiting)
            following = f"{queue.waiting[0].start if queue.waiting else queue.finish:.8f}ss"
            yield name, queue.index, len(queue.waiting), queue.seats, queue.seats, following, seats, seats, f"{seats}ss"


def _requests(flow: FlowControl) -> Iterator[Sequence[object]]:
    for name, level in sorted(flow.levels.items()):
        for queue in level.queues:
            for index, waiter in enumerate(queue.waiting):
                schema, _, distinguisher = waiter.flow.partition("\0")
                arrived = f"{waiter.arrived:.3f}"
                yield name, schema, queue.index, index, distinguisher, arrived, waiter.seats, 0, "0s"


def _aligned(titles: Sequence[str], rows: Iterator[Sequence[object]]) -> str:
    """Cells followed by commas, in columns."""
    cells = [list(titles), *([str(cell) for cell in row] for row in rows)]
    told = [[f"{cell}," for cell in row[:-1]] + [row[-1]] for row in cells]
    widths = [max(len(row[i]) for row in told) + 1 for i in range(len(titles))]
    return "".join("".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() + "\n" for row in told)
