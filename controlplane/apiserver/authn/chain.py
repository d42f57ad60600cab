"""All ways of telling who asks, in kube-apiserver's order: front proxy, client certificate, bearer token, anonymous.

A credential that is offered and does not hold makes the request unauthorised unless another one holds; it never makes
the client anonymous.

Source: k8s.io/kubernetes/pkg/kubeapiserver/authenticator/config.go, k8s.io/apiserver/pkg/authentication/request/union.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from controlplane.apiserver.authn.contract import Authenticator
from controlplane.apiserver.authn.identity import with_authenticated
from controlplane.apiserver.authn.serviceaccount import ServiceAccountTokens
from controlplane.apiserver.request import ANONYMOUS, Credentials, User
from machinery.errors import Unauthorized

_WEBSOCKET_BEARER = "base64url.bearer.authorization.k8s.io."
_BASE64_URL = re.compile(r"[A-Za-z0-9_-]*")


class TokenAuthenticator(Protocol):
    """One kind of bearer token."""

    async def authenticate_token(self, token: str, audiences: tuple[str, ...]) -> User | None:
        """The user; None if the token is not of this kind. Raises Unauthorized if it is and does not hold.

        `audiences` are whom the token must be for; empty: this API server.
        """
        ...


@dataclass(frozen=True, slots=True)
class Authentication:
    """Whom a token belongs to, and which of the asked-for audiences it is for."""

    user: User
    audiences: tuple[str, ...]


class Tokens:
    """All kinds of bearer tokens."""

    def __init__(self, kinds: Sequence[TokenAuthenticator], api_audiences: Sequence[str]) -> None:
        self._kinds = tuple(kinds)
        self.api_audiences = tuple(api_audiences)

    async def authenticate(self, token: str, audiences: tuple[str, ...] = ()) -> Authentication:
        """Who the token belongs to, in the group of the authenticated. Raises Unauthorized saying why it is nobody."""
        errors = []
        for kind in self._kinds:
            try:
                user = await kind.authenticate_token(token, audiences)
            except Unauthorized as exc:
                errors.append(exc.message)
                continue
            if user is None:
                continue
            if isinstance(kind, ServiceAccountTokens):
                return Authentication(with_authenticated(user), kind.audiences_of(token, audiences))
            # Other kinds know no audiences: they are for this API server alone.
            own = self.api_audiences
            if audiences:
                own = tuple(a for a in own if a in audiences)
                if not own:
                    continue
            return Authentication(with_authenticated(user), own)
        told = ["invalid bearer token", *errors]
        raise Unauthorized(told[0] if len(told) == 1 else "[" + ", ".join(dict.fromkeys(told)) + "]")


class Chain:
    """Tells who asks. `tokens` is what TokenReview uses."""

    def __init__(
        self, ways: Sequence[Authenticator], tokens: Tokens, *, anonymous: bool, anonymous_paths: Collection[str] = ()
    ) -> None:
        """`anonymous_paths`: where alone those who show nothing are let in; none: everywhere."""
        self._ways = tuple(ways)
        self.tokens = tokens
        self._anonymous = anonymous
        self._anonymous_paths = frozenset(anonymous_paths)

    async def authenticate(self, credentials: Credentials) -> User | None:
        """The user; None only where anonymous requests are not accepted. Raises Unauthorized."""
        failed = False
        for way in self._ways:
            try:
                user = await way.authenticate(credentials)
            except Unauthorized:
                failed = True
                continue
            if user is not None:
                return with_authenticated(user)
        try:
            if token := bearer_token(credentials):
                return (await self.tokens.authenticate(token)).user
        except Unauthorized:
            failed = True
        if failed:
            raise Unauthorized("Unauthorized")  # what was wrong is not told to whoever asks
        welcome = self._anonymous and (not self._anonymous_paths or credentials.path in self._anonymous_paths)
        return ANONYMOUS if welcome else None


def bearer_token(credentials: Credentials) -> str:
    """The token of the Authorization header, or of a WebSocket's subprotocols; "" if there is none.

    Raises:
        Unauthorized: the subprotocols are not as they must be.
    """
    parts = (credentials.headers.get("Authorization") or "").strip().split(" ", 2)
    if len(parts) > 1 and parts[0].lower() == "bearer":
        return parts[1]
    return _websocket_token(credentials) if (credentials.headers.get("Upgrade") or "").lower() == "websocket" else ""


def _websocket_token(credentials: Credentials) -> str:
    """The token among the subprotocols of a WebSocket. Raises Unauthorized."""
    tokens, others = [], False
    for header in credentials.headers.getall("Sec-WebSocket-Protocol", ()):
        for protocol in map(str.strip, header.split(",")):
            if protocol.startswith(_WEBSOCKET_BEARER):
                tokens.append(protocol.removeprefix(_WEBSOCKET_BEARER))
            else:
                others = True
    if not tokens:
        return ""
    if len(tokens) > 1:
        raise Unauthorized("multiple base64.bearer.authorization tokens specified")
    if not _BASE64_URL.fullmatch(tokens[0]):
        raise Unauthorized("invalid base64.bearer.authorization token encoding")
    try:
        token = base64.urlsafe_b64decode(tokens[0] + "=" * (-len(tokens[0]) % 4)).decode()
    except (binascii.Error, ValueError) as exc:
        raise Unauthorized("invalid base64.bearer.authorization token") from exc
    if token and not others:  # one that can be answered with is needed
        raise Unauthorized("missing additional subprotocol")
    return token
