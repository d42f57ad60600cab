"""Bootstrap tokens: Secrets of kube-system by which new nodes introduce themselves.

Source: k8s.io/kubernetes/plugin/pkg/auth/authenticator/token/bootstrap, k8s.io/cluster-bootstrap/token.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime

from controlplane.apiserver.reader import Reader
from controlplane.apiserver.request import User
from machinery.api.catalogue import SECRETS
from machinery.api.meta import Object, is_deleting, parse_time
from machinery.log import get_logger

log = get_logger(__name__)

SECRET_TYPE = "bootstrap.kubernetes.io/token"
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")
_DEFAULT_GROUP = "system:bootstrappers"


class BootstrapTokens:
    """Knows the tokens in the Secrets `bootstrap-token-ID` of kube-system."""

    def __init__(self, reader: Reader, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._reader = reader
        self._now = now

    async def authenticate_token(self, token: str, audiences: tuple[str, ...]) -> User | None:
        """The user `system:bootstrap:ID`, if the token is in force."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        token_id, token_secret = match.groups()
        secret = self._reader.get(SECRETS, "kube-system", f"bootstrap-token-{token_id}")
        if secret is None or is_deleting(secret) or secret.get("type") != SECRET_TYPE:
            return None
        data = _decoded(secret)
        if not secrets.compare_digest(data.get("token-secret", "").encode(), token_secret.encode()):
            return None
        if data.get("token-id") != token_id or data.get("usage-bootstrap-authentication") != "true":
            return None
        if self._expired(data.get("expiration", "")):
            return None
        groups = {_DEFAULT_GROUP}
        for group in filter(None, data.get("auth-extra-groups", "").split(",")):
            if _GROUP.fullmatch(group) is None:
                log.warning("bootstrap token has an invalid group and is not accepted", token_id=token_id)
                return None
            groups.add(group)
        return User(f"system:bootstrap:{token_id}", groups=tuple(sorted(groups)))

    def _expired(self, expiration: str) -> bool:
        if not expiration:
            return False
        try:
            return parse_time(expiration) <= self._now()
        except ValueError:
            return True


def _decoded(secret: Object) -> dict[str, str]:
    decoded = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            decoded[key] = base64.b64decode(value or "").decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return decoded
