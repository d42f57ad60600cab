"""The ports that a kubelet and Prometheus ask: /health, /ready and /metrics, as CoreDNS has them.

Source: https://coredns.io/plugins/health/, /ready/ and /metrics/.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from agent.dns.configuration import Address, Configuration
from machinery.errors import SettingsError

Handler = Callable[[], web.Response]


@asynccontextmanager
async def serving(wanted: Configuration, missing: Callable[[], list[str]]) -> AsyncIterator[None]:
    """Serve what the configuration asks for; `missing` names what is not ready yet. Raises SettingsError."""

    def ready() -> web.Response:
        left = missing()
        return web.Response(status=503, text=",".join(left)) if left else web.Response(text="OK")

    def metrics() -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async with contextlib.AsyncExitStack() as stack:
        for address, path, handler in (
            (wanted.health, "/health", lambda: web.Response(text="OK")),
            (wanted.ready, "/ready", ready),
            (wanted.metrics, "/metrics", metrics),
        ):
            if address is not None:
                await stack.enter_async_context(_route(address, path, handler))
        yield


@asynccontextmanager
async def _route(address: Address, path: str, handler: Handler) -> AsyncIterator[None]:
    async def answer(request: web.Request) -> web.Response:
        return handler()

    app = web.Application()
    app.router.add_get(path, answer)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
    await runner.setup()
    host, port = address
    try:
        await web.TCPSite(runner, host or None, port).start()
        yield
    except OSError as error:
        raise SettingsError(f"cannot listen on {host or '*'}:{port} for {path}: {error.strerror}") from error
    finally:
        await runner.cleanup()
