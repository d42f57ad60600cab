"""What the lab and the bootstrap verbs raise, one line for the user each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from machinery.errors import (
    InternalError,
    NavarchError,
    ServerTimeout,
    ServiceUnavailable,
    Timeout,
    TransportError,
    first_error,
)

PASSING = (TransportError, InternalError, ServiceUnavailable, ServerTimeout, Timeout)
"""What a busy machine's API servers and etcd may answer for a while."""


class LabError(NavarchError):
    """The lab can't do what was asked; the message says what is wrong, where, and what to do."""


class NotRunning(LabError):
    """There is no lab, or its supervisor does not answer."""


@asynccontextmanager
async def failing_as_one() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup that raises the first of its NavarchErrors by itself, however deep: the one to tell the user."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        error = first_error(failures)
        if error is None:
            raise
        raise error from None
