"""Waiting for something to become true."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

EVERY_SECONDS = 0.02


async def until(true: Callable[[], bool], seconds: float, *, every_seconds: float = EVERY_SECONDS) -> None:
    """Return as soon as `true()`. Raises TimeoutError after `seconds`."""

    async def ask() -> bool:
        return true()

    await until_async(ask, seconds, every_seconds=every_seconds)


async def until_async(
    true: Callable[[], Awaitable[bool]], seconds: float, *, every_seconds: float = EVERY_SECONDS
) -> None:
    """Return as soon as `await true()`. Raises TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - what is waited for is outside this process
            await asyncio.sleep(every_seconds)
