"""The RPCs of etcd that are used, as typed callables over one channel."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

from controlplane.apiserver.storage.etcd import etcd_pb2 as pb
from machinery.rpc.channel import Channel

Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response", covariant=True)


class Unary(Protocol[Request, Response]):
    """A call with one request and one response; `timeout` is seconds."""

    def __call__(self, request: Request, /, *, timeout: float) -> Awaitable[Response]:
        """Send; raises RpcError."""
        ...


class WatchCall:
    """A stream of etcd's Watch service."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def open(self, request: pb.WatchCreateRequest, *, timeout: float) -> None:
        """Begin with a request; connecting may take `timeout` seconds. Raises RpcError."""
        self._call = await self._channel.stream("/etcdserverpb.Watch/Watch", timeout)
        self._call.write(pb.WatchRequest(create_request=request).SerializeToString())

    async def read(self) -> pb.WatchResponse | None:
        """What etcd tells next; None at the end. Raises RpcError."""
        message = await self._call.read()
        return None if message is None else pb.WatchResponse.FromString(message)

    def cancel(self) -> None:
        """End it; whoever reads gets an RpcError."""
        self._call.cancel()


class Stub:
    """etcd's KV, Watch, Lease and Maintenance services on a channel."""

    def __init__(self, channel: Channel) -> None:
        def unary(path: str, response: type[Any]) -> Any:
            read = response.FromString

            async def call(request: Any, *, timeout: float) -> Any:
                return read(await channel.unary(path, request.SerializeToString(), timeout))

            return call

        self._channel = channel
        self.range: Unary[pb.RangeRequest, pb.RangeResponse] = unary("/etcdserverpb.KV/Range", pb.RangeResponse)
        self.txn: Unary[pb.TxnRequest, pb.TxnResponse] = unary("/etcdserverpb.KV/Txn", pb.TxnResponse)
        self.compact: Unary[pb.CompactionRequest, pb.CompactionResponse] = unary(
            "/etcdserverpb.KV/Compact", pb.CompactionResponse
        )
        self.lease_grant: Unary[pb.LeaseGrantRequest, pb.LeaseGrantResponse] = unary(
            "/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse
        )
        self.status: Unary[pb.StatusRequest, pb.StatusResponse] = unary(
            "/etcdserverpb.Maintenance/Status", pb.StatusResponse
        )

    async def watch(self, request: pb.WatchCreateRequest, *, timeout: float) -> WatchCall:
        """Begin to watch. Raises RpcError."""
        call = WatchCall(self._channel)
        await call.open(request, timeout=timeout)
        return call
