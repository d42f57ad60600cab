"""Asks another server whom a token belongs to: --authentication-token-webhook-config-file.

Source: k8s.io/apiserver/plugin/pkg/authenticator/token/webhook.
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.authz.remote import RemoteReview, from_kubeconfig
from controlplane.apiserver.request import User
from machinery.api.meta import Object
from machinery.clock import Clock
from machinery.errors import TransportError, Unauthorized

_TTL_SECONDS = 120.0
_REMEMBERED = 4096


class TokenWebhook:
    """Sends TokenReviews and remembers for a while whom a token belongs to."""

    def __init__(self, config_file: str, clock: Clock) -> None:
        self._remote: RemoteReview = from_kubeconfig(config_file, "--authentication-token-webhook-config-file")
        self._clock = clock
        self._known: dict[tuple[str, tuple[str, ...]], tuple[float, User]] = {}

    async def authenticate_token(self, token: str, audiences: tuple[str, ...]) -> User | None:
        """The user, or None if the webhook does not know the token. Raises Unauthorized if it can't be asked."""
        key = (token, audiences)
        known = self._known.get(key)
        if known is not None and known[0] > self._clock.monotonic():
            return known[1]
        spec: Object = {"token": token} | ({"audiences": list(audiences)} if audiences else {})
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        try:
            status = (await self._remote.ask(review)).get("status")
        except TransportError as exc:
            raise Unauthorized(str(exc)) from exc
        if not isinstance(status, dict) or status.get("authenticated") is not True:
            if isinstance(status, dict) and status.get("error"):
                raise Unauthorized(str(status["error"]))
            return None
        answered = tuple(map(str, status.get("audiences") or ()))
        if audiences and answered and not set(audiences) & set(answered):
            return None
        user = _user(status.get("user"))
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[key] = (self._clock.monotonic() + _TTL_SECONDS, user)
        return user

    async def close(self) -> None:
        """Close connections."""
        await self._remote.close()


def _user(told: Any) -> User:
    if not isinstance(told, dict):
        raise Unauthorized("the token webhook answered without a user")
    extra = told.get("extra") or {}
    return User(
        str(told.get("username") or ""),
        str(told.get("uid") or ""),
        tuple(map(str, told.get("groups") or ())),
        {str(key).lower(): tuple(map(str, values or ())) for key, values in extra.items()}
        if isinstance(extra, dict)
        else {},
    )
