"""Who asks the kubelet, and whether they may: client certificates, TokenReview, SubjectAccessReview.

Source: Kubelet authentication/authorization; kubelet's server/auth.go; KEP-2862 (fine-grained authorisation).
"""

from __future__ import annotations

from aiohttp import web

from agent.kubelet.settings import Settings
from machinery.client.rest import Client
from machinery.delegation import ANONYMOUS, Lifetimes, Reviewer, User, bearer_token, user_of_certificate
from machinery.errors import StatusError, TransportError
from machinery.log import get_logger

log = get_logger(__name__)

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
# Paths of nodes/SUBRESOURCE; everything else is nodes/proxy.
_COARSE = (("/stats", "stats"), ("/metrics", "metrics"), ("/logs", "log"), ("/checkpoint", "checkpoint"))
# Paths for which a finer subresource suffices.
_FINE = (("/healthz", "healthz"), ("/configz", "configz"), ("/pods", "pods"), ("/runningpods", "pods"))


class Guard:
    """Authenticates and authorises requests. Without a client only certificates are known, and nothing is allowed."""

    def __init__(self, settings: Settings, client: Client | None, node_name: str) -> None:
        self._settings = settings
        self._node_name = node_name
        lifetimes = Lifetimes(
            settings.token_cache_seconds, settings.allowed_cache_seconds, settings.denied_cache_seconds
        )
        self._reviewer = None if client is None else Reviewer(client, lifetimes)

    async def check(self, request: web.Request) -> web.Response | None:
        """None if the request may go on, else the refusal."""
        user = await self._authenticate(request)
        if user is None:
            return web.Response(status=401, text="Unauthorized")
        if self._settings.authorization_mode == "AlwaysAllow":
            return None
        verb, subresources = attributes(request.method, request.path)
        for subresource in subresources:
            try:
                if await self._allowed(user, verb, subresource):
                    return None
            except (StatusError, TransportError) as error:
                log.error("cannot authorise", user=user.name, verb=verb, subresource=subresource, error=error)
                text = f"Authorization error (user={user.name}, verb={verb}, resource=nodes, subresource={subresource})"
                return web.Response(status=500, text=text)
        shown = " ".join(subresources)
        text = f"Forbidden (user={user.name}, verb={verb}, resource=nodes, subresource(s)=[{shown}])\n"
        return web.Response(status=403, text=text)

    async def _authenticate(self, request: web.Request) -> User | None:
        transport = request.transport
        user = user_of_certificate(transport.get_extra_info("ssl_object") if transport is not None else None)
        if user is not None:
            return user
        if token := bearer_token(request.headers.get("Authorization", "")):
            if not self._settings.token_webhook or self._reviewer is None:
                return None
            return await self._reviewer.user_of(token)
        return ANONYMOUS if self._settings.anonymous_auth else None

    async def _allowed(self, user: User, verb: str, subresource: str) -> bool:
        if self._reviewer is None:
            return False
        attributes = {
            "verb": verb,
            "version": "v1",
            "resource": "nodes",
            "subresource": subresource,
            "name": self._node_name,
        }
        return await self._reviewer.allows(user, {"resourceAttributes": attributes})


def attributes(method: str, path: str) -> tuple[str, tuple[str, ...]]:
    """(verb, subresources of which one must be allowed) of a request."""
    verb = _VERBS.get(method, "")
    for prefix, subresource in _COARSE:
        if path == prefix or path.startswith(prefix + "/"):
            return verb, (subresource,)
    for prefix, subresource in _FINE:
        if path.rstrip("/") == prefix or path.startswith(prefix + "/"):
            return verb, (subresource, "proxy")
    return verb, ("proxy",)
