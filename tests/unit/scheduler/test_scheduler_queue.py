"""The scheduling queue: order, back-off, and what wakes pods that nothing could be done for."""

import asyncio
from typing import Any

from controlplane.scheduler.pod import Pod, compile_pod
from controlplane.scheduler.queue import SchedulingQueue
from controlplane.scheduler.resources import ResourceNames

NAMES = ResourceNames()
ROOM, COMPANY = frozenset({"NodeResourcesFit"}), frozenset({"InterPodAffinity"})


def pod(name: str, priority: int = 0, **spec: Any) -> Pod:
    containers = [{"name": "c", "image": "i"}]
    metadata = {"name": name, "namespace": "default", "uid": name}
    return compile_pod({"metadata": metadata, "spec": {"containers": containers, "priority": priority, **spec}}, NAMES)


async def test_the_most_important_pod_comes_first_then_the_one_that_waited_longest() -> None:
    queue = SchedulingQueue()
    for each in (pod("a"), pod("b"), pod("important", 100)):
        queue.add(each)
    assert [(await queue.get()).pod.name for _ in range(3)] == ["important", "a", "b"]


async def test_an_unschedulable_pod_waits_for_something_that_may_help_it() -> None:
    queue = SchedulingQueue(initial_backoff_seconds=0)
    queue.add(pod("a"))
    entry = await queue.get()
    queue.unschedulable(entry, ROOM)
    queue.cluster_changed(COMPANY)
    assert queue.pending() == {"active": 0, "backoff": 0, "unschedulable": 1, "gated": 0}
    queue.cluster_changed(ROOM)
    assert (await queue.get()) is entry
    assert entry.attempts == 2


async def test_help_that_came_during_the_attempt_is_not_missed() -> None:
    queue = SchedulingQueue(initial_backoff_seconds=0)
    queue.add(pod("a"))
    entry = await queue.get()
    queue.cluster_changed(None)
    queue.unschedulable(entry, ROOM)
    assert queue.pending()["active"] == 1


async def test_failures_back_off_and_come_back_by_themselves() -> None:
    queue = SchedulingQueue(initial_backoff_seconds=0.01, max_backoff_seconds=0.02)
    queue.add(pod("a"))
    for _ in range(4):
        async with asyncio.timeout(5):
            entry = await queue.get()
        queue.retry(entry)
    assert entry.attempts == 4
    assert queue.pending()["backoff"] == 1


async def test_a_gated_pod_waits_until_its_gates_are_gone() -> None:
    queue = SchedulingQueue()
    queue.add(pod("a", schedulingGates=[{"name": "example.com/hold"}]))
    assert queue.pending() == {"active": 0, "backoff": 0, "unschedulable": 0, "gated": 1}
    queue.add(pod("a"))
    assert (await queue.get()).pod.name == "a"


async def test_a_removed_pod_is_never_handed_out() -> None:
    queue = SchedulingQueue()
    queue.add(pod("gone"))
    queue.add(pod("here"))
    queue.remove("default/gone")
    assert (await queue.get()).pod.name == "here"


async def test_a_pod_made_again_under_its_name_is_another_pod() -> None:
    queue = SchedulingQueue()
    queue.add(pod("a"))
    first = await queue.get()
    queue.remove("default/a")
    queue.add(pod("a"))
    queue.unschedulable(first, ROOM)
    assert queue.pending()["unschedulable"] == 0, "the old entry must not come back"
    assert queue.pending()["active"] == 1
