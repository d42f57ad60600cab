"""Health check node ports: a small HTTP server for each Service that has one.

A load balancer outside asks every node on the Service's healthCheckNodePort and sends traffic only to nodes that have a
local endpoint: 200 with the count, else 503.

Source: "Source IP for Services with Type=LoadBalancer"; KEP-3836.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from aiohttp import web

from agent.proxy.health import ProxyHealth
from agent.proxy.model import HealthCheck
from machinery.api.meta import split_key
from machinery.events import EventRecorder
from machinery.log import get_logger

log = get_logger(__name__)


class HealthCheckServers:
    """Serves the health check node ports while it is entered."""

    def __init__(self, health: ProxyHealth, addresses: Sequence[str], recorder: EventRecorder, node: str) -> None:
        """`addresses` are where to listen; 0.0.0.0 or :: for everywhere. What can't be is told as an event."""
        self._health = health
        self._recorder, self._node = recorder, node
        self._addresses = addresses
        self._checks: dict[str, HealthCheck] = {}
        self._runners: dict[tuple[str, int], web.AppRunner] = {}
        self._told: set[tuple[str, int]] = set()  # those that could not be served the last time

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key in list(self._runners):
            await self._stop(key)

    async def sync(self, checks: Mapping[str, HealthCheck]) -> None:
        """Serve exactly these, each under its Service's key."""
        self._checks = dict(checks)
        wanted = {(check.service, check.node_port) for check in checks.values()}
        self._told &= wanted
        for key in self._runners.keys() - wanted:
            await self._stop(key)
        for key in sorted(wanted - self._runners.keys()):
            await self._start(key)

    async def _start(self, key: tuple[str, int]) -> None:
        service, port = key
        app = web.Application()

        async def answer(request: web.Request) -> web.Response:
            return self._answer(service)

        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await runner.setup()
        try:
            for address in self._addresses:
                await web.TCPSite(runner, address, port).start()
        except OSError as error:
            await runner.cleanup()
            self._tell(service, port, error)
            return
        self._told.discard(key)
        self._runners[key] = runner

    def _tell(self, service: str, port: int, error: OSError) -> None:
        """Say, once for as long as it lasts, that a port can't be served: it is tried again with every sync."""
        if (service, port) in self._told:
            return
        self._told.add((service, port))
        log.error("health check node port can't be served", service=service, port=port, error=error)
        namespace, name = split_key(service)
        metadata = {"namespace": namespace, "name": name, "uid": service}
        said = f'node {self._node} failed to start healthcheck "{service}" on port {port}: {error.strerror}'
        about = {"kind": "Service", "apiVersion": "v1", "metadata": metadata}
        self._recorder.warning(about, "FailedToStartServiceHealthcheck", said)

    async def _stop(self, key: tuple[str, int]) -> None:
        await self._runners.pop(key).cleanup()

    def _answer(self, service: str) -> web.Response:
        check = self._checks.get(service)
        count = check.local_endpoints if check else 0
        well = self._health.healthy
        namespace, name = split_key(service)
        body = {
            "service": {"namespace": namespace, "name": name},
            "localEndpoints": count,
            "serviceProxyHealthy": well,
        }
        headers = {
            "Content-Type": "application/json",
            "X-Content-Type-Options": "nosniff",
            "X-Load-Balancing-Endpoint-Weight": str(count),
        }
        text = json.dumps(body, indent="\t").encode()
        return web.Response(body=text, status=200 if count and well else 503, headers=headers)
