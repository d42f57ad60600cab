"""Work that is done again and again, as a controller with one key: counted, retried and logged like all others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from machinery.controller import Controller

KEY = "*"


def every(name: str, seconds: float, work: Callable[[], Awaitable[None]]) -> Controller:
    """A controller that does `work` once it runs and `seconds` after each success. Enqueue KEY to have it sooner."""

    async def reconcile(_: str) -> float | None:
        await work()
        return seconds

    controller = Controller(name, reconcile, workers=1)
    controller.enqueue(KEY)
    return controller
