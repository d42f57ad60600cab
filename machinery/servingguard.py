"""Who may read a component's health, metrics and configuration: as the API server says.

Source: k8s.io/apiserver/pkg/server/options (authentication.go, authorization.go): DelegatingAuthenticationOptions.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.delegation import ANONYMOUS, Lifetimes, Reviewer, User, bearer_token, user_of_certificate
from machinery.errors import SettingsError, StatusError, TransportError
from machinery.log import get_logger
from machinery.settings import Flag, strings

log = get_logger(__name__)

ALWAYS_ALLOWED = ["/healthz", "/readyz", "/livez"]

FLAGS = (
    Flag("authentication-kubeconfig", str, "", "kubeconfig to create TokenReviews with; empty: no tokens are known"),
    Flag("authorization-kubeconfig", str, "", "kubeconfig to create SubjectAccessReviews with; empty: none may"),
    Flag("authorization-always-allow-paths", strings, ALWAYS_ALLOWED, "paths that anybody may read"),
    Flag("client-ca-file", str, "", "CA bundle that client certificates are verified with"),
)

_VERBS = {"GET": "get", "HEAD": "get", "POST": "post", "PUT": "put", "PATCH": "patch", "DELETE": "delete"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ServingGuard:
    """Authenticates and authorises requests; `middleware` goes in front of a server's routes.

    Use as an async context manager.
    """

    def __init__(self, flags: dict[str, Any], user_agent: str) -> None:
        """`flags`: values of FLAGS. Raises SettingsError when a kubeconfig can't be read."""
        self._authority: str = flags["client-ca-file"]
        self._open: Sequence[str] = flags["authorization-always-allow-paths"]
        self._clients: list[Client] = []
        self._authentication = self._reviewer(flags["authentication-kubeconfig"], user_agent)
        self._authorization = self._reviewer(flags["authorization-kubeconfig"], user_agent)

    def _reviewer(self, kubeconfig: str, user_agent: str) -> Reviewer | None:
        if not kubeconfig:
            return None
        client = Client(ClientConfig.from_kubeconfig(kubeconfig), user_agent=user_agent)
        self._clients.append(client)
        return Reviewer(client, Lifetimes())

    def trust(self, tls: ssl.SSLContext) -> ssl.SSLContext:
        """Have the server ask for client certificates of --client-ca-file. Raises SettingsError."""
        if self._authority:
            try:
                tls.load_verify_locations(self._authority)
            except OSError as exc:
                raise SettingsError(f"--client-ca-file: cannot read {self._authority}: {exc}") from exc
            tls.verify_mode = ssl.CERT_OPTIONAL
        return tls

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            await client.close()

    async def check(self, request: web.Request) -> web.Response | None:
        """None if the request may go on, else the refusal."""
        user = await self._user(request)
        if user is None:
            return _status(401, "Unauthorized", "Unauthorized")
        path, verb = request.path, _VERBS.get(request.method, request.method.lower())
        if self._always_open(path) or "system:masters" in user.groups:
            return None
        why = ""
        if self._authorization is not None:
            try:
                if await self._authorization.allows(user, {"nonResourceAttributes": {"path": path, "verb": verb}}):
                    return None
            except (StatusError, TransportError) as exc:
                log.error("cannot authorise", user=user.name, path=path, error=exc)
                why = f": {exc}"
        return _status(403, "Forbidden", f'forbidden: User "{user.name}" cannot {verb} path "{path}"{why}')

    async def _user(self, request: web.Request) -> User | None:
        transport = request.transport
        user = user_of_certificate(transport.get_extra_info("ssl_object") if transport is not None else None)
        if user is not None:
            return user
        token = bearer_token(request.headers.get("Authorization", ""))
        if not token:
            return ANONYMOUS
        return await self._authentication.user_of(token) if self._authentication is not None else None

    def _always_open(self, path: str) -> bool:
        return any(path == each or (each.endswith("*") and path.startswith(each[:-1])) for each in self._open)

    @property
    def middleware(self) -> Any:
        """For aiohttp applications."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self.check(request) or await handler(request)

        return guarded


def _status(code: int, reason: str, message: str) -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    return web.json_response(status | {"reason": reason, "code": code}, status=code)
