"""What needs leave to create besides that for its own verb."""

from __future__ import annotations

from dataclasses import replace

from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.failures import details_of
from controlplane.apiserver.request import RequestInfo, User
from machinery.api import fielderror
from machinery.api.resource import ResourceType
from machinery.errors import Forbidden


async def may_create(api: Api, info: RequestInfo, user: User, resource: ResourceType) -> None:
    """Raises Forbidden."""
    if info.verb == "create":
        return
    allowed, reason = await api.authorize(user, replace(info, verb="create"))
    if not allowed:
        told = f"{resource.group_resource} {fielderror.show(info.name)} is forbidden: {reason}"
        raise Forbidden(told, details=details_of(resource, info.name))
