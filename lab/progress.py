"""What the user sees while something takes its time: one line a step, with a spinner on a terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.status import Status

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
if not console.is_terminal:
    console.width = 200  # nobody to wrap lines for


class Steps:
    """Prints each step when it is done, and how long it took; on a terminal, those in progress meanwhile."""

    def __init__(self) -> None:
        self._open: list[str] = []
        self._status: Status | None = None

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """A step; several may be open at a time. One that fails is left to whoever reports the failure."""
        started = time.monotonic()
        self._open.append(what)
        self._show()
        done = False
        try:
            yield
            done = True
        finally:
            self._open.remove(what)
            if done:
                console.print(f"[green]✓[/green] {what} [dim]({time.monotonic() - started:.1f} s)[/dim]")
            self._show()

    def _show(self) -> None:
        if not console.is_terminal:
            return
        if self._status is not None and not self._open:
            self._status.stop()
            self._status = None
        elif self._open:
            text = ", ".join(self._open) + " …"
            if self._status is None:
                self._status = console.status(text)
                self._status.start()
            else:
                self._status.update(text)
