"""Failures about one object, in upstream's words.

Source: k8s.io/apimachinery/pkg/api/errors.
"""

from __future__ import annotations

from typing import Any

from machinery.api.fielderror import show
from machinery.api.resource import ResourceType
from machinery.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    NotFound,
    ServiceUnavailable,
    StatusError,
    TooManyRequests,
    Unauthorized,
)

OUTDATED = "the object has been modified; please apply your changes to the latest version and try again"


def details_of(resource: ResourceType, name: str, kind: str = "") -> dict[str, Any]:
    """A Status's details about one object."""
    details = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    return {**details, "kind": kind or resource.plural}


def not_found(resource: ResourceType, name: str) -> NotFound:
    """The object does not exist."""
    return NotFound(f"{resource.group_resource} {show(name)} not found", details=details_of(resource, name))


def already_exists(resource: ResourceType, name: str) -> AlreadyExists:
    """An object of this name exists."""
    return AlreadyExists(f"{resource.group_resource} {show(name)} already exists", details=details_of(resource, name))


def conflict(resource: ResourceType, name: str, told: str = OUTDATED) -> Conflict:
    """The object is not what the writer took it for."""
    message = f"Operation cannot be fulfilled on {resource.group_resource} {show(name)}: {told}"
    return Conflict(message, details=details_of(resource, name))


def kind_conflict(resource: ResourceType, name: str, told: str) -> Conflict:
    """The same, naming the kind: what preconditions of a deletion say."""
    qualified = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    message = f"Operation cannot be fulfilled on {qualified} {show(name)}: {told}"
    return Conflict(message, details=details_of(resource, name, resource.kind))


def no_such_resource() -> NotFound:
    """The path names no resource that is served."""
    return NotFound("the server could not find the requested resource", details={})


def no_such_method() -> MethodNotAllowed:
    """The path does not take this method."""
    return MethodNotAllowed("the server does not allow this method on the requested resource", details={})


_PEER_FAILURES: dict[int, tuple[type[StatusError], str]] = {
    401: (Unauthorized, "the server has asked for the client to provide credentials"),
    404: (NotFound, "the server could not find the requested resource"),
    405: (MethodNotAllowed, "the server does not allow this method on the requested resource"),
    429: (TooManyRequests, "the server has received too many requests and has asked us to try again later"),
    503: (ServiceUnavailable, "the server is currently unable to handle the request"),
}


def peer_failure(kind: str, name: str, status: int, text: str) -> StatusError:
    """What is told of a failure that another server (a kubelet) answered in plain text.

    Source: k8s.io/apiserver/pkg/registry/generic/rest/response_checker.go, NewGenericServerResponse.
    """
    if status == 500:
        return InternalError(f"Internal error occurred: {text}", details={"causes": [{"message": text}]})
    if status == 400:
        return BadRequest(text)
    details = {"name": name, "kind": kind}
    if status == 403:
        return Forbidden(f"{text} ( {kind} {name})", details=details)
    known, told = _PEER_FAILURES.get(
        status, (None, f"the server responded with the status code {status} but did not return more information")
    )
    error = (known or StatusError)(f"{told} ( {kind} {name})", details=details)
    if known is None:
        error.code, error.reason = status, ""
    return error
