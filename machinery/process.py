"""The outermost frame of every component: event loop, signals, and errors as one line on standard error."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop

from machinery.errors import NavarchError
from machinery.log import get_logger

log = get_logger(__name__)


def run(
    program: str,
    main: Callable[[], Awaitable[None]],
    *,
    loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
) -> int:
    """Run `main` until it ends or SIGTERM or SIGINT cancels it; returns the exit status.

    0: ended, or stopped by a signal; 1: failed, with the reason on standard error.  `loop` makes the event loop:
    another than uvloop's for what uvloop can't do (netlink sockets).
    """
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(_until_signalled(main))
    except NavarchError as exc:
        _tell(program, [exc])
        return 1
    except BaseExceptionGroup as group:
        ours, defects = group.split(NavarchError)
        if defects is not None:
            raise
        _tell(program, _leaves(ours) if ours else [])
        return 1
    return 0


def _tell(program: str, errors: list[BaseException]) -> None:
    for error in errors:
        print(f"{program}: error: {error}", file=sys.stderr)


async def _until_signalled(main: Callable[[], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main())
    stopped = False

    def stop(name: str) -> None:
        nonlocal stopped
        stopped = True
        log.info("stopping", signal=name)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped:
            raise


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
