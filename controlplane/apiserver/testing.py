"""An API server inside a test, on storage in memory: ready in milliseconds, gone with the block.

    async with running_apiserver() as server:
        server.url, server.token, server.ca

Shipped: what builds on the API can be tested against the real thing.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache

from controlplane.apiserver.authn.contract import Authenticator
from controlplane.apiserver.bootstrap.reconcile import ensure_namespaces
from controlplane.apiserver.handlers.contract import Authorize, Extensions, ExtensionsFactory, Loopback
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.request import Credentials, User
from controlplane.apiserver.server import ApiServer
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.storage.contract import Storage
from controlplane.apiserver.storage.memory import MemoryStorage
from machinery import pki
from machinery.serving import server_tls

TOKEN = "admin-token"
ADMIN = User("admin", groups=("system:masters", "system:authenticated"))


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Where it is and how to get in: `token` is that of an administrator, `ca` the PEM of its certificate."""

    url: str
    token: str
    ca: bytes
    server: ApiServer = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Knows the administrator's token alone."""

    async def authenticate(self, credentials: Credentials) -> User | None:
        return ADMIN if credentials.headers.get("Authorization") == f"Bearer {TOKEN}" else None


def administrator(settings: Settings, reader: Reader, loopback: Loopback, authorize: Authorize) -> Extensions:
    """Extensions that let the administrator in and nobody else, and make the namespaces that every cluster has."""
    way: Authenticator = _Tokens()

    async def namespaces(api: Loopback, reader: Reader) -> None:
        await ensure_namespaces(api)

    return Extensions(authenticators=(way,), start_hooks={"start-system-namespaces-controller": namespaces})


@cache
def authority() -> pki.KeyPair:
    """The authority that vouches for test servers, made once for the process."""
    return pki.make_authority("kubernetes", algorithm="ECDSA-P256")


@cache
def _certificate() -> pki.KeyPair:
    return pki.issue(
        authority(),
        "kube-apiserver",
        usages=pki.SERVER_USAGES,
        names=("127.0.0.1", "localhost", "kubernetes.default.svc"),
        algorithm="ECDSA-P256",
    )


def tls() -> ssl.SSLContext:
    """TLS with a certificate of the authority."""
    pair = _certificate()
    return server_tls(pair.certificate_pem, pair.key_pem)


@asynccontextmanager
async def running_apiserver(
    settings: Settings | None = None,
    *,
    storage: Storage | None = None,
    factories: Sequence[ExtensionsFactory] = (),
    wait_ready: bool = True,
) -> AsyncIterator[RunningServer]:
    """A server on a free port of 127.0.0.1; with `factories` it has those extensions as well."""
    given = replace(settings or Settings(), bind_address="127.0.0.1", secure_port=0)
    store = storage or MemoryStorage()
    server = ApiServer(given, store, (administrator, *factories), tls=tls())
    async with server:
        if wait_ready:
            await server.ready()
        yield RunningServer(f"https://127.0.0.1:{server.port}", TOKEN, authority().certificate_pem, server)
    if storage is None:
        await store.close()
