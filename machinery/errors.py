"""Every error Navarch raises on purpose, as one tree.

    NavarchError
    ├── SettingsError            a flag, file or environment variable is wrong; the message says which and what to do
    ├── TransportError           a peer could not be reached, or the connection broke
    │   └── StorageUnavailable   the same, of the storage behind an API server
    ├── RevisionConflict         storage: the key is not at the revision the caller expected
    ├── RevisionCompacted        storage: the revision asked for is no longer kept
    └── StatusError              what the Kubernetes API answers instead of an object: code, reason, message, details
        ├── BadRequest 400  Unauthorized 401  Forbidden 403  NotFound 404  MethodNotAllowed 405  NotAcceptable 406
        ├── AlreadyExists 409  Conflict 409  Gone 410  Expired 410  TooLarge 413  UnsupportedMediaType 415
        ├── Invalid 422  TooManyRequests 429
        └── InternalError 500  ServiceUnavailable 503  ServerTimeout 504  Timeout 504

The API server raises a StatusError and its client raises the same one again, so code on either side of HTTP catches
one type.  Errors of gRPC, netlink, nft and other libraries are mapped to these once, at the border, `from exc`.

Source: API conventions, "Response Status Kind"; k8s.io/apimachinery/pkg/api/errors.
"""

from __future__ import annotations

from typing import Any

from machinery.text import encodable


class NavarchError(Exception):
    """Root of everything raised on purpose."""


def first_error(group: BaseExceptionGroup[BaseException]) -> NavarchError | None:
    """The first error of a group, however deep: the one to tell. None if something in it was not raised on purpose."""
    ours, others = group.split(NavarchError)
    if ours is None or others is not None:
        return None
    error: BaseException = ours
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, NavarchError)
    return error


class SettingsError(NavarchError):
    """Something the user configured is wrong."""


class TransportError(NavarchError):
    """A peer could not be reached, or the connection broke before the answer was complete."""


class StorageUnavailable(TransportError):
    """The storage did not answer; whether a write took effect is unknown."""


class RevisionConflict(NavarchError):
    """The key is not at the expected revision; nothing was written."""


class RevisionCompacted(NavarchError):
    """The requested revision has been compacted; start again from the present."""

    def __init__(self, message: str = "", *, oldest_revision: int = 0) -> None:
        super().__init__(message or f"revision compacted; oldest kept is {oldest_revision}")
        self.oldest_revision = oldest_revision


class StatusError(NavarchError):
    """A failure as the Kubernetes API expresses it.

    `details` is the Status' details object (name, group, kind, uid, causes, retryAfterSeconds) or None.
    """

    code = 500
    reason = "InternalError"

    def __init__(self, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    @classmethod
    def plain(cls, message: str) -> StatusError:
        """A failure that upstream did not think of: 500 without a reason."""
        error = StatusError(message)
        error.reason = ""
        return error

    def to_status(self) -> dict[str, Any]:
        """The Status object to send."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": encodable(self.message),
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:  # upstream sends an empty object for failures that are about no resource
            status["details"] = self.details
        status["code"] = self.code
        return status


class BadRequest(StatusError):
    """400: the request itself can't be understood."""

    code, reason = 400, "BadRequest"


class Unauthorized(StatusError):
    """401: who asks could not be established."""

    code, reason = 401, "Unauthorized"


class Forbidden(StatusError):
    """403: known, but not allowed."""

    code, reason = 403, "Forbidden"


class NotFound(StatusError):
    """404: the object, or the path, does not exist."""

    code, reason = 404, "NotFound"


class MethodNotAllowed(StatusError):
    """405: the resource does not have this verb."""

    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(StatusError):
    """406: no representation that the client accepts can be made."""

    code, reason = 406, "NotAcceptable"


class AlreadyExists(StatusError):
    """409: an object of this name exists."""

    code, reason = 409, "AlreadyExists"


class Conflict(StatusError):
    """409: the object changed since the client read it, or a precondition failed."""

    code, reason = 409, "Conflict"


class Gone(StatusError):
    """410: what was asked for is no longer there and will not come back."""

    code, reason = 410, "Gone"


class Expired(StatusError):
    """410: the resourceVersion or continue token is older than what is kept."""

    code, reason = 410, "Expired"


class TooLarge(StatusError):
    """413: the body exceeds the limit."""

    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(StatusError):
    """415: the body's media type can't be read."""

    code, reason = 415, "UnsupportedMediaType"


class Invalid(StatusError):
    """422: understood, but semantically wrong; `details.causes` says where."""

    code, reason = 422, "Invalid"


class TooManyRequests(StatusError):
    """429: try again after `details.retryAfterSeconds`."""

    code, reason = 429, "TooManyRequests"


class InternalError(StatusError):
    """500: the server failed."""

    code, reason = 500, "InternalError"


class ServiceUnavailable(StatusError):
    """503: the server can't answer now."""

    code, reason = 503, "ServiceUnavailable"


class ServerTimeout(StatusError):
    """504 with reason ServerTimeout: the operation could not be completed now; retry."""

    code, reason = 504, "ServerTimeout"


class Timeout(StatusError):
    """504: the request did not finish in time."""

    code, reason = 504, "Timeout"


_BY_REASON: dict[str, type[StatusError]] = {cls.reason: cls for cls in StatusError.__subclasses__()}
_BY_CODE: dict[int, type[StatusError]] = {}
for _cls in StatusError.__subclasses__():
    _BY_CODE.setdefault(_cls.code, _cls)


def status_error(status: dict[str, Any]) -> StatusError:
    """The exception for a Status object received from a server (or from a webhook)."""
    code = int(status.get("code") or 500)
    cls = _BY_REASON.get(status.get("reason") or "") or _BY_CODE.get(code) or StatusError
    error = cls(status.get("message") or "", details=status.get("details"))
    error.code = code
    error.reason = status.get("reason") or ""
    return error
