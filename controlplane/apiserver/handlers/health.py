"""/healthz, /livez and /readyz, with a path for each check.

Source: k8s.io/apiserver/pkg/server/healthz.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from controlplane.apiserver.handlers.exchange import Answer
from controlplane.apiserver.routing import Query
from machinery.errors import NavarchError

Check = Callable[[], Awaitable[None]]
"""Returns if all is well, raises NavarchError saying what is not."""

TEXT = "text/plain; charset=utf-8"
ENDPOINTS = ("healthz", "livez", "readyz")


async def well() -> None:
    """A check that can't fail while the server answers at all."""


@dataclass
class Health:
    """Checks by name; `ready_only` ones count for /readyz alone."""

    checks: dict[str, Check] = field(default_factory=dict)
    ready_only: dict[str, Check] = field(default_factory=dict)

    def of(self, endpoint: str) -> Mapping[str, Check]:
        """The checks of an endpoint, in order."""
        return {**self.checks, **self.ready_only} if endpoint == "readyz" else self.checks

    def paths(self) -> list[str]:
        """All paths that are served."""
        return [
            path
            for endpoint in ENDPOINTS
            for path in (f"/{endpoint}", *(f"/{endpoint}/{name}" for name in sorted(self.of(endpoint))))
        ]

    async def answer(self, path: str, query: Query) -> Answer | None:
        """The answer of a path; None if there is no such check."""
        endpoint, _, name = path.strip("/").partition("/")
        if endpoint not in ENDPOINTS:
            return None
        checks = self.of(endpoint)
        if name:
            check = checks.get(name)
            return await self._one(check) if check is not None else None
        return await self._all(endpoint, checks, query)

    async def _one(self, check: Check) -> Answer:
        try:
            await check()
        except NavarchError as exc:
            return Answer(f"internal server error: {exc}\n".encode(), TEXT, 500)
        return Answer(b"ok", TEXT)

    async def _all(self, endpoint: str, checks: Mapping[str, Check], query: Query) -> Answer:
        excluded = set(query.all("exclude"))
        lines, failed = [], False
        for name, check in checks.items():
            if name in excluded:
                excluded.discard(name)
                lines.append(f"[+]{name} excluded: ok")
                continue
            try:
                await check()
                lines.append(f"[+]{name} ok")
            except NavarchError:
                failed = True
                lines.append(f"[-]{name} failed: reason withheld")
        if excluded:
            told = ", ".join(f'"{name}"' for name in sorted(excluded))
            lines.append(f"warn: some health checks cannot be excluded: no matches for {told}")
        if failed:
            text = "\n".join([*lines, f"{endpoint} check failed", ""])
            return Answer(text.encode(), TEXT, 500, {"X-Content-Type-Options": "nosniff"})
        headers = {"X-Content-Type-Options": "nosniff"}
        if "verbose" not in query:
            return Answer(b"ok", TEXT, 200, headers)
        return Answer("\n".join([*lines, f"{endpoint} check passed", ""]).encode(), TEXT, 200, headers)
