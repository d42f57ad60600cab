"""Bootstrap tokens: signatures on the cluster-info ConfigMap for those who join, and an end to tokens that expired.

Source: k8s.io/kubernetes/pkg/controller/bootstrap;
https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from controlplane.controllers.environment import Environment
from machinery.api.catalogue import CONFIGMAPS, SECRETS
from machinery.api.meta import Object, key_of, name_of, namespace_of, parse_time, uid_of
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import NotFound

SIGNER_ACCOUNT, CLEANER_ACCOUNT = "bootstrap-signer", "token-cleaner"
TOKEN_TYPE = "bootstrap.kubernetes.io/token"
CLUSTER_INFO = "kube-public/cluster-info"
_PREFIX = "jws-kubeconfig-"
_NAME = re.compile("bootstrap-token-([a-z0-9]{6})")


def field(secret: Object, name: str) -> str:
    """A field of a Secret's data, decoded; "" if it is not there or no text."""
    try:
        return base64.b64decode((secret.get("data") or {}).get(name, ""), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def seconds_left(secret: Object, now: datetime) -> float | None:
    """Seconds until the token expires (0 or less: it has); None if it never does. An unreadable date has passed."""
    text = field(secret, "expiration")
    if not text:
        return None
    try:
        return (parse_time(text) - now).total_seconds()
    except ValueError:
        return 0.0


def signing_token(secret: Object, now: datetime) -> tuple[str, str] | None:
    """(id, secret) of a token that may sign, else None."""
    name = _NAME.fullmatch(name_of(secret))
    token_id, token = field(secret, "token-id"), field(secret, "token-secret")
    if secret.get("type") != TOKEN_TYPE or name is None or name[1] != token_id or not token:
        return None
    left = seconds_left(secret, now)
    if (left is not None and left <= 0) or field(secret, "usage-bootstrap-signing") != "true":
        return None
    return token_id, token


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signature(content: str, token_id: str, token: str) -> str:
    """A detached JWS (HS256) over `content`: header, nothing, signature."""
    header = _encoded(json.dumps({"alg": "HS256", "kid": token_id}, separators=(",", ":")).encode())
    body = f"{header}.{_encoded(content.encode())}".encode()
    return f"{header}..{_encoded(hmac.new(token.encode(), body, hashlib.sha256).digest())}"


def signed(config_map: Object, secrets: Iterable[Object], now: datetime) -> Object:
    """cluster-info with one signature for each token that may sign, and no others."""
    data = config_map.get("data") or {}
    content = data.get("kubeconfig", "")
    kept = {name: value for name, value in data.items() if not name.startswith(_PREFIX)}
    if content:
        for secret in secrets:
            if (token := signing_token(secret, now)) is not None:
                kept[_PREFIX + token[0]] = signature(content, *token)
    return {**config_map, "data": kept}


@dataclass(frozen=True)
class BootstrapSigner:
    """Keeps the signatures of cluster-info."""

    config_maps: Informer
    secrets: Informer
    client: Client
    clock: Clock

    async def reconcile(self, key: str) -> float | None:
        """Sign, if the ConfigMap is there; returns seconds until a signing token expires."""
        config_map = self.config_maps.get(key)
        if config_map is None:
            return None
        now = self.clock.now()
        wanted = signed(config_map, self.secrets.list(), now)
        if wanted.get("data") != (config_map.get("data") or {}):
            await self.client.update(CONFIGMAPS, wanted)
        ends = [left for s in self.secrets.list() if (left := seconds_left(s, now)) is not None and left > 0]
        return min(ends, default=None)


@dataclass(frozen=True)
class TokenCleaner:
    """Deletes one token when it expires."""

    secrets: Informer
    client: Client
    clock: Clock

    async def reconcile(self, key: str) -> float | None:
        """Delete the token, or return seconds until that is due."""
        secret = self.secrets.get(key)
        left = seconds_left(secret, self.clock.now()) if secret is not None else None
        if secret is None or left is None or left > 0:
            return left
        try:
            await self.client.delete(SECRETS, name_of(secret), namespace_of(secret), uid=uid_of(secret))
        except NotFound:
            return None
        return None


def _tokens(env: Environment) -> Informer:
    return env.informers.of(SECRETS, namespace="kube-system", field_selector=f"type={TOKEN_TYPE}")


def build_signer(env: Environment) -> list[Controller]:
    """The signer of cluster-info."""
    config_maps = env.informers.of(CONFIGMAPS, namespace="kube-public", field_selector="metadata.name=cluster-info")
    secrets = _tokens(env)
    signer = BootstrapSigner(config_maps, secrets, env.client_for(SIGNER_ACCOUNT), env.clock)
    controller = Controller("bootstrap_signer_queue", signer.reconcile, workers=1)
    config_maps.on_change(lambda old, new: controller.enqueue(CLUSTER_INFO))
    secrets.on_change(lambda old, new: controller.enqueue(CLUSTER_INFO))
    return [controller]


def build_cleaner(env: Environment) -> list[Controller]:
    """The cleaner of tokens."""
    secrets = _tokens(env)
    cleaner = TokenCleaner(secrets, env.client_for(CLEANER_ACCOUNT), env.clock)
    controller = Controller("token_cleaner", cleaner.reconcile, workers=1)
    secrets.on_change(lambda old, new: controller.enqueue(key_of(new)) if new is not None else None)
    return [controller]
