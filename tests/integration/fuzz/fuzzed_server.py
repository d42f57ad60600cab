"""An API server in a thread of its own, met over plain sockets by tests that send it anything."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

from controlplane.apiserver.admission import factory as admission
from controlplane.apiserver.authn import factory as authn
from controlplane.apiserver.authz import factory as authz
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.storage.memory import MemoryStorage
from controlplane.apiserver.testing import RunningServer, running_apiserver
from machinery import pki

_SECONDS = 20.0


@dataclass
class FuzzedServer:
    """Where it is, and what tests ask of it."""

    running: RunningServer
    storage: MemoryStorage
    loop: asyncio.AbstractEventLoop

    @property
    def port(self) -> int:
        return self.running.server.port

    @property
    def authorization(self) -> str:
        return f"Bearer {self.running.token}"

    def written(self) -> dict[str, int]:
        """Every object with the revision of its last write."""

        async def everything() -> dict[str, int]:
            found, _, _ = await self.storage.list("/registry/")
            return {stored.key: stored.revision for stored in found}

        return asyncio.run_coroutine_threadsafe(everything(), self.loop).result(_SECONDS)

    def connect(self) -> ssl.SSLSocket:
        """A connection for bytes of any kind."""
        context = ssl.create_default_context(cadata=self.running.ca.decode())
        return context.wrap_socket(
            socket.create_connection(("127.0.0.1", self.port), timeout=_SECONDS), server_hostname="127.0.0.1"
        )

    def raw(self, sent: bytes) -> tuple[int, bytes]:
        """Send bytes and no more: the status that comes back (0: none), and all of the answer's first 64 KiB."""
        with self.connect() as connection:
            got = b""
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                connection.sendall(sent)
                while len(got) < 65536 and (more := connection.recv(4096)):
                    got += more
            return int(got.split()[1]) if got else 0, got

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request as the administrator: status and body."""
        context = ssl.create_default_context(cadata=self.running.ca.decode())
        connection = _Connection("127.0.0.1", self.port, context)
        try:
            sent = {"Authorization": self.authorization, "Connection": "close", **(headers or {})}
            connection.request(method, path, body, sent)
            response: HTTPResponse = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def is_well(self) -> bool:
        """Whether it still answers."""
        return self.request("GET", "/readyz") == (200, b"ok")


class _Connection(HTTPConnection):
    """http.client over TLS that takes any bytes for a path."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=_SECONDS)
        self._context = context

    def connect(self) -> None:
        super().connect()
        self.sock: Any = self._context.wrap_socket(self.sock, server_hostname=self.host)

    def _validate_path(self, url: str) -> None:
        """Any path will do."""

    def _encode_request(self, request: str) -> bytes:
        return request.encode("utf-8", "surrogateescape")


def is_defect(status: int, answer: bytes) -> bool:
    """Whether an answer tells of a defect: it is a 500, and not one of those few that upstream gives, too."""
    return status >= 500 and not any(told in answer for told in _UPSTREAM_TOO)


# Mistakes that nobody there made a 400 of: in patches, in revisions, in what strategic merges meet.
_UPSTREAM_TOO = (
    b"expected a []interface {}, but received a",
    b"expected a map[string]interface {}, but received a",
    b"failed to create typed patch object (",
    b"failed to create typed live object (",
    b"illegal base64 data at input byte",
    b"json: cannot unmarshal ",
    b"strconv.ParseUint: parsing ",
    b"unable to find api field in struct ",
    b"unknown patch type: ",
    b" does not contain declared merge key: ",
)


@contextmanager
def fuzzed_server() -> Iterator[FuzzedServer]:
    """A server with authentication, RBAC and admission, on storage in memory."""
    started: list[FuzzedServer] = []
    failures: list[BaseException] = []
    up = threading.Event()
    ended = asyncio.Event()

    async def serve(folder: Path) -> None:
        storage = MemoryStorage()
        factories = (authn.build, authz.build, admission.build)
        async with running_apiserver(_settings(folder), storage=storage, factories=factories) as running:
            started.append(FuzzedServer(running, storage, asyncio.get_running_loop()))
            up.set()
            await ended.wait()

    def run(folder: Path) -> None:
        try:
            asyncio.run(serve(folder))
        except BaseException as exc:
            failures.append(exc)
        finally:
            up.set()

    with tempfile.TemporaryDirectory(prefix="navarch-fuzz-") as folder:
        thread = threading.Thread(target=run, args=(Path(folder),), name="API server")
        thread.start()
        try:
            up.wait(60)
            if failures:
                raise failures[0]
            yield started[0]
        finally:
            if started:
                started[0].loop.call_soon_threadsafe(ended.set)
            thread.join(60)
    if failures:
        raise failures[0]


def _settings(folder: Path) -> Settings:
    key = str(folder / "sa.key")
    pki.write_file(folder / "sa.key", pki.key_pem(pki.new_key("ECDSA-P256")))
    return Settings(
        service_account_issuers=("https://kubernetes.default.svc",),
        service_account_key_files=(key,),
        service_account_signing_key_file=key,
        service_cluster_ip_ranges=("10.96.0.0/16",),
        authorization_modes=("Node", "RBAC"),
        endpoint_reconciler_type="none",
        allow_privileged=True,
    )
