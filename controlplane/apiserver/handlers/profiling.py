"""/debug/pprof: what this process is doing, under the paths where Go's programs tell it.

Profiles are text (`?debug=1` of Go's): there is no Go runtime whose binary profiles could be told.

Source: k8s.io/apiserver/pkg/server/routes/profiling.go; net/http/pprof.
"""

from __future__ import annotations

import asyncio
import gc
import html
import io
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Final

from controlplane.apiserver.handlers.exchange import Answer

_ROOT: Final = "/debug/pprof"
_TEXT: Final = "text/plain; charset=utf-8"
_MOST_TYPES: Final = 100


def _command_line() -> str:
    return "\0".join(sys.argv)


def _tasks() -> str:
    """The stacks of all tasks: what goroutines are elsewhere."""
    out = io.StringIO()
    tasks = asyncio.all_tasks()
    out.write(f"goroutine profile: total {len(tasks)}\n")
    for task in sorted(tasks, key=lambda t: t.get_name()):
        out.write(f"\n1 @ {task.get_name()} {getattr(task.get_coro(), '__qualname__', '')}\n")
        for frame in task.get_stack():
            out.write(f"#\t{frame.f_code.co_qualname}\t{frame.f_code.co_filename}:{frame.f_lineno}\n")
    return out.getvalue()


def _threads() -> str:
    frames = sys._current_frames()
    told = ["".join(traceback.format_stack(frame)) for frame in frames.values()]
    return f"threadcreate profile: total {len(told)}\n\n" + "\n".join(told)


def _heap() -> str:
    """How many objects of which type the garbage collector follows."""
    counted = Counter(type(obj).__qualname__ for obj in gc.get_objects())
    lines = [f"{count}\t{name}" for name, count in counted.most_common(_MOST_TYPES)]
    return f"heap profile: {sum(counted.values())} objects\n" + "\n".join(lines) + "\n"


_PROFILES: Final[dict[str, tuple[str, Callable[[], str]]]] = {
    "cmdline": ("The command line invocation of the current program", _command_line),
    "goroutine": ("Stack traces of all current tasks", _tasks),
    "heap": ("A count of live objects by type", _heap),
    "threadcreate": ("Stack traces of all threads", _threads),
}


def answer(path: str) -> Answer | None:
    """The page at a path; None if there is none."""
    if path != _ROOT and not path.startswith(f"{_ROOT}/"):
        return None
    name = path.removeprefix(_ROOT).strip("/")
    if not name:
        rows = "".join(
            f'<tr><td><a href="{name}?debug=1">{name}</a></td><td>{html.escape(told)}</td></tr>'
            for name, (told, _) in _PROFILES.items()
        )
        page = f"<html><head><title>{_ROOT}/</title></head><body>{_ROOT}/<br><table>{rows}</table></body></html>\n"
        return Answer(page.encode(), "text/html; charset=utf-8")
    found = _PROFILES.get(name)
    if found is None:
        return Answer(b"Unknown profile\n", _TEXT, 404)
    return Answer(found[1]().encode(), _TEXT)
