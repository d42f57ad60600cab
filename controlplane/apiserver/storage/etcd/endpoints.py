"""Several etcd members as one: a channel each, the next one tried when one fails.

Source: etcd client design, "clientv3-grpc1.23: balancer"; gRPC status codes.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from controlplane.apiserver.storage.etcd.stubs import Stub
from machinery.errors import SettingsError, StorageUnavailable
from machinery.rpc.channel import Address, Channel
from machinery.rpc.status import Code, RpcError

T = TypeVar("T")

_ALONE_SECONDS = 30.0
"""How long an only member may take to answer: there is no other that may do better, and clients wait for longer."""

# Answers after which another member may do better. DEADLINE_EXCEEDED: this one hangs, or has lost its leader.
_ELSEWHERE = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.UNKNOWN})


@dataclass(frozen=True, slots=True)
class TLS:
    """Paths of PEM files: the CA that signed the members' certificates, our own certificate and key; "" is none."""

    ca: str
    certificate: str
    key: str

    def context(self) -> ssl.SSLContext:
        """TLS for a connection, with the files as they are now. Raises OSError (ssl.SSLError is one)."""
        context = ssl.create_default_context(cafile=self.ca or None)
        context.set_alpn_protocols(["h2"])
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass(slots=True)
class _Member:
    url: str
    channel: Channel
    stub: Stub


class Endpoints:
    """The members of one etcd cluster. Make it inside the running event loop; close it there."""

    def __init__(self, urls: Sequence[str], tls: TLS | None, *, attempt_seconds: float = 1.5) -> None:
        if not urls:
            raise SettingsError("--etcd-servers: name at least one etcd server")
        self._members = [_connect(url, tls) for url in urls]
        self._current = 0
        self.attempt_seconds = attempt_seconds if len(urls) > 1 else _ALONE_SECONDS

    @property
    def urls(self) -> list[str]:
        """The members' URLs as given."""
        return [member.url for member in self._members]

    @property
    def stub(self) -> Stub:
        """The member in use."""
        return self._members[self._current].stub

    @property
    def url(self) -> str:
        """The URL of the member in use."""
        return self._members[self._current].url

    def leave(self, stub: Stub) -> None:
        """Use the next member from now on, if `stub` is still the one in use."""
        if self._members[self._current].stub is stub:
            self._current = (self._current + 1) % len(self._members)

    async def call(self, rpc: Callable[[Stub, float], Awaitable[T]], *, attempts: int = 0) -> T:
        """`rpc(stub, timeout)` on the member in use, and on the next ones if it fails; for what may be sent twice.

        Raises StorageUnavailable when all failed; RpcError for errors that another member would give too.
        """
        last: RpcError | None = None
        for _ in range(attempts or 2 * len(self._members)):
            stub = self.stub
            try:
                return await rpc(stub, self.attempt_seconds)
            except RpcError as exc:
                if exc.code not in _ELSEWHERE:
                    raise
                last = exc
                self.leave(stub)
        raise unavailable(self.urls, last) from last

    async def close(self) -> None:
        """Close the channels."""
        for member in self._members:
            await member.channel.close()


def unavailable(urls: Sequence[str], cause: RpcError | None) -> StorageUnavailable:
    """The error for an etcd that can't be had."""
    detail = (cause.details or cause.code.name) if cause is not None else "no answer"
    return StorageUnavailable(f"etcd ({', '.join(urls)}): {detail}")


def _connect(url: str, tls: TLS | None) -> _Member:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"--etcd-servers: {url!r} is not an http:// or https:// URL")
    secure = (tls or TLS("", "", "")).context if parts.scheme == "https" else None
    if secure is not None:
        try:
            secure()
        except OSError as exc:
            raise SettingsError(f"--etcd-cafile, --etcd-certfile, --etcd-keyfile: {exc}") from exc
    channel = Channel(Address(parts.hostname, parts.port or 2379), secure)
    return _Member(url, channel, Stub(channel))
