"""/healthz, /livez and /readyz, with a path for each check.

Source: k8s.io/apiserver/pkg/server/healthz.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from controlplane.apiserver.handlers.exchange import Answer
from controlplane.apiserver.routing import Query
from machinery.errors import NavarchError

Check = Callable[[], Awaitable[None]]
"""Returns if all is well, raises NavarchError saying what is not."""

TEXT = "text/plain; charset=utf-8"
ENDPOINTS = ("healthz", "livez", "readyz")
_UNTOLD = frozenset(("/readyz/etcd", "/readyz/etcd-readiness"))


class NotReady(NavarchError):
    """Something that must be done before the server is ready is not."""


async def well() -> None:
    """A check that can't fail while the server answers at all."""


@dataclass(frozen=True, slots=True)
class _Told:
    """Metrics that are there."""

    families: list[Metric]

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client."""
        return iter(self.families)


@dataclass
class Health:
    """Checks by name; `ready_only` ones count for /readyz alone, `live_only` ones everywhere else."""

    checks: dict[str, Check] = field(default_factory=dict)
    ready_only: dict[str, Check] = field(default_factory=dict)
    live_only: dict[str, Check] = field(default_factory=dict)
    _seen: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def of(self, endpoint: str) -> Mapping[str, Check]:
        """The checks of an endpoint, in order."""
        return {**self.checks, **(self.ready_only if endpoint == "readyz" else self.live_only)}

    def paths(self) -> list[str]:
        """All paths that are told of: those about etcd's readiness are not, as upstream's are added too late."""
        return [
            path
            for endpoint in ENDPOINTS
            for path in (f"/{endpoint}", *(f"/{endpoint}/{name}" for name in sorted(self.of(endpoint))))
            if path not in _UNTOLD
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

    async def indicators(self) -> bytes:
        """Whether each check holds now, and how often it did and didn't, as metrics.

        Source: component-base/metrics/prometheus/slis.
        """
        now = GaugeMetricFamily(
            "kubernetes_healthcheck", "This metric records the result of a single healthcheck.", labels=("type", "name")
        )
        for endpoint in ENDPOINTS:
            for name, check in self.of(endpoint).items():
                try:
                    await check()
                    held = True
                except NavarchError:
                    held = False
                now.add_metric((endpoint, name), int(held))
                self._seen[name, "success" if held else "error", endpoint] += 1
        total = CounterMetricFamily(
            "kubernetes_healthchecks",
            "This metric records the results of all healthcheck.",
            labels=("name", "status", "type"),
        )
        for labels, count in self._seen.items():
            total.add_metric(labels, count)
        return generate_latest(_Told([now, total]))

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
