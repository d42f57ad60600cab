"""HTTPS servers on 127.0.0.1 that play webhooks and extension API servers, and what is common to their stories."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from machinery import pki
from machinery.serving import server_tls

AUTHORITY = pki.make_authority("extensions", algorithm="ECDSA-P256")
BUNDLE = base64.b64encode(AUTHORITY.certificate_pem).decode()


@dataclass(frozen=True)
class Running:
    """Where a server listens."""

    port: int


def tls_for(name: str, client_authority: bytes = b"") -> ssl.SSLContext:
    pair = pki.issue(AUTHORITY, name, usages=pki.SERVER_USAGES, names=(name, "127.0.0.1"), algorithm="ECDSA-P256")
    context = server_tls(pair.certificate_pem, pair.key_pem)
    if client_authority:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_authority.decode())
    return context


@asynccontextmanager
async def https_server(
    handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], tls: ssl.SSLContext
) -> AsyncIterator[Running]:
    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield Running(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def eventually(check: Callable[[], Awaitable[Any]], seconds: float = 10) -> Any:
    """What `check` gives once it is neither None nor False. It is asked again at once: each time is a request."""
    async with asyncio.timeout(seconds):
        while True:
            found = await check()
            if found is not None and found is not False:
                return found
