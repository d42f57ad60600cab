"""Service account tokens for pods: asked for with TokenRequest, kept, and renewed before they expire.

Source: KEP-1205, KEP-542; kubelet's token manager (renewal at 80 % of the time, or after 24 hours).
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from agent.kubelet.container.errors import VolumeError
from machinery.api import meta
from machinery.api.catalogue import SERVICEACCOUNTS
from machinery.api.meta import Object
from machinery.client.rest import Client
from machinery.errors import StatusError, TransportError
from machinery.log import get_logger

log = get_logger(__name__)

_LONGEST_SECONDS = 24 * 3600.0
_JITTER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Token:
    """A token; times are seconds since 1970."""

    token: str
    expires: str  # as the API server said it
    expires_at: float
    renew_at: float


class Tokens:
    """Tokens by pod and audience. One for the whole kubelet; without a client none can be had."""

    def __init__(self, client: Client | None) -> None:
        self._client = client
        self._held: dict[tuple[str, str, int], Token] = {}
        self._asking: dict[tuple[str, str, int], asyncio.Lock] = {}

    async def token(self, pod: Object, audience: str, seconds: int) -> str:
        """A token of the pod's service account, bound to the pod. Raises VolumeError."""
        return (await self.held(pod, audience, seconds)).token

    async def held(self, pod: Object, audience: str, seconds: int) -> Token:
        """The same, with its times. Raises VolumeError."""
        key = (meta.uid_of(pod), audience, seconds)
        lock = self._asking.setdefault(key, asyncio.Lock())
        async with lock:
            held = self._held.get(key)
            now = time.time()
            if held is not None and now < held.renew_at:
                return held
            try:
                fresh = self._held[key] = await self._ask(pod, audience, seconds)
            except (StatusError, TransportError) as error:
                if held is not None and now < held.expires_at:
                    log.warning("cannot renew service account token", pod=meta.key_of(pod), err=str(error))
                    return held
                raise VolumeError(f"failed to fetch token: {error}") from error
            return fresh

    async def _ask(self, pod: Object, audience: str, seconds: int) -> Token:
        if self._client is None:
            raise VolumeError("failed to fetch token: this kubelet has no API server")
        request: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": meta.name_of(pod),
                    "uid": meta.uid_of(pod),
                },
            },
        }
        account = pod["spec"].get("serviceAccountName") or "default"
        answer = await self._client.create_subresource(
            SERVICEACCOUNTS, account, "token", request, meta.namespace_of(pod)
        )
        now = time.time()
        expires_at = meta.parse_time(answer["status"]["expirationTimestamp"]).timestamp()
        lifetime = min(0.8 * (expires_at - now), _LONGEST_SECONDS)
        expires = answer["status"]["expirationTimestamp"]
        return Token(
            answer["status"]["token"], expires, expires_at, now + lifetime - random.uniform(0, _JITTER_SECONDS)
        )

    def forget_pod(self, uid: str) -> None:
        """The pod is gone; its tokens are worth nothing any more."""
        for key in [key for key in self._asking if key[0] == uid]:
            del self._asking[key]
            self._held.pop(key, None)
