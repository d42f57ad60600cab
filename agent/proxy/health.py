"""Whether the proxy keeps up, told on the healthz port: /healthz (for load balancers), /livez (for restarts), /readyz.

/healthz also says no when the node is about to be removed, so that load balancers stop sending connections to it.

Source: KEP-3836 (kube-proxy health and load balancers).
"""

from __future__ import annotations

import json
from datetime import datetime
from types import TracebackType
from typing import Self

from aiohttp import web
from prometheus_client import Counter

from agent.proxy import metrics
from machinery.api.meta import Object, is_deleting
from machinery.clock import Clock
from machinery.errors import SettingsError

TO_BE_DELETED_TAINT = "ToBeDeletedByClusterAutoscaler"
_HEADERS = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}


class ProxyHealth:
    """What is known of the proxy's own health."""

    def __init__(self, clock: Clock, late_seconds: float) -> None:
        """`late_seconds`: how old the oldest change not yet carried out may become."""
        self._clock = clock
        self._late_seconds = late_seconds
        self._queued_at: float | None = None
        self._updated: datetime | None = None
        self.node_eligible = True

    def queued(self) -> None:
        """There is something to do."""
        if self._queued_at is None:
            self._queued_at = self._clock.monotonic()

    def updated(self) -> None:
        """Everything is done."""
        self._queued_at = None
        self._updated = self._clock.now()

    def see_node(self, node: Object | None) -> None:
        """Take notice of this node's object."""
        if node is not None:
            taints = (node.get("spec") or {}).get("taints") or ()
            self.node_eligible = not is_deleting(node) and all(t.get("key") != TO_BE_DELETED_TAINT for t in taints)

    @property
    def healthy(self) -> bool:
        """Whether no change has waited too long; at the start nothing is late."""
        if self._queued_at is None or self._updated is None:
            return True
        return self._clock.monotonic() - self._queued_at < self._late_seconds

    def times(self, *, well: bool) -> dict[str, str]:
        """The times that the answers carry: for whoever is well, the last update is now."""
        now = self._clock.now()
        last = now if well or self._updated is None else self._updated
        return {"lastUpdated": _go_time(last), "currentTime": _go_time(now)}


class HealthzServer:
    """Serves ProxyHealth over HTTP while it is entered."""

    def __init__(self, health: ProxyHealth, host: str, port: int) -> None:
        self.port = port
        self._health, self._host = health, host
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        """Bind and serve. Raises SettingsError when the address is not to be had."""
        app = web.Application()
        app.router.add_route("*", "/healthz", self._eligible)
        app.router.add_route("*", "/readyz", self._eligible)
        app.router.add_route("*", "/livez", self._live)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError(f"cannot listen on {self._host}:{self.port}: {error.strerror}") from error
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _eligible(self, request: web.Request) -> web.Response:
        eligible = self._health.node_eligible
        return self._answer(self._health.healthy and eligible, metrics.HEALTHZ, {"nodeEligible": eligible})

    async def _live(self, request: web.Request) -> web.Response:
        return self._answer(self._health.healthy, metrics.LIVEZ, {})

    def _answer(self, well: bool, counter: Counter, more: dict[str, bool]) -> web.Response:
        status = 200 if well else 503
        counter.labels(str(status)).inc()
        body = json.dumps({**self._health.times(well=well), **more}).encode()
        return web.Response(body=body, status=status, headers=_HEADERS)


def _go_time(moment: datetime) -> str:
    """As Go prints a time in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S.%f} +0000 UTC"
