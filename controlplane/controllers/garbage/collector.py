"""What the garbage collector does about one object: ask the API server who of its owners lives, then let go or delete.

Source: k8s.io/kubernetes/pkg/controller/garbagecollector/garbagecollector.go; KEP "garbage collection".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from controlplane.controllers.garbage.graph import FOREGROUND, ORPHAN, Graph, Identity, Node, Work
from machinery.api.meta import Object, is_deleting, name_of, namespace_of, uid_of
from machinery.api.resource import ResourceType
from machinery.client.rest import MERGE, Client
from machinery.errors import Conflict, NavarchError, NotFound
from machinery.events import EventRecorder

_METADATA = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"}
_TRIES = 5


class UnknownKind(NavarchError):
    """An owner reference names a kind that the API server does not (or not yet) have."""


@dataclass(frozen=True)
class Verdict:
    """An object's owners, sorted by what they mean for it."""

    solid: list[Object] = field(default_factory=list)
    dangling: list[Object] = field(default_factory=list)
    waiting: list[Object] = field(default_factory=list)
    """Being deleted in the foreground: they wait for this object."""


@dataclass(frozen=True)
class Collector:
    """Works on one uid at a time."""

    graph: Graph
    client: Client
    recorder: EventRecorder
    resource_of: Callable[[str, str], ResourceType | None]
    """(apiVersion, kind) → the resource, None if there is none."""

    spread: Callable[[Work], None]
    """Queue what a finding makes worth looking at."""

    ready: Callable[[], Awaitable[None]]
    """Awaited before anything is judged: the graph must be whole."""

    async def collect(self, uid: str) -> float | None:
        """Delete the object if all its owners are gone, or help its own deletion on."""
        await self.ready()
        node = self.graph.get(uid)
        if node is None or node.virtual or (node.deleting and not node.deleting_dependants):
            return None
        if not node.deleting_dependants and self.graph.is_settled(node):
            return None
        resource = node.identity.resource
        assert resource is not None, "only virtual nodes lack it"
        latest = await self._look_up(resource, node.identity.namespace, node.identity.name)
        if latest is None or uid_of(latest) != uid:
            self.spread(self.graph.remove(uid))
            return None
        if node.deleting_dependants:
            await self._finish_foreground(node, latest)
            return None
        references = latest["metadata"].get("ownerReferences") or []
        if not references:
            return None
        verdict = await self._judge(node, latest, references)
        if verdict is None:
            return None
        if verdict.solid:
            gone = {ref["uid"] for ref in verdict.dangling + verdict.waiting}
            if gone:
                await self._drop_references(node.identity, gone)
        elif verdict.waiting and node.dependants:
            if any(dependant.deleting_dependants for dependant in node.dependants.values()):
                # A circle: the owner's wait for this object is ended, or all would wait for ever.
                await self._unblock(node.identity, {ref["uid"] for ref in verdict.waiting})
            await self._delete(node.identity, latest, "Foreground")
        else:
            await self._delete(node.identity, latest, _policy(latest))
        return None

    async def orphan(self, uid: str) -> float | None:
        """Take the references to an object that is going away from its dependants, then let it go."""
        await self.ready()
        node = self.graph.get(uid)
        if node is None or node.virtual:
            return None
        dependants = list(node.dependants.values())
        results = await asyncio.gather(
            *(self._drop_references(d.identity, {uid}) for d in dependants if not d.virtual), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        await self._remove_finalizer(node.identity, ORPHAN)
        return None

    # -- judging -----------------------------------------------------------------------------------------------------

    async def _judge(self, node: Node, latest: Object, references: list[Object]) -> Verdict | None:
        """Sort the owners; None if a reference can't mean anything, so that the object must be let be."""
        verdict = Verdict()
        for reference in references:
            if reference["uid"] in self.graph.absent:
                verdict.dangling.append(reference)
                continue
            resource = self.resource_of(reference["apiVersion"], reference["kind"])
            if resource is None:
                raise UnknownKind(
                    f"unable to get REST mapping for {reference['apiVersion']}/{reference['kind']}, "
                    f"the owner of {node.identity}"
                )
            if resource.namespaced and not node.identity.namespace:
                self._tell_invalid(node.identity, latest, reference)
                return None
            namespace = node.identity.namespace if resource.namespaced else ""
            owner = await self._look_up(resource, namespace, reference["name"])
            if owner is None or uid_of(owner) != reference["uid"]:
                if not self._lives_elsewhere(node.identity, latest, reference):
                    self.graph.note_absent(reference["uid"])
                verdict.dangling.append(reference)
            elif is_deleting(owner) and FOREGROUND in (owner["metadata"].get("finalizers") or ()):
                verdict.waiting.append(reference)
            else:
                verdict.solid.append(reference)
        return verdict

    def _lives_elsewhere(self, identity: Identity, latest: Object, reference: Object) -> bool:
        """Whether the uid is of another object than the reference tells; if in another namespace, users are told."""
        owner = self.graph.get(reference["uid"])
        if owner is None or owner.virtual:
            return False
        if owner.identity.namespace not in ("", identity.namespace):
            self._tell_invalid(identity, latest, reference)
        return True

    def _tell_invalid(self, identity: Identity, latest: Object, reference: Object) -> None:
        told = (
            f"ownerRef [{reference['apiVersion']}/{reference['kind']}, namespace: {identity.namespace}, "
            f"name: {reference['name']}, uid: {reference['uid']}] does not exist in namespace "
            f'"{identity.namespace}"'
        )
        about = {**latest, "apiVersion": identity.api_version, "kind": identity.kind}
        self.recorder.warning(about, "OwnerRefInvalidNamespace", told)

    async def _look_up(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        try:
            return await self.client.request("GET", resource.path(namespace, name), headers=_METADATA)
        except NotFound:
            return None

    # -- acting ------------------------------------------------------------------------------------------------------

    async def _finish_foreground(self, node: Node, latest: Object) -> None:
        blocking = node.blocking_dependants()
        if not blocking:
            await self._remove_finalizer(node.identity, FOREGROUND, latest)
            return
        waiting = [dependant.identity.uid for dependant in blocking if not dependant.deleting_dependants]
        self.spread(Work(delete=waiting))

    async def _delete(self, identity: Identity, latest: Object, policy: str) -> None:
        assert identity.resource is not None, "judged above"
        try:
            await self.client.delete(
                identity.resource,
                identity.name,
                identity.namespace,
                uid=identity.uid,
                # If the owners changed since they were judged, the judgement no longer holds.
                resource_version=str(latest["metadata"]["resourceVersion"]),
                propagation=policy,
            )
        except NotFound:
            return

    async def _drop_references(self, identity: Identity, gone: set[str]) -> None:
        def without(latest: Object) -> Object | None:
            before = latest["metadata"].get("ownerReferences") or []
            kept = [ref for ref in before if ref["uid"] not in gone]
            return {"ownerReferences": kept or None} if len(kept) < len(before) else None

        await self._change(identity, without)

    async def _unblock(self, identity: Identity, owners: set[str]) -> None:
        def unblocked(latest: Object) -> Object | None:
            before = latest["metadata"].get("ownerReferences") or []
            after = [{**ref, "blockOwnerDeletion": False} if ref["uid"] in owners else ref for ref in before]
            return {"ownerReferences": after} if after != before else None

        await self._change(identity, unblocked)

    async def _remove_finalizer(self, identity: Identity, name: str, latest: Object | None = None) -> None:
        def without(seen: Object) -> Object | None:
            before = seen["metadata"].get("finalizers") or []
            if name not in before:
                return None
            return {"finalizers": [f for f in before if f != name] or None}

        await self._change(identity, without, latest)

    async def _change(
        self, identity: Identity, change: Callable[[Object], Object | None], latest: Object | None = None
    ) -> None:
        """Patch metadata of exactly this object, on the revision that the patch was made for."""
        assert identity.resource is not None, "virtual nodes are not changed"
        for _ in range(_TRIES):
            if latest is None:
                latest = await self._look_up(identity.resource, identity.namespace, identity.name)
            if latest is None or uid_of(latest) != identity.uid:
                return
            metadata = change(latest)
            if metadata is None:
                return
            metadata |= {"uid": identity.uid, "resourceVersion": latest["metadata"]["resourceVersion"]}
            try:
                await self.client.patch(
                    identity.resource,
                    name_of(latest),
                    {"metadata": metadata},
                    namespace_of(latest),
                    content_type=MERGE,
                )
            except NotFound:
                return
            except Conflict:
                latest = None
                continue
            return
        raise Conflict(f"{identity} changed {_TRIES} times while its metadata was to be changed")


def _policy(latest: Object) -> str:
    """How the object goes: as its own finalizers say, else in the background."""
    finalizers = latest["metadata"].get("finalizers") or ()
    if ORPHAN in finalizers:
        return "Orphan"
    return "Foreground" if FOREGROUND in finalizers else "Background"
