"""Priority and fairness: who is of which flow, who waits, who is refused, and whose seats are lent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from controlplane.apiserver.bootstrap.flowcontrol import flow_schemas, priority_levels
from controlplane.apiserver.cacher.collection import Collection
from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.flowcontrol import estimate
from controlplane.apiserver.flowcontrol.level import (
    CONCURRENCY_LIMIT,
    QUEUE_FULL,
    TIMED_OUT,
    Level,
    LevelSpec,
    Rejected,
    read_level,
)
from controlplane.apiserver.flowcontrol.matching import compile_schema
from controlplane.apiserver.flowcontrol.shares import Limits, allocate, limits
from controlplane.apiserver.flowcontrol.statuses import with_condition
from controlplane.apiserver.flowcontrol.tally import Tally
from controlplane.apiserver.histogram import Histograms
from controlplane.apiserver.request import RequestInfo, User
from controlplane.apiserver.routing import Query

NODE = User("system:node:n1", groups=("system:nodes", "system:authenticated"))
SCHEDULER = User("system:kube-scheduler", groups=("system:authenticated",))
ACCOUNT = User("system:serviceaccount:default:x", groups=("system:serviceaccounts", "system:authenticated"))
SYSTEM_ACCOUNT = User("system:serviceaccount:kube-system:x", groups=("system:serviceaccounts", "system:authenticated"))


def asked(verb: str, resource: str = "pods", namespace: str = "default", group: str = "") -> RequestInfo:
    return RequestInfo(verb, f"/{resource}", True, group, "v1", resource, namespace=namespace)


@pytest.mark.parametrize(
    ("user", "info", "schema", "flow"),
    [
        (User("admin", groups=("system:masters", "system:authenticated")), asked("get"), "exempt", ""),
        (User("anyone", groups=("system:unauthenticated",)), RequestInfo("get", "/readyz"), "probes", ""),
        (NODE, asked("update", "leases", "kube-node-lease", "coordination.k8s.io"), "system-node-high", NODE.name),
        (NODE, asked("patch", "nodes", ""), "system-node-high", NODE.name),
        (NODE, asked("list"), "system-nodes", NODE.name),
        (
            SCHEDULER,
            asked("update", "leases", "kube-system", "coordination.k8s.io"),
            "system-leader-election",
            SCHEDULER.name,
        ),
        (SCHEDULER, asked("list"), "kube-scheduler", "default"),
        (SYSTEM_ACCOUNT, asked("list"), "kube-system-service-accounts", "default"),
        (ACCOUNT, asked("list"), "service-accounts", ACCOUNT.name),
        (User("jane", groups=("system:authenticated",)), asked("list"), "global-default", "jane"),
    ],
)
def test_requests_are_of_the_first_schema_that_matches(user: User, info: RequestInfo, schema: str, flow: str) -> None:
    compiled = sorted(map(compile_schema, flow_schemas()), key=lambda s: (s.precedence, s.name))
    found = next(each for each in compiled if each.matches(user, info))
    assert (found.name, found.flow_of(user, info)) == (schema, flow)


def spec(*, queues: int = 4, hand: int = 2, length: int = 10, exempt: bool = False) -> LevelSpec:
    return LevelSpec("level", "uid", exempt, 10, 0, None, queues, hand, length)


def level(limit: int, wait_seconds: float = 60, *, queues: int = 4, hand: int = 2, length: int = 10) -> Level:
    made = Level(spec(queues=queues, hand=hand, length=length), wait_seconds)
    made.limit = limit
    return made


async def settled(condition: Callable[[], bool]) -> None:
    """Let tasks run until they have got as far as the condition says."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("not reached")


async def test_a_flood_of_one_flow_does_not_starve_another() -> None:
    one = level(1, queues=64, hand=6, length=50)
    assert one.begin(1)
    order: list[str] = []

    async def request(flow: str) -> None:
        queue = await one.wait(1, flow)
        order.append(flow)
        one.end(1, queue)

    tasks = [asyncio.create_task(request("flood")) for _ in range(100)]
    await settled(lambda: one.waiting == 100)
    tasks.append(asyncio.create_task(request("calm")))
    await settled(lambda: one.waiting == 101)
    one.end(1, None)
    await asyncio.gather(*tasks)
    assert order.index("calm") < 10
    assert (one.seats, one.executing, one.waiting, one.waiting_seats) == (0, 0, 0, 0)


async def test_who_finds_no_room_is_refused() -> None:
    nowhere = level(1, queues=0)
    assert nowhere.begin(1)
    with pytest.raises(Rejected, match=CONCURRENCY_LIMIT):
        await nowhere.wait(1, "a")
    short = level(1, queues=1, hand=1, length=2)
    assert short.begin(1)
    waiting = [asyncio.create_task(short.wait(1, "a")) for _ in range(2)]
    await settled(lambda: short.waiting == 2)
    with pytest.raises(Rejected, match=QUEUE_FULL):
        await short.wait(1, "a")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert short.waiting == 0


async def test_waiting_ends_in_time_and_with_the_client() -> None:
    hasty = level(1, wait_seconds=0.01)
    assert hasty.begin(1)
    with pytest.raises(Rejected, match=TIMED_OUT):
        await hasty.wait(1, "a")
    patient = level(1)
    assert patient.begin(1)
    waiting = asyncio.create_task(patient.wait(1, "a"))
    await settled(lambda: patient.waiting == 1)
    patient.end(1, None)  # the seat is granted, and in the same moment the client leaves
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (patient.seats, patient.waiting) == (0, 0)


async def test_a_wide_request_begins_when_there_is_room_or_nobody_else() -> None:
    one = level(3)
    assert one.begin(2)
    assert not one.begin(2)
    one.end(2, None)
    assert one.begin(10)  # wider than the level is
    assert not one.begin(1)
    everything = Level(spec(exempt=True), 1)
    assert all(everything.begin(5) for _ in range(100))


def test_seats_are_divided_by_shares_and_lent_to_who_needs_them() -> None:
    specs = [read_level(obj) for obj in priority_levels()]
    bounds = limits(specs, 600)
    assert bounds["workload-low"] == Limits(245, 24, 600)
    assert bounds["catch-all"] == Limits(13, 13, 600)
    limited = {name: b for name, b in bounds.items() if name != "exempt"}
    idle = allocate(limited, {}, 600)
    assert sum(idle.values()) >= 590
    busy = allocate(limited, {"global-default": 500.0}, 600)
    assert busy["global-default"] > 300  # others lend what they may
    assert all(busy[name] >= limited[name].lower for name in limited)
    both = allocate(limited, {"global-default": 500.0, "workload-low": 500.0}, 600)
    assert both["workload-low"] >= 245  # nobody lends what he needs himself


def test_lists_take_seats_by_what_they_move_and_writes_by_their_watchers() -> None:
    collection = Collection("pods/", 1)
    collection.load(Record(f"default/p{i}", b"x" * 3000, i) for i in range(1, 201))
    assert estimate.list_seats(collection, Query(""), single=False) == 6
    assert estimate.list_seats(collection, Query("limit=10"), single=False) == 1
    assert estimate.list_seats(collection, Query("limit=nonsense"), single=True) == 1
    assert estimate.most_seats(245) == 10
    assert estimate.most_seats(13) == 2
    assert [estimate.seats_afterwards(n) for n in (0, 9, 10, 55, 5000)] == [0, 0, 1, 6, 10]


def test_the_condition_dangling_is_true_when_the_level_is_missing() -> None:
    schema = {"metadata": {"name": "s"}, "spec": {"priorityLevelConfiguration": {"name": "x"}}}
    missing = with_condition(schema, exists=False, now="2026-01-01T00:00:00Z")
    assert missing is not None
    (condition,) = missing["status"]["conditions"]
    assert condition == {
        "type": "Dangling",
        "status": "True",
        "reason": "NotFound",
        "message": 'This FlowSchema references the PriorityLevelConfiguration object named "x" but there is no such '
        "object",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    assert with_condition(missing, exists=False, now="2027-01-01T00:00:00Z") is None
    found = with_condition(missing, exists=True, now="2027-01-01T00:00:00Z")
    assert found is not None
    assert found["status"]["conditions"][0]["lastTransitionTime"] == "2027-01-01T00:00:00Z"


def test_the_more_are_refused_the_longer_they_are_told_to_stay_away() -> None:
    tally = Tally()
    assert tally.retry_seconds("l") == 1
    for second in range(1, 10):
        for _ in range(200):
            tally.rejected("l", "s", QUEUE_FULL, second)
    assert tally.retry_seconds("l") == 32
    for second in range(20, 60):
        tally.rejected("l", "s", QUEUE_FULL, second)
    assert tally.retry_seconds("l") == 1


def test_histograms_count_by_upper_bounds() -> None:
    histograms = Histograms((1, 5))
    for value in (0.5, 1, 3, 9):
        histograms.observe(("a",), value)
    (family,) = [histograms.family("name", "help", ("label",))]
    told = {(s.name, s.labels.get("le", "")): s.value for s in family.samples}
    assert told == {
        ("name_bucket", "1"): 2,
        ("name_bucket", "5"): 3,
        ("name_bucket", "+Inf"): 4,
        ("name_count", ""): 4,
        ("name_sum", ""): 13.5,
    }
