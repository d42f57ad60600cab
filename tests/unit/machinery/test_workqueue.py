"""The work queue's invariants, as stories."""

import asyncio

from machinery.workqueue import WorkQueue


async def test_a_key_added_twice_is_worked_on_once() -> None:
    queue = WorkQueue("t")
    queue.add("a")
    queue.add("a")
    with queue.working(await queue.get()):
        assert len(queue) == 0


async def test_a_key_that_changes_while_worked_on_comes_again_but_not_at_the_same_time() -> None:
    queue = WorkQueue("t")
    queue.add("a")
    key = await queue.get()
    with queue.working(key):
        queue.add("a")
        assert len(queue) == 0, "no second worker may get it now"
    assert await queue.get() == "a"


async def test_the_end_of_work_is_marked_even_when_it_fails() -> None:
    queue = WorkQueue("t")
    queue.add("a")
    key = await queue.get()
    try:
        with queue.working(key):
            raise RuntimeError
    except RuntimeError:
        queue.add("a")
    assert await queue.get() == "a"


async def test_the_earlier_of_two_dates_wins_and_an_immediate_add_cancels_both() -> None:
    queue = WorkQueue("t")
    queue.add_after("a", 3600)
    queue.add_after("a", 0.001)
    assert await queue.get() == "a"
    queue.add_after("b", 3600)
    queue.add("b")
    with queue.working(await queue.get()):
        pass
    assert len(queue) == 0
    queue.close()


async def test_a_cancelled_getter_passes_its_wake_up_on() -> None:
    queue = WorkQueue("t")
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    await asyncio.wait({first, second}, return_when=asyncio.ALL_COMPLETED, timeout=5)
    winner = second if first.cancelled() else first
    assert winner.result() == "a"
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_changes_and_backlog_take_turns() -> None:
    queue = WorkQueue("t")
    for key in ("old-1", "old-2", "old-3", "old-4"):
        queue.add(key)
    queue.begin()
    assert len(queue) == 4
    queue.add("new")
    queue.add("old-4")  # has changed: no longer backlog
    assert [await queue.get() for _ in range(5)] == ["new", "old-1", "old-4", "old-2", "old-3"]
    assert len(queue) == 0
