"""The 403 that a refused request gets, in upstream's words.

Source: k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go.
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.request import RequestInfo, User
from machinery.api.fielderror import show
from machinery.errors import Forbidden


def forbidden(user: User, request: RequestInfo, reason: str = "") -> Forbidden:
    """The answer to `user` whose `request` no authoriser allowed; `reason` is what the authorisers said."""
    told = refusal(user, request)
    if reason:
        told += f": {reason}"
    return forbidden_object(request.group, request.resource, request.name, told)


def refusal(user: User, request: RequestInfo) -> str:
    """What a user may not do: `User "jane" cannot get resource "pods" in API group "" at the cluster scope`."""
    told = f"User {show(user.name)} cannot {request.verb} "
    if request.is_resource:
        resource = f"{request.resource}/{request.subresource}" if request.subresource else request.resource
        told += f"resource {show(resource)} in API group {show(request.group)} "
        told += f"in the namespace {show(request.namespace)}" if request.namespace else "at the cluster scope"
    else:
        told += f"path {show(request.path)}"
    return told


def forbidden_object(group: str, resource: str, name: str, told: str) -> Forbidden:
    """A 403 about one object (or a collection, or nothing): `pods "x" is forbidden: told`."""
    qualified = f"{resource}.{group}" if group else resource
    if not resource:
        message = f"forbidden: {told}"
    elif not name:
        message = f"{qualified} is forbidden: {told}"
    else:
        message = f"{qualified} {show(name)} is forbidden: {told}"
    fields = (("name", name), ("group", group), ("kind", resource))
    details: dict[str, Any] = {key: value for key, value in fields if value}
    return Forbidden(message, details=details)
