"""An issuer's keys: found by its discovery document, fetched again when a token names one that is not known.

Source: OpenID Connect Discovery 1.0; RFC 7517; coreos/go-oidc as kube-apiserver uses it.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import jwt
import orjson

from controlplane.apiserver.authn.oidc.model import Issuer
from machinery.client.bodies import read_up_to
from machinery.clock import Clock
from machinery.errors import TransportError, Unauthorized
from machinery.imports import deferred
from machinery.log import get_logger

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = deferred("aiohttp")

log = get_logger(__name__)

WELL_KNOWN = "/.well-known/openid-configuration"
_TIMEOUT_SECONDS = 30.0
_LARGEST_BYTES = 1 << 20
_AGAIN_SECONDS = 10.0  # at least between two attempts to fetch an issuer's keys


class Provider:
    """Verifies tokens of one issuer."""

    def __init__(self, issuer: Issuer, clock: Clock) -> None:
        self.issuer = issuer
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = False
        self._not_before = 0.0
        self._tls = ssl.create_default_context(cadata=issuer.certificate_authority or None)

    async def claims(self, token: str) -> dict[str, Any]:
        """The claims of a token whose signature, issuer, audience and times hold. Raises Unauthorized."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as exc:
            raise Unauthorized(f"oidc: verify token: {exc}") from exc
        algorithm = str(header.get("alg"))
        if algorithm not in self.issuer.algorithms:
            shown = " ".join(self.issuer.algorithms)
            told = f'oidc: id token signed with unsupported algorithm, expected ["{shown}"] got "{algorithm}"'
            raise Unauthorized(f"oidc: verify token: {told}")
        for key in await self._candidates(str(header.get("kid") or "")):
            try:
                found: dict[str, Any] = jwt.decode(
                    token,
                    key.key,
                    algorithms=[algorithm],
                    audience=self.issuer.audiences,
                    issuer=self.issuer.url,
                    options={"require": ["exp"], "verify_iat": False},
                )
                return found
            except jwt.InvalidSignatureError:
                continue
            except (jwt.InvalidTokenError, ValueError, TypeError) as exc:
                raise Unauthorized(f"oidc: verify token: {exc}") from exc
        raise Unauthorized("oidc: verify token: failed to verify signature: failed to verify id token signature")

    async def _candidates(self, key_id: str) -> list[jwt.PyJWK]:
        if not self._fetched or (key_id and key_id not in self._keys):
            await self._fetch()
        return [self._keys[key_id]] if key_id in self._keys else list(self._keys.values())

    async def _fetch(self) -> None:
        now = self._clock.monotonic()
        if now < self._not_before:
            if not self._fetched:
                raise Unauthorized("oidc: authenticator not initialized")
            return
        self._not_before = now + _AGAIN_SECONDS
        try:
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
            async with aiohttp.ClientSession(timeout=timeout) as session:
                document = await self._get(session, self._discovery_url)
                if document.get("issuer") != self.issuer.url:
                    told = f'expected "{self.issuer.url}" got "{document.get("issuer")}"'
                    raise TransportError(f"oidc: issuer did not match the issuer returned by provider, {told}")
                keys = await self._get(session, str(document.get("jwks_uri")))
        except TransportError as exc:
            log.error("oidc authenticator: the issuer's keys can't be had", issuer=self.issuer.url, error=exc)
            if not self._fetched:
                raise Unauthorized("oidc: authenticator not initialized") from exc
            return
        self._keys = {}
        for number, each in enumerate(keys.get("keys") or ()):
            try:
                key = jwt.PyJWK(each)
            except (jwt.PyJWKError, jwt.InvalidKeyError, TypeError, ValueError):
                continue  # of a kind that no algorithm here uses
            self._keys[key.key_id or f"#{number}"] = key
        self._fetched = True

    @property
    def _discovery_url(self) -> str:
        return self.issuer.discovery_url or self.issuer.url.rstrip("/") + WELL_KNOWN

    async def _get(self, session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
        try:
            async with session.get(url, ssl=self._tls, allow_redirects=False) as response:
                body = await read_up_to(response.content, _LARGEST_BYTES + 1)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            raise TransportError(f"GET {url}: {exc or type(exc).__name__}") from exc
        if status != 200 or len(body) > _LARGEST_BYTES:
            raise TransportError(f"GET {url}: answered {status}")
        try:
            document = orjson.loads(body)
        except ValueError as exc:
            raise TransportError(f"GET {url}: the answer is not JSON") from exc
        if not isinstance(document, dict):
            raise TransportError(f"GET {url}: the answer is not an object")
        return document
