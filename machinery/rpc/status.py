"""How a call ends.

Source: gRPC, "Status codes and their use in gRPC"; "HTTP to gRPC Status Code Mapping".
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from urllib.parse import unquote


class Code(IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_OF_HTTP = {
    "400": Code.INTERNAL,
    "401": Code.UNAUTHENTICATED,
    "403": Code.PERMISSION_DENIED,
    "404": Code.UNIMPLEMENTED,
    "429": Code.UNAVAILABLE,
    "502": Code.UNAVAILABLE,
    "503": Code.UNAVAILABLE,
    "504": Code.UNAVAILABLE,
}


class RpcError(Exception):
    """A call that did not end well."""

    def __init__(self, code: Code, details: str, *, sent: bool = True) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details
        self.sent = sent
        """Whether the request may have reached the server."""

    def __str__(self) -> str:
        return f"{self.code.name}: {self.details}" if self.details else self.code.name


def ended(headers: Mapping[str, str]) -> RpcError | None:
    """What the last headers of an answer say; None is well."""
    told = headers.get("grpc-status")
    if told is None:
        http = headers.get(":status", "200")
        if http == "200":
            return RpcError(Code.UNKNOWN, "the answer has no grpc-status")
        return RpcError(_OF_HTTP.get(http, Code.UNKNOWN), f"HTTP status {http}")
    if told == "0":
        return None
    number = int(told) if told.isascii() and told.isdigit() else int(Code.UNKNOWN)
    code = Code(number) if number in Code._value2member_map_ else Code.UNKNOWN
    return RpcError(code, unquote(headers.get("grpc-message", ""), errors="replace"))
