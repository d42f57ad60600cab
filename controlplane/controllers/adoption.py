"""Who owns what: a controller adopts orphans that its selector matches and releases what it no longer matches.

`plan_claims` decides, `Claimer` carries it out.

Source: k8s.io/kubernetes/pkg/controller/controller_ref_manager.go; community proposal "ControllerRef".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from machinery.api.labels import Selector
from machinery.api.meta import (
    Object,
    controller_of,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
)
from machinery.api.resource import ResourceType
from machinery.client.rest import STRATEGIC, Client
from machinery.errors import Invalid, NotFound


@dataclass(frozen=True)
class Claims:
    """What is the owner's, and what should become or cease to be."""

    owned: list[Object] = field(default_factory=list)
    adopt: list[Object] = field(default_factory=list)
    release: list[Object] = field(default_factory=list)


def plan_claims(
    owner: Object,
    selector: Selector,
    candidates: Iterable[Object],
    adoptable: Callable[[Object], bool] = lambda _: True,
) -> Claims:
    """Sort the candidates (of the owner's namespace) by what the owner has to do with them."""
    claims = Claims()
    uid, owner_leaves = uid_of(owner), is_deleting(owner)
    for obj in candidates:
        reference = controller_of(obj)
        matches = selector.matches(labels_of(obj)) and adoptable(obj)
        if reference is not None:
            if reference.get("uid") != uid:
                continue
            if matches:
                claims.owned.append(obj)
            elif not owner_leaves:
                claims.release.append(obj)
        elif matches and not owner_leaves and not is_deleting(obj):
            claims.adopt.append(obj)
    return claims


@dataclass(frozen=True)
class Claimer:
    """Writes claims to the API server."""

    client: Client
    owners: ResourceType
    dependants: ResourceType

    async def claim(
        self,
        owner: Object,
        selector: Selector,
        candidates: Iterable[Object],
        *,
        adoptable: Callable[[Object], bool] = lambda _: True,
        finalizer: str = "",
    ) -> list[Object]:
        """Adopt and release; returns what the owner owns afterwards.

        `finalizer` is put on what is adopted and taken off what is released.
        Raises the first error of a write, after all of them have been tried; Conflict if the owner is no longer the
        same object at the API server.
        """
        claims = plan_claims(owner, selector, candidates, adoptable)
        if not claims.adopt and not claims.release:
            return claims.owned
        if claims.adopt:
            await self._must_exist(owner)
        tried = await asyncio.gather(
            *(self._adopt(owner, obj, finalizer) for obj in claims.adopt),
            *(self._release(owner, obj, finalizer) for obj in claims.release),
            return_exceptions=True,
        )
        for result in tried:
            if isinstance(result, BaseException):
                raise result
        adopted = [obj for obj in tried[: len(claims.adopt)] if isinstance(obj, dict)]
        return claims.owned + adopted

    async def _must_exist(self, owner: Object) -> None:
        """Ask the API server, not the cache: what an owner that is gone adopts would fall to the garbage collector."""
        fresh = await self.client.get(self.owners, name_of(owner), namespace_of(owner))
        if uid_of(fresh) != uid_of(owner) or is_deleting(fresh):
            raise NotFound(
                f"original {self.owners.kind} {namespace_of(owner)}/{name_of(owner)} is gone: "
                f"got uid {uid_of(fresh)}, wanted {uid_of(owner)}"
            )

    async def _adopt(self, owner: Object, obj: Object, finalizer: str) -> Object | None:
        metadata: Object = {"uid": uid_of(obj), "ownerReferences": [owner_reference(owner, self.owners)]}
        if finalizer:
            metadata["finalizers"] = [finalizer]
        try:
            return await self._patch(obj, metadata)
        except NotFound:
            return None

    async def _release(self, owner: Object, obj: Object, finalizer: str) -> None:
        metadata: Object = {"uid": uid_of(obj), "ownerReferences": [{"$patch": "delete", "uid": uid_of(owner)}]}
        if finalizer:
            metadata["$deleteFromPrimitiveList/finalizers"] = [finalizer]
        try:
            await self._patch(obj, metadata)
        except (NotFound, Invalid):
            # Gone, or already without the reference: what was wanted is true.
            return

    async def _patch(self, obj: Object, metadata: Object) -> Object:
        return await self.client.patch(
            self.dependants, name_of(obj), {"metadata": metadata}, namespace_of(obj), content_type=STRATEGIC
        )
