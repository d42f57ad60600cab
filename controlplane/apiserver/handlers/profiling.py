"""/debug/pprof/: what the server is doing, for people who look for where its time goes (--profiling).

The paths are upstream's; what they tell is text, of Python: tasks where Go tells goroutines, and cProfile's table.

Source: k8s.io/apiserver/pkg/server/routes/profiling.go, net/http/pprof.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import io
import pstats
import sys
from collections import Counter
from dataclasses import dataclass

from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.health import TEXT
from machinery.errors import BadRequest

PREFIX = "/debug/pprof"
_HTML = "text/html; charset=utf-8"
_DEFAULT_SECONDS, _MOST_SECONDS = 30, 50
_ROWS = 100
_FRAMES = 20
_PROFILES = {
    "cmdline": "The command line of this process",
    "goroutine": "Stack traces of all current tasks",
    "heap": "How many objects there are of each type",
    "profile": "Time by function, of the next ?seconds=30",
}


@dataclass
class Profiling:
    """The profiles of one process."""

    running: bool = False

    async def answer(self, exchange: Exchange) -> Answer | None:
        """The answer of a path below /debug/pprof; None if there is none. Raises BadRequest."""
        name = exchange.target.path.removeprefix(PREFIX).strip("/")
        if not name:
            return _index()
        if name == "cmdline":
            return Answer("\0".join(sys.orig_argv).encode(), TEXT)
        if name == "goroutine":
            return Answer(_tasks().encode(), TEXT)
        if name == "heap":
            counts = Counter(type(obj).__name__ for obj in gc.get_objects())
            return Answer("".join(f"{count:9} {kind}\n" for kind, count in counts.most_common()).encode(), TEXT)
        return await self._profile(exchange) if name == "profile" else None

    async def _profile(self, exchange: Exchange) -> Answer:
        text = exchange.query.get("seconds") or str(_DEFAULT_SECONDS)
        if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _MOST_SECONDS:
            raise BadRequest(f"profile duration exceeds server's WriteTimeout: seconds is from 1 to {_MOST_SECONDS}")
        if self.running:
            return Answer(b"Could not enable CPU profiling: cpu profiling already in use\n", TEXT, 500)
        self.running = True
        profile = cProfile.Profile()
        try:
            profile.enable()
            await asyncio.sleep(int(text))
        finally:
            profile.disable()
            self.running = False
        out = io.StringIO()
        pstats.Stats(profile, stream=out).sort_stats("tottime").print_stats(_ROWS)
        return Answer(out.getvalue().encode(), TEXT)


def _index() -> Answer:
    rows = "".join(f'<tr><td><a href="{name}">{name}</a></td><td>{told}</td></tr>' for name, told in _PROFILES.items())
    page = f"<html><head><title>{PREFIX}/</title></head><body>{PREFIX}/<br><table>{rows}</table></body></html>\n"
    return Answer(page.encode(), _HTML)


def _tasks() -> str:
    out = io.StringIO()
    tasks = asyncio.all_tasks()
    out.write(f"tasks: total {len(tasks)}\n")
    for task in sorted(tasks, key=lambda t: t.get_name()):
        out.write(f"\n{task.get_name()}: {getattr(task.get_coro(), '__qualname__', '')}\n")
        for frame in task.get_stack(limit=_FRAMES):
            out.write(f"  {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}\n")
    return out.getvalue()
