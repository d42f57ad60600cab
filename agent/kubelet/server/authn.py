"""Who asks the kubelet, and whether they may: client certificates, TokenReview, SubjectAccessReview.

Source: Kubelet authentication/authorization; kubelet's server/auth.go; KEP-2862 (fine-grained authorisation).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import web

from agent.kubelet.settings import Settings
from machinery.api.catalogue import SUBJECTACCESSREVIEWS, TOKENREVIEWS
from machinery.api.meta import Object
from machinery.client.rest import Client
from machinery.errors import StatusError, TransportError
from machinery.log import get_logger

log = get_logger(__name__)

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_ANONYMOUS = "system:anonymous"
_REMEMBERED = 1000
_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
# Paths of nodes/SUBRESOURCE; everything else is nodes/proxy.
_COARSE = (("/stats", "stats"), ("/metrics", "metrics"), ("/logs", "log"), ("/checkpoint", "checkpoint"))
# Paths for which a finer subresource suffices.
_FINE = (("/healthz", "healthz"), ("/configz", "configz"), ("/pods", "pods"), ("/runningpods", "pods"))


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated identity."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False, compare=False)


class Guard:
    """Authenticates and authorises requests. Without a client only certificates are known, and nothing is allowed."""

    def __init__(self, settings: Settings, client: Client | None, node_name: str) -> None:
        self._settings = settings
        self._client = client
        self._node_name = node_name
        self._tokens: dict[str, tuple[float, User | None]] = {}
        self._decisions: dict[tuple[User, str, str], tuple[float, bool]] = {}

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
        user = _of_certificate(request)
        if user is not None:
            return user
        header = request.headers.get("Authorization", "")
        if header[:7].lower() == "bearer " and header[7:].strip():
            if not self._settings.token_webhook or self._client is None:
                return None
            return await self._review(header[7:].strip())
        if self._settings.anonymous_auth:
            return User(_ANONYMOUS, groups=("system:unauthenticated",))
        return None

    async def _review(self, token: str) -> User | None:
        key = hashlib.sha256(token.encode()).hexdigest()
        known = self._tokens.get(key)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        review = {"apiVersion": TOKENREVIEWS.api_version, "kind": TOKENREVIEWS.kind, "spec": {"token": token}}
        assert self._client is not None
        try:
            answer = await self._client.create(TOKENREVIEWS, review)
        except (StatusError, TransportError) as error:
            log.error("cannot review token", error=error)
            return None
        status = answer.get("status") or {}
        user = _of_review(status.get("user") or {}) if status.get("authenticated") else None
        _remember(self._tokens, key, (time.monotonic() + self._settings.token_cache_seconds, user))
        return user

    async def _allowed(self, user: User, verb: str, subresource: str) -> bool:
        key = (user, verb, subresource)
        known = self._decisions.get(key)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        if self._client is None:
            return False
        review: Object = {
            "apiVersion": SUBJECTACCESSREVIEWS.api_version,
            "kind": SUBJECTACCESSREVIEWS.kind,
            "spec": {
                "user": user.name,
                "groups": list(user.groups),
                "uid": user.uid,
                "extra": {name: list(values) for name, values in user.extra.items()},
                "resourceAttributes": {
                    "verb": verb,
                    "version": "v1",
                    "resource": "nodes",
                    "subresource": subresource,
                    "name": self._node_name,
                },
            },
        }
        answer = await self._client.create(SUBJECTACCESSREVIEWS, review)
        allowed = bool((answer.get("status") or {}).get("allowed"))
        seconds = self._settings.allowed_cache_seconds if allowed else self._settings.denied_cache_seconds
        _remember(self._decisions, key, (time.monotonic() + seconds, allowed))
        return allowed


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


def _of_certificate(request: web.Request) -> User | None:
    tls = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    certificate = tls.getpeercert() if tls is not None else None
    if not certificate:
        return None
    names = [pair for group in certificate.get("subject", ()) for pair in group]
    name = next((value for kind, value in names if kind == "commonName"), "")
    groups = tuple(value for kind, value in names if kind == "organizationName")
    return User(name, groups=(*groups, "system:authenticated")) if name else None


def _of_review(user: Object) -> User:
    return User(
        user.get("username") or "",
        user.get("uid") or "",
        tuple(user.get("groups") or ()),
        {name: tuple(values) for name, values in (user.get("extra") or {}).items()},
    )


def _remember(table: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    if len(table) >= _REMEMBERED:
        del table[next(iter(table))]
    table[key] = value
