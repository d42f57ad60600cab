"""The controller loop: retries, forced revisits, and one defect harms no other key."""

import asyncio

from machinery.controller import Controller
from machinery.errors import Conflict, TransportError


async def run_until(controller: Controller, done: asyncio.Event) -> None:
    running = asyncio.create_task(controller.run())
    try:
        async with asyncio.timeout(10):
            await done.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_failures_of_every_sort_are_retried_until_they_succeed() -> None:
    failures = [Conflict("changed"), TransportError("gone"), ZeroDivisionError("a defect")]
    done = asyncio.Event()

    async def reconcile(key: str) -> float | None:
        if failures:
            raise failures.pop(0)
        done.set()
        return None

    controller = Controller("t", reconcile, workers=1)
    controller.enqueue("a")
    await run_until(controller, done)
    assert failures == []


async def test_a_key_that_always_fails_does_not_keep_others_waiting() -> None:
    done = asyncio.Event()

    async def reconcile(key: str) -> float | None:
        if key == "bad":
            raise RuntimeError("always")
        done.set()
        return None

    controller = Controller("t", reconcile, workers=1)
    controller.enqueue("bad")
    controller.enqueue("good")
    await run_until(controller, done)


async def test_a_returned_time_forces_a_revisit() -> None:
    visits = 0
    done = asyncio.Event()

    async def reconcile(key: str) -> float | None:
        nonlocal visits
        visits += 1
        if visits == 3:
            done.set()
        return 0.001

    controller = Controller("t", reconcile)
    controller.enqueue("a")
    await run_until(controller, done)
    assert visits >= 3
