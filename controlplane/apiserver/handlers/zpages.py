"""/statusz and /flagz: for people who look at a server, in a form that is not meant to be parsed.

Source: k8s.io/component-base/zpages.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.health import TEXT
from machinery.clock import Clock

_WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is "
    "for debugging purposes only."
)
_COMPONENT = "kube-apiserver"
_ACCEPTED = ("*/*", "text/*", "text/plain")
_REFUSED = Answer(b"media type not acceptable, must be: text/plain\n", TEXT, 406)


@dataclass
class ZPages:
    """The two pages of one server."""

    clock: Clock
    version: str
    """As x.y.z."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """By name, as text."""
    started: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock.now()

    def answer(self, exchange: Exchange, paths: Iterable[str]) -> Answer | None:
        """The answer of a path; None if it is neither. `paths` are those that the server lists."""
        path = exchange.target.path
        if path not in ("/statusz", "/flagz"):
            return None
        accept = exchange.headers.get("Accept", "") or "*/*"
        if not any(part.partition(";")[0].strip() in _ACCEPTED for part in accept.split(",")):
            return _REFUSED
        text = self._status(paths) if path == "/statusz" else self._flags()
        return Answer(text.encode(), TEXT)

    def _status(self, paths: Iterable[str]) -> str:
        seconds = int((self.clock.now() - self.started).total_seconds())
        emulated = ".".join(self.version.split(".")[:2])
        folders = dict.fromkeys("/" + path.split("/")[1] for path in paths)
        return (
            f"\n{_COMPONENT} statusz\n{_WARNING}\n\n"
            f"Started: {self.started.strftime('%a %b %e %H:%M:%S UTC %Y')}\n"
            f"Up: {seconds // 3600} hr {seconds // 60 % 60:02} min {seconds % 60:02} sec\n"
            f"Go version: python{platform.python_version()}\n"
            f"Binary version: {self.version}\n"
            f"Emulation version: {emulated}\n"
            f"Useful Endpoints:  {' '.join(folders)}\n"
        )

    def _flags(self) -> str:
        lines = "".join(f"{name}={value}\n" for name, value in sorted(self.flags.items()))
        return f"\n{_COMPONENT} flags\n{_WARNING}\n\n{lines}"
