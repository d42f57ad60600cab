"""The scheduling queue: order, back-off, and what wakes pods that nothing could be done for."""

import asyncio
from typing import Any

from controlplane.scheduler import hints
from controlplane.scheduler.hints import Change, Hints
from controlplane.scheduler.plugins.gates import SchedulingGates
from controlplane.scheduler.pod import Pod, Shapes
from controlplane.scheduler.queue import SchedulingQueue
from controlplane.scheduler.resources import ResourceNames

NAMES = ResourceNames()
SHAPES = Shapes(NAMES)
ROOM, COMPANY = frozenset({"NodeResourcesFit"}), frozenset({"InterPodAffinity"})
ROOM_MADE, COMPANY_CAME = Change(hints.POD_DELETE), Change(hints.POD_LABEL)
ANYTHING = Change(hints.NODE_ADD)


def make(**settings: float) -> SchedulingQueue:
    return SchedulingQueue(Hints(NAMES), {"default-scheduler": [SchedulingGates()]}, **settings)


def pod(name: str, priority: int = 0, **spec: Any) -> Pod:
    containers = [{"name": "c", "image": "i"}]
    metadata = {"name": name, "namespace": "default", "uid": name}
    return SHAPES.pod({"metadata": metadata, "spec": {"containers": containers, "priority": priority, **spec}})


async def test_the_most_important_pod_comes_first_then_the_one_that_waited_longest() -> None:
    queue = make()
    for each in (pod("a"), pod("b"), pod("important", 100)):
        queue.add(each)
    assert [(await queue.get()).pod.name for _ in range(3)] == ["important", "a", "b"]


async def test_an_unschedulable_pod_waits_for_something_that_may_help_it() -> None:
    queue = make(initial_backoff_seconds=0)
    queue.add(pod("a"))
    entry = await queue.get()
    queue.unschedulable(entry, ROOM)
    queue.cluster_changed(COMPANY_CAME)
    assert queue.pending() == {"active": 0, "backoff": 0, "unschedulable": 1, "gated": 0}
    queue.cluster_changed(ROOM_MADE)
    assert (await queue.get()) is entry
    assert entry.attempts == 2


async def test_a_pod_that_no_plugin_turned_away_is_helped_by_anything() -> None:
    """There was no node, say: whatever comes may change that."""
    queue = make(initial_backoff_seconds=0)
    queue.add(pod("a"))
    entry = await queue.get()
    queue.unschedulable(entry, frozenset())
    queue.cluster_changed(ANYTHING)
    assert (await queue.get()) is entry
    queue.cluster_changed(ANYTHING)
    queue.unschedulable(entry, frozenset())
    assert (await queue.get()) is entry


async def test_help_that_came_during_the_attempt_is_not_missed() -> None:
    queue = make(initial_backoff_seconds=0)
    queue.add(pod("a"))
    entry = await queue.get()
    queue.cluster_changed(ANYTHING)
    queue.unschedulable(entry, ROOM)
    assert queue.pending()["active"] == 1


async def test_failures_back_off_and_come_back_by_themselves() -> None:
    queue = make(initial_backoff_seconds=0.01, max_backoff_seconds=0.02)
    queue.add(pod("a"))
    for _ in range(4):
        async with asyncio.timeout(5):
            entry = await queue.get()
        queue.retry(entry)
    assert entry.attempts == 4
    assert queue.pending()["backoff"] == 1


async def test_a_gated_pod_waits_until_its_gates_are_gone() -> None:
    queue = make()
    queue.add(pod("a", schedulingGates=[{"name": "example.com/hold"}]))
    assert queue.pending() == {"active": 0, "backoff": 0, "unschedulable": 0, "gated": 1}
    queue.add(pod("a"))
    assert (await queue.get()).pod.name == "a"


async def test_a_removed_pod_is_never_handed_out() -> None:
    queue = make()
    queue.add(pod("gone"))
    queue.add(pod("here"))
    queue.remove("default/gone")
    assert (await queue.get()).pod.name == "here"


async def test_a_pod_made_again_under_its_name_is_another_pod() -> None:
    queue = make()
    queue.add(pod("a"))
    first = await queue.get()
    queue.remove("default/a")
    queue.add(pod("a"))
    queue.unschedulable(first, ROOM)
    assert queue.pending()["unschedulable"] == 0, "the old entry must not come back"
    assert queue.pending()["active"] == 1


async def test_a_pod_that_backs_off_is_tried_when_nobody_else_waits() -> None:
    queue = make(initial_backoff_seconds=60, max_backoff_seconds=60)
    queue.add(pod("a"))
    queue.unschedulable(await queue.get(), ROOM)
    queue.cluster_changed(ROOM_MADE)
    assert queue.pending()["backoff"] == 1
    queue.add(pod("b"))
    assert (await queue.get()).pod.name == "b"
    assert (await queue.get()).pod.name == "a"


async def test_a_failure_is_waited_out_whoever_else_waits() -> None:
    queue = make(initial_backoff_seconds=60, max_backoff_seconds=60)
    queue.add(pod("a"))
    queue.retry(await queue.get())
    queue.add(pod("b"))
    assert (await queue.get()).pod.name == "b"
    assert queue.pending()["backoff"] == 1


async def test_a_node_that_is_too_small_helps_nobody() -> None:
    queue = make(initial_backoff_seconds=0)
    large = [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "4"}}}]
    queue.add(SHAPES.pod({"metadata": {"name": "a", "namespace": "d", "uid": "a"}, "spec": {"containers": large}}))
    queue.unschedulable(await queue.get(), ROOM)
    small, enough = ({"status": {"allocatable": {"cpu": cpu, "pods": "9"}}} for cpu in ("2", "8"))
    queue.cluster_changed(Change(hints.NODE_ADD, None, small))
    assert queue.pending()["unschedulable"] == 1
    queue.cluster_changed(Change(hints.NODE_ADD, None, enough))
    assert queue.pending()["active"] == 1


async def test_who_was_just_tried_stands_behind_who_was_not() -> None:
    queue = make(initial_backoff_seconds=0)
    queue.add(pod("a"))
    tried = await queue.get()
    queue.add(pod("b"))
    queue.unschedulable(tried, ROOM)
    queue.cluster_changed(ROOM_MADE)
    assert [(await queue.get()).pod.name for _ in range(2)] == ["b", "a"]
