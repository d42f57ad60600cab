"""The RPCs of etcd that are used, as typed callables over one channel."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

import grpc.aio

from controlplane.apiserver.storage.etcd import etcd_pb2 as pb

Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response", covariant=True)


class Unary(Protocol[Request, Response]):
    """A call with one request and one response; `timeout` is seconds."""

    def __call__(self, request: Request, /, *, timeout: float | None = None) -> Awaitable[Response]:
        """Send; raises grpc.aio.AioRpcError."""
        ...


class Stub:
    """etcd's KV, Watch, Lease and Maintenance services on a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        def unary(path: str, response: type[Any]) -> Any:
            return channel.unary_unary(path, request_serializer=_serialize, response_deserializer=response.FromString)

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
        self.watch: Any = channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=_serialize,
            response_deserializer=pb.WatchResponse.FromString,
        )


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
