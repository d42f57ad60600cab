"""One call of the gRPC health checking protocol, for probes.

The two messages have one field each, so they are written and read by hand here.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md; protocol buffers wire format.
"""

from __future__ import annotations

import grpc

_STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def _encode(service: str) -> bytes:
    """HealthCheckRequest{service = 1}."""
    data = service.encode()
    if not data:
        return b""
    size, length = [], len(data)
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return b"\x0a" + bytes([*size, length]) + data


def _decode(data: bytes) -> str:
    """The status of HealthCheckResponse{status = 1}."""
    return _STATUSES.get(data[1] if len(data) >= 2 and data[0] == 0x08 else 0, "UNKNOWN")


async def check(address: str, service: str, timeout_seconds: float) -> tuple[str, str]:
    """(status, ""), or ("", why there is none)."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.primary_user_agent", "kube-probe/1.36")]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        call = channel.unary_unary(
            "/grpc.health.v1.Health/Check", request_serializer=_encode, response_deserializer=_decode
        )
        try:
            return str(await call(service, timeout=timeout_seconds)), ""
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return "", "server does not implement the grpc health protocol (grpc.health.v1.Health)"
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                told = f'timeout: failed to connect service "{address}" within {timeout_seconds:g}s: {error.details()}'
                return "", told
            return "", f"error: health rpc failed: {error.details()}"
