"""The small HTTP server that every component but the API server has: health, metrics, configuration.

Source: k8s.io/apiserver/pkg/server/healthz (the wording of ?verbose), component-base/configz.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from machinery.errors import NavarchError, SettingsError

Check = Callable[[], Awaitable[None]]
"""Returns if all is well, raises NavarchError saying what is not."""


def self_signed_tls(names: tuple[str, ...] = ("localhost", "127.0.0.1")) -> ssl.SSLContext:
    """TLS with a key made for this process alone, where no certificate was configured (as upstream does)."""
    from machinery import pki  # takes 0.04 s, and most components have a certificate or serve plainly

    pair = pki.self_signed_server(names[0], names)
    return server_tls(pair.certificate_pem, pair.key_pem)


def server_tls(certificate: bytes, key: bytes) -> ssl.SSLContext:
    """A TLS server context for PEM texts. Raises SettingsError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        with tempfile.NamedTemporaryFile(prefix="navarch-server-", suffix=".pem") as file:
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name)
    except ssl.SSLError as exc:
        raise SettingsError(f"cannot use the serving certificate: {exc}") from exc
    return context


class HealthServer:
    """/healthz, /livez, /readyz (each with ?verbose and a path for each check), /metrics and /configz.

    Use as an async context manager; further routes may be added to `app` before it is entered.
    """

    def __init__(
        self,
        bind: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        checks: Mapping[str, Check] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """`tls` None is plain http; `config` is what /configz shows; port 0 takes a free one."""
        self.app = web.Application()
        self.port = port
        self._bind, self._tls = bind, tls
        self._checks: dict[str, Check] = {"ping": _ping, **(checks or {})}
        self._config = dict(config or {})
        self._runner: web.AppRunner | None = None
        for path in ("/healthz", "/livez", "/readyz"):
            self.app.router.add_get(path, self._health)
            self.app.router.add_get(path + "/{check}", self._one)
        self.app.router.add_get("/metrics", _metrics)
        self.app.router.add_get("/configz", self._configz)

    def add_check(self, name: str, check: Check) -> None:
        """One more check, from now on; one of the same name is replaced."""
        self._checks[name] = check

    async def __aenter__(self) -> Self:
        """Bind and serve. Raises SettingsError when the address is not to be had."""
        self._runner = web.AppRunner(self.app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._bind, self.port, ssl_context=self._tls)
        try:
            await site.start()
        except OSError as exc:
            await self._runner.cleanup()
            raise SettingsError(f"cannot listen on {self._bind}:{self.port}: {exc.strerror}") from exc
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, request: web.Request) -> web.Response:
        lines, failed = [], []
        excluded = set(request.query.getall("exclude", []))
        for name, check in self._checks.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
                continue
            try:
                await check()
                lines.append(f"[+]{name} ok")
            except NavarchError as exc:
                lines.append(f"[-]{name} failed: {exc}")
                failed.append(name)
        endpoint = request.path.strip("/")
        if failed:
            return web.Response(status=500, text="\n".join([*lines, f"{endpoint} check failed", ""]))
        if "verbose" in request.query:
            return web.Response(text="\n".join([*lines, f"{endpoint} check passed", ""]))
        return web.Response(text="ok")

    async def _one(self, request: web.Request) -> web.Response:
        check = self._checks.get(request.match_info["check"])
        if check is None:
            return web.Response(status=404, text="404 page not found\n")
        try:
            await check()
        except NavarchError as exc:
            return web.Response(status=500, text=f"internal server error: {exc}\n")
        return web.Response(text="ok")

    async def _configz(self, request: web.Request) -> web.Response:
        return web.json_response(self._config)


async def _ping() -> None:
    return None


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
