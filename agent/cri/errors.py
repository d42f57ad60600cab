"""What a container runtime answers instead of a result: gRPC's errors, mapped once.

    NavarchError
    └── CriError             the runtime refused or failed
        ├── CriNotFound       no such sandbox, container or image
        ├── CriUnimplemented  the runtime does not have this call
        ├── CriUnavailable    the runtime does not answer (also a TransportError)
        └── CriTimeout        the call took longer than it may

Source: gRPC status codes; Kubernetes messages print them as Go's status package does.
"""

from __future__ import annotations

import grpc

from machinery.errors import NavarchError, TransportError

# gRPC's UPPER_CASE names as Go prints them in "rpc error: code = X desc = Y", which users search for.
_GO_NAMES = {
    grpc.StatusCode.CANCELLED: "Canceled",
    grpc.StatusCode.UNKNOWN: "Unknown",
    grpc.StatusCode.INVALID_ARGUMENT: "InvalidArgument",
    grpc.StatusCode.DEADLINE_EXCEEDED: "DeadlineExceeded",
    grpc.StatusCode.NOT_FOUND: "NotFound",
    grpc.StatusCode.ALREADY_EXISTS: "AlreadyExists",
    grpc.StatusCode.PERMISSION_DENIED: "PermissionDenied",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "ResourceExhausted",
    grpc.StatusCode.FAILED_PRECONDITION: "FailedPrecondition",
    grpc.StatusCode.ABORTED: "Aborted",
    grpc.StatusCode.OUT_OF_RANGE: "OutOfRange",
    grpc.StatusCode.UNIMPLEMENTED: "Unimplemented",
    grpc.StatusCode.INTERNAL: "Internal",
    grpc.StatusCode.UNAVAILABLE: "Unavailable",
    grpc.StatusCode.DATA_LOSS: "DataLoss",
    grpc.StatusCode.UNAUTHENTICATED: "Unauthenticated",
}


class CriError(NavarchError):
    """The runtime refused or failed; `detail` is its own text, str() is upstream's wording."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"rpc error: code = {code} desc = {detail}")
        self.code = code
        self.detail = detail


class CriNotFound(CriError):
    """No such sandbox, container or image."""


class CriUnimplemented(CriError):
    """The runtime does not have this call."""


class CriUnavailable(CriError, TransportError):
    """The runtime does not answer."""


class CriTimeout(CriError):
    """The call took longer than it may."""


_CLASSES: dict[grpc.StatusCode, type[CriError]] = {
    grpc.StatusCode.NOT_FOUND: CriNotFound,
    grpc.StatusCode.UNIMPLEMENTED: CriUnimplemented,
    grpc.StatusCode.UNAVAILABLE: CriUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: CriTimeout,
}


def map_error(error: grpc.aio.AioRpcError) -> CriError:
    """The CriError for what grpc.aio raised."""
    code = error.code()
    return _CLASSES.get(code, CriError)(_GO_NAMES.get(code, "Unknown"), error.details() or "")
