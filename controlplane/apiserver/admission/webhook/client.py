"""Calls webhooks: by URL, or by a Service, whose address is looked up here and now.

Source: k8s.io/apiserver/pkg/util/webhook/{client,serviceresolver}.go; admissionregistration/v1 WebhookClientConfig.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from controlplane.apiserver.dialing import bracketed, why
from controlplane.apiserver.endpoints import in_slices
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import SERVICES
from machinery.api.meta import Object
from machinery.client.bodies import read_up_to
from machinery.errors import TransportError
from machinery.imports import deferred

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = deferred("aiohttp")

LARGEST_ANSWER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send a request: the URL as it is told, and what is really connected to."""

    url: str
    connect: str
    server_name: str | None = None
    """Whom the certificate must be for, if that is not the host of `connect`."""


@dataclass(slots=True)
class WebhookClient:
    """Sends reviews to webhooks; keeps connections."""

    reader: Reader
    _session: aiohttp.ClientSession | None = field(default=None, init=False)

    async def call(self, config: Mapping[str, Any], review: Object, timeout_seconds: float) -> Object:
        """The answer to a review. Raises TransportError saying what failed."""
        target = self.target(config, timeout_seconds)
        try:
            tls = tls_context(config.get("caBundle") or "")
        except (ssl.SSLError, ValueError, binascii.Error) as exc:
            raise TransportError(f"the caBundle can't be read: {exc}") from exc
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if target.server_name:
            headers["Host"] = target.server_name
        try:
            async with (
                asyncio.timeout(timeout_seconds),
                self._session.post(
                    target.connect,
                    data=orjson.dumps(review),
                    headers=headers,
                    ssl=tls,
                    server_hostname=target.server_name,
                    allow_redirects=False,
                ) as response,
            ):
                body = await read_up_to(response.content, LARGEST_ANSWER_BYTES + 1)
                status, reason = response.status, response.reason
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as exc:
            raise TransportError(f'Post "{target.url}": {why(exc)}') from exc
        if not 200 <= status < 300:
            raise TransportError(f"the server responded with the status code {status} ({reason})")
        try:
            answer = orjson.loads(body)
        except ValueError as exc:
            raise TransportError("the answer is not JSON") from exc
        if not isinstance(answer, dict):
            raise TransportError("the answer is not an object")
        return answer

    def target(self, config: Mapping[str, Any], timeout_seconds: float) -> Target:
        """Where a clientConfig points to. Raises TransportError."""
        query = f"timeout={int(timeout_seconds) or 1}s"
        url = config.get("url")
        if url:
            whole = f"{url}{'&' if '?' in url else '?'}{query}"
            return Target(whole, whole)
        service = config.get("service") or {}
        name, namespace = service.get("name") or "", service.get("namespace") or ""
        port, path = service.get("port") or 443, (service.get("path") or "/").lstrip("/")
        server_name = f"{name}.{namespace}.svc"
        told = f"https://{server_name}:{port}/{path}?{query}"
        try:
            address = service_address(self.reader, namespace, name, port)
        except TransportError as exc:
            raise TransportError(f'Post "{told}": {exc}') from exc
        return Target(told, f"https://{address}/{path}?{query}", server_name)

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def service_address(reader: Reader, namespace: str, name: str, port: int) -> str:
    """host:port of a ready endpoint of the Service, else of the Service itself. Raises TransportError."""
    service = reader.get(SERVICES, namespace, name)
    if service is None:
        raise TransportError(f'service "{name}" not found')
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return f"{spec.get('externalName')}:{port}"
    service_port = next((p for p in spec.get("ports") or () if p.get("port") == port), None)
    if service_port is None:
        raise TransportError(f'no service port {port} found for service "{name}"')
    # The server may run where nothing translates cluster addresses, so pods are spoken to directly.
    for address, number in in_slices(reader, namespace, name, service_port.get("name") or ""):
        return f"{bracketed(address)}:{number}"
    cluster_ip = spec.get("clusterIP") or ""
    if cluster_ip in ("", "None"):
        raise TransportError(f'no endpoints available for service "{name}"')
    return f"{bracketed(cluster_ip)}:{port}"


@lru_cache(maxsize=256)
def tls_context(ca_bundle: str) -> ssl.SSLContext:
    """TLS that trusts a caBundle (base64 of PEM), or the system's authorities if there is none."""
    if not ca_bundle:
        return ssl.create_default_context()
    return ssl.create_default_context(cadata=base64.b64decode(ca_bundle).decode("ascii"))
