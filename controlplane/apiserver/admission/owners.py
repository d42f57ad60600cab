"""OwnerReferencesPermissionEnforcement: nobody lets the garbage collector delete what he may not.

Source: k8s.io/kubernetes/plugin/pkg/admission/gc.
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import CREATE, UPDATE, BasePlugin, refuse
from controlplane.apiserver.admission.policy.params import resource_of
from controlplane.apiserver.handlers.contract import Authorize
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.request import RequestInfo
from machinery.api.catalogue import PODS
from machinery.api.meta import Object


class OwnerReferencesPermissionEnforcement(BasePlugin):
    """Changes of ownerReferences need the right to delete; blocking an owner's deletion, that to its finalizers."""

    name = "OwnerReferencesPermissionEnforcement"

    def __init__(self, reader: Reader, authorize: Authorize) -> None:
        self._reader = reader
        self._authorize = authorize

    def handles(self, operation: Operation) -> bool:
        """All creations and updates, but those of a pod's binding and status."""
        if operation.resource == PODS and operation.subresource in ("binding", "status"):
            return False
        return operation.verb in (CREATE, UPDATE)

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden."""
        old, new = _owners(operation.old), _owners(operation.object)
        if _by_uid(old) != _by_uid(new) and operation.old is not None:
            asked = RequestInfo(
                verb="delete",
                path="",
                is_resource=True,
                group=operation.resource.group,
                version=operation.resource.version,
                resource=operation.resource.plural,
                namespace=operation.namespace,
                name=operation.name,
            )
            allowed, reason = await self._authorize(operation.user, asked)
            if not allowed:
                raise refuse(operation, f"cannot set an ownerRef on a resource you can't delete: {reason}, <nil>")
        blocked = {o.get("uid") for o in old if o.get("blockOwnerDeletion")}
        for owner in new:
            if owner.get("blockOwnerDeletion") and owner.get("uid") not in blocked:
                await self._may_block(operation, owner)

    async def _may_block(self, operation: Operation, owner: Any) -> None:
        resource = resource_of(self._reader, owner)
        if resource is None:
            told = f"no RESTMapping found for kind {owner.get('apiVersion')}, Kind={owner.get('kind')}"
            raise refuse(
                operation, f"cannot set blockOwnerDeletion in this case because cannot find RESTMapping: {told}"
            )
        asked = RequestInfo(
            verb="update",
            path="",
            is_resource=True,
            group=resource.group,
            version=resource.version,
            resource=resource.plural,
            subresource="finalizers",
            namespace=operation.namespace if resource.namespaced else "",
            name=str(owner.get("name") or ""),
        )
        allowed, reason = await self._authorize(operation.user, asked)
        if not allowed:
            raise refuse(
                operation,
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: "
                f"{reason}, <nil>",
            )


def _owners(obj: Object | None) -> list[Any]:
    return ((obj or {}).get("metadata") or {}).get("ownerReferences") or []


def _by_uid(owners: list[Any]) -> dict[str, Any]:
    return {str(owner.get("uid")): owner for owner in owners}
