"""Leaving it to the API server who somebody is and what they may do: TokenReview and SubjectAccessReview, remembered.

Source: k8s.io/apiserver/pkg/authentication/token/cache, plugin/pkg/authorizer/webhook (delegating authentication and
authorization).
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

from machinery.api.catalogue import SUBJECTACCESSREVIEWS, TOKENREVIEWS
from machinery.api.meta import Object
from machinery.client.rest import Client
from machinery.errors import StatusError, TransportError
from machinery.log import get_logger

log = get_logger(__name__)

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated identity."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False, compare=False)


ANONYMOUS = User("system:anonymous", groups=("system:unauthenticated",))


def user_of_certificate(tls: ssl.SSLObject | None) -> User | None:
    """Who the verified client certificate of a connection names, if there is one."""
    certificate: Any = tls.getpeercert() if tls is not None else None
    if not certificate:
        return None
    names = [pair for group in certificate.get("subject", ()) for pair in group]
    name = next((value for kind, value in names if kind == "commonName"), "")
    groups = tuple(value for kind, value in names if kind == "organizationName")
    return User(name, groups=(*groups, "system:authenticated")) if name else None


def bearer_token(header: str) -> str:
    """The token of an Authorization header, or ""."""
    return header[7:].strip() if header[:7].lower() == "bearer " else ""


@dataclass(frozen=True)
class Lifetimes:
    """How long answers are remembered, in seconds."""

    token: float = 10.0
    allowed: float = 10.0
    denied: float = 10.0


class Reviewer:
    """Asks the API server, and remembers what it said."""

    def __init__(self, client: Client, lifetimes: Lifetimes) -> None:
        self._client = client
        self._lifetimes = lifetimes
        self._tokens: dict[str, tuple[float, User | None]] = {}
        self._decisions: dict[tuple[User, bytes], tuple[float, bool]] = {}

    async def user_of(self, token: str) -> User | None:
        """Whose token it is; None if it is nobody's, or if that can't be found out."""
        key = hashlib.sha256(token.encode()).hexdigest()
        known = self._tokens.get(key)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        review = {"apiVersion": TOKENREVIEWS.api_version, "kind": TOKENREVIEWS.kind, "spec": {"token": token}}
        try:
            answer = await self._client.create(TOKENREVIEWS, review)
        except (StatusError, TransportError) as error:
            log.error("cannot review token", error=error)
            return None
        status = answer.get("status") or {}
        user = _of_review(status.get("user") or {}) if status.get("authenticated") else None
        _remember(self._tokens, key, (time.monotonic() + self._lifetimes.token, user))
        return user

    async def allows(self, user: User, attributes: Object) -> bool:
        """Whether the user may do this: `resourceAttributes` or `nonResourceAttributes` of a SubjectAccessReview.

        Raises StatusError, TransportError when that can't be found out.
        """
        key = (user, orjson.dumps(attributes))
        known = self._decisions.get(key)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        review: Object = {
            "apiVersion": SUBJECTACCESSREVIEWS.api_version,
            "kind": SUBJECTACCESSREVIEWS.kind,
            "spec": {
                "user": user.name,
                "groups": list(user.groups),
                "uid": user.uid,
                "extra": {name: list(values) for name, values in user.extra.items()},
                **attributes,
            },
        }
        answer = await self._client.create(SUBJECTACCESSREVIEWS, review)
        allowed = bool((answer.get("status") or {}).get("allowed"))
        seconds = self._lifetimes.allowed if allowed else self._lifetimes.denied
        _remember(self._decisions, key, (time.monotonic() + seconds, allowed))
        return allowed


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
