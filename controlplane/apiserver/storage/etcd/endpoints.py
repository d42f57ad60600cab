"""Several etcd members as one: a channel each, the next one tried when one fails.

Source: etcd client design, "clientv3-grpc1.23: balancer"; gRPC status codes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import grpc
import grpc.aio

from controlplane.apiserver.storage.etcd.stubs import Stub
from machinery.errors import SettingsError, StorageUnavailable

T = TypeVar("T")

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
]

# Answers after which another member may do better. DEADLINE_EXCEEDED: this one hangs, or has lost its leader.
_ELSEWHERE = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN}
)


@dataclass(frozen=True, slots=True)
class TLS:
    """PEM texts: the CA that signed the members' certificates, our own certificate and key (both or none)."""

    ca: bytes | None
    certificate: bytes | None
    key: bytes | None


@dataclass(slots=True)
class _Member:
    url: str
    channel: grpc.aio.Channel
    stub: Stub


class Endpoints:
    """The members of one etcd cluster. Make it inside the running event loop; close it there."""

    def __init__(self, urls: Sequence[str], tls: TLS | None, *, attempt_seconds: float = 1.5) -> None:
        if not urls:
            raise SettingsError("--etcd-servers: name at least one etcd server")
        self._members = [_connect(url, tls) for url in urls]
        self._current = 0
        self._attempt_seconds = attempt_seconds

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

        Raises StorageUnavailable when all failed; grpc.aio.AioRpcError for errors that another member would give too.
        """
        last: grpc.aio.AioRpcError | None = None
        for _ in range(attempts or 2 * len(self._members)):
            stub = self.stub
            try:
                return await rpc(stub, self._attempt_seconds)
            except grpc.aio.AioRpcError as exc:
                if exc.code() not in _ELSEWHERE:
                    raise
                last = exc
                self.leave(stub)
        raise unavailable(self.urls, last) from last

    async def close(self) -> None:
        """Close the channels."""
        for member in self._members:
            await member.channel.close()


def unavailable(urls: Sequence[str], cause: grpc.aio.AioRpcError | None) -> StorageUnavailable:
    """The error for an etcd that can't be had."""
    detail = (cause.details() or cause.code().name) if cause is not None else "no answer"
    return StorageUnavailable(f"etcd ({', '.join(urls)}): {detail}")


def never_sent(exc: grpc.aio.AioRpcError) -> bool:
    """Whether the request surely did not reach a member: no connection could be made."""
    details = exc.details() or ""
    return exc.code() is grpc.StatusCode.UNAVAILABLE and details.startswith(
        ("failed to connect", "connections to all backends failing", "DNS resolution failed")
    )


def _connect(url: str, tls: TLS | None) -> _Member:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"--etcd-servers: {url!r} is not an http:// or https:// URL")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    target = f"{host}:{parts.port or 2379}"
    if parts.scheme == "http":
        channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
    else:
        given = tls or TLS(None, None, None)
        credentials = grpc.ssl_channel_credentials(given.ca, given.key, given.certificate)
        channel = grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
    return _Member(url, channel, Stub(channel))
