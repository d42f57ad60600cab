"""Reviews that another server answers: where it is and how to trust it comes from a file in kubeconfig's format.

Source: k8s.io/apiserver/pkg/util/webhook/webhook.go.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import ryaml

from machinery.api.meta import Object
from machinery.client.bodies import read_up_to
from machinery.errors import SettingsError, TransportError
from machinery.imports import deferred

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = deferred("aiohttp")

TIMEOUT_SECONDS = 30.0
LARGEST_ANSWER_BYTES = 4 * 1024 * 1024
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_ATTEMPTS = 5
_FIRST_PAUSE_SECONDS = 0.5
_PAUSE_FACTOR = 1.5


@dataclass(slots=True)
class RemoteReview:
    """One server that answers reviews. Connections are kept; `close` releases them."""

    url: str
    tls: ssl.SSLContext | None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_seconds: float = TIMEOUT_SECONDS
    _session: aiohttp.ClientSession | None = field(default=None, init=False, repr=False)

    async def ask(self, review: Object) -> Object:
        """The review as answered. Raises TransportError when no usable answer came after several attempts."""
        body = await self._persistently(orjson.dumps(review))
        try:
            answer = orjson.loads(body)
        except ValueError as exc:
            raise TransportError(f"calling {self.url}: the answer is not JSON") from exc
        if not isinstance(answer, dict):
            raise TransportError(f"calling {self.url}: the answer is not an object")
        return answer

    async def tell(self, document: bytes) -> None:
        """Send JSON of which nothing but the receipt is answered. Raises TransportError after several attempts."""
        await self._persistently(document)

    async def _persistently(self, document: bytes) -> bytes:
        pause = _FIRST_PAUSE_SECONDS
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._post(document)
            except _RetryableError as exc:
                if attempt == _ATTEMPTS:
                    raise TransportError(str(exc)) from exc
            await asyncio.sleep(pause)
            pause *= _PAUSE_FACTOR
        raise AssertionError

    async def _post(self, document: bytes) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.timeout_seconds))
        headers = {"Content-Type": "application/json", "Accept": "application/json", **self.headers}
        tls: ssl.SSLContext | bool = self.tls if self.tls is not None else True
        try:
            async with self._session.post(
                self.url, data=document, headers=headers, ssl=tls, allow_redirects=False
            ) as response:
                body = await read_up_to(response.content, LARGEST_ANSWER_BYTES + 1)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise _RetryableError(f"calling {self.url}: {exc or type(exc).__name__}") from exc
        if status == 429 or status >= 500:
            raise _RetryableError(f"calling {self.url}: answered {status}")
        if not 200 <= status < 300:
            raise TransportError(f"calling {self.url}: answered {status}")
        return body

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class _RetryableError(TransportError):
    """What another attempt may mend."""


def from_kubeconfig(path: str, flag: str) -> RemoteReview:
    """The server that the current context of the file names. Raises SettingsError naming the flag."""
    try:
        config = ryaml.loads(Path(path).read_text())
    except (OSError, ValueError, ryaml.InvalidYamlError) as exc:
        raise SettingsError(f"{flag}: can't read {path}: {exc}") from exc
    try:
        context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
        user = next((u["user"] for u in config.get("users") or () if u["name"] == context.get("user")), None) or {}
        url = str(cluster["server"])
    except (KeyError, TypeError, StopIteration) as exc:
        raise SettingsError(f"{flag}: {path} has no complete current-context with a cluster and its server") from exc
    try:
        return RemoteReview(url, tls_context(cluster, user) if url.startswith("https:") else None, _headers(user))
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise SettingsError(f"{flag}: {path}: {exc}") from exc


def in_cluster() -> RemoteReview:
    """The API server of the cluster that this process is a pod of. Raises SettingsError."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise SettingsError("InClusterConfig: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        cluster = {"certificate-authority": os.path.join(_ACCOUNT, "ca.crt")}
        user = {"tokenFile": os.path.join(_ACCOUNT, "token")}
        url = f"https://{address}/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return RemoteReview(url, tls_context(cluster, user), _headers(user))
    except OSError as exc:
        raise SettingsError(f"InClusterConfig: {exc}") from exc


def tls_context(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    """The TLS of a kubeconfig's cluster and user. Raises OSError, ValueError."""
    data = cluster.get("certificate-authority-data")
    tls = ssl.create_default_context(
        cafile=cluster.get("certificate-authority") or None,
        cadata=base64.b64decode(data).decode() if data else None,
    )
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    if user.get("client-certificate"):
        tls.load_cert_chain(user["client-certificate"], user.get("client-key"))
    elif user.get("client-certificate-data"):
        # The ssl module reads keys from files alone: one that nobody else can read, and that is gone at once.
        with tempfile.TemporaryDirectory() as folder:
            pair = Path(folder, "pair.pem")
            pair.touch(mode=0o600)
            pair.write_bytes(
                base64.b64decode(user["client-certificate-data"])
                + b"\n"
                + base64.b64decode(user.get("client-key-data") or "")
            )
            tls.load_cert_chain(os.fspath(pair))
    return tls


def _headers(user: Mapping[str, Any]) -> dict[str, str]:
    token = user.get("token")
    if not token and user.get("tokenFile"):
        token = Path(user["tokenFile"]).read_text().strip()
    return {"Authorization": f"Bearer {token}"} if token else {}
