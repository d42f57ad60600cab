"""Whether the parts of a lab are ready, asked of themselves; and what to say when one is not in time."""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from lab.errors import LabError, failing_as_one
from lab.hosts import pods, sockets
from lab.layout import Layout
from lab.supervisor.control import Supervisor
from lab.supervisor.daemon import Report, State
from lab.supervisor.runner import tail

EVERY_SECONDS = 0.2
_GIVE_UP_RESTARTS = 4
_SHOWN_LINES = 12


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL that answers 200 when a part is ready. `host` None is the machine's own network."""

    host: str | None
    url: str
    tls: ssl.SSLContext | None = None


async def answers(layout: Layout, endpoint: Endpoint) -> str:
    """ "" when the endpoint answers 200; else what it said, or why it said nothing."""
    factory = None if endpoint.host is None else sockets.factory(layout.namespace(endpoint.host, "net"))
    tls: ssl.SSLContext | bool = endpoint.tls if endpoint.tls is not None else True
    connector = aiohttp.TCPConnector(ssl=tls, socket_factory=factory, force_close=True)
    timeout = aiohttp.ClientTimeout(total=5)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(endpoint.url) as response,
        ):
            text = (await response.text()).strip()
            return "" if response.status == 200 else f"{response.status} {text[-300:]}"
    except (aiohttp.ClientError, OSError, TimeoutError) as exc:
        return str(exc) or type(exc).__name__


class Watch:
    """Waits for parts to become ready, and gives up early when a daemon they need keeps ending."""

    def __init__(self, layout: Layout, supervisor: Supervisor) -> None:
        self._layout, self._supervisor = layout, supervisor

    async def endpoints(self, wanted: Iterable[tuple[str, Endpoint]], seconds: float) -> None:
        """Wait for several (HOST/DAEMON, endpoint) at a time. Raises LabError saying which is not ready and why."""
        async with failing_as_one() as group:
            for key, endpoint in wanted:
                group.create_task(self.until([key], functools.partial(answers, self._layout, endpoint), seconds))

    async def until(self, keys: list[str], asked: Callable[[], Awaitable[str]], seconds: float) -> None:
        """Wait until `asked` returns ""; what it returns until then says what is missing. Raises LabError."""
        deadline = time.monotonic() + seconds
        while missing := await asked():
            reports = {report.key: report for report in await self._supervisor.reports()}
            for key in keys:
                if story := self._hopeless(key, reports.get(key)):
                    raise LabError(story)
            if time.monotonic() > deadline:
                raise LabError(self._late(keys, missing, seconds))
            await asyncio.sleep(EVERY_SECONDS)

    def _hopeless(self, key: str, report: Report | None) -> str:
        """What to say of a daemon, or of a component in a pod, that keeps ending; "" for any other."""
        host, _, name = key.partition("/")
        if report is not None:
            if report.state is not State.WAITING or report.restarts < _GIVE_UP_RESTARTS:
                return ""
            how = f"{report.ended}, {report.restarts} times"
        else:
            found = pods.component(self._layout, host, name)
            if found is None or found.restarts < _GIVE_UP_RESTARTS:
                return ""
            how = f"{found.restarts} times"
        return self._with_log(f"{name} on {host} keeps ending ({how})", host, name)

    def _late(self, keys: list[str], missing: str, seconds: float) -> str:
        host, _, name = keys[0].partition("/") if keys else ("", "", "")
        head = f"{name} on {host} is not ready after {seconds:g} s: {missing}" if keys else missing
        return self._with_log(head, host, name) if keys else head

    def _with_log(self, head: str, host: str, name: str) -> str:
        found = pods.component(self._layout, host, name)
        log: Path = found.log if found is not None else self._layout.log(host, name)
        lines = tail(log, _SHOWN_LINES)
        if not lines:
            return f"{head}; its log {log} is empty"
        return "\n".join([f"{head}; the end of {log}:", *(f"  {line}" for line in lines)])
