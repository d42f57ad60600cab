"""A front proxy that has authenticated its client says so in headers: --requestheader-*.

Source: k8s.io/apiserver/pkg/authentication/request/headerrequest.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from multidict import MultiMapping

from controlplane.apiserver.authn.x509 import Peers, common_names
from controlplane.apiserver.request import Credentials, User
from machinery.errors import Unauthorized


class FrontProxy:
    """Believes the headers of whoever has a certificate of the front proxy's CA and an allowed common name."""

    def __init__(
        self,
        peers: Peers,
        *,
        allowed_names: Sequence[str],
        username_headers: Sequence[str],
        uid_headers: Sequence[str],
        group_headers: Sequence[str],
        extra_prefixes: Sequence[str],
    ) -> None:
        self._peers = peers
        self._allowed_names = frozenset(allowed_names)
        self._username_headers = tuple(username_headers)
        self._uid_headers = tuple(uid_headers)
        self._group_headers = tuple(group_headers)
        self._extra_prefixes = tuple(prefix.lower() for prefix in extra_prefixes)

    async def authenticate(self, credentials: Credentials) -> User | None:
        """The user the proxy names; None without a proxy or without a user. Raises Unauthorized."""
        if not credentials.peer_certificates:
            return None
        name = _first(credentials.headers, self._username_headers)
        if not name:
            return None
        peer = self._peers.issued(credentials.peer_certificates)
        names = common_names(peer.certificate)
        if self._allowed_names and (not names or names[-1] not in self._allowed_names):
            raise Unauthorized(f"x509: subject with cn={names[-1] if names else ''} is not in the allowed list")
        groups = [group for header in self._group_headers for group in credentials.headers.getall(header, ()) if group]
        uid = _first(credentials.headers, self._uid_headers)
        return User(name, uid, tuple(groups), extra_of(credentials.headers, self._extra_prefixes))


def _first(headers: MultiMapping[str], names: Sequence[str]) -> str:
    return next((value for name in names if (value := (headers.get(name) or "").strip())), "")


def extra_of(headers: MultiMapping[str], prefixes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Headers that begin with a prefix (lower-case), by the rest of their name, unescaped."""
    extra: dict[str, tuple[str, ...]] = {}
    for name, value in headers.items():
        lower = name.lower()
        for prefix in prefixes:
            if lower.startswith(prefix):
                key = unquote(lower.removeprefix(prefix))
                extra[key] = (*extra.get(key, ()), value)
    return extra
