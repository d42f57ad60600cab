"""Ending namespaces: all their content is deleted, pods first, and then their finalizer.

Source: k8s.io/kubernetes/pkg/controller/namespace; KEP-5080 (ordered namespace deletion).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from controlplane.controllers.discovery import Discovered, discover
from controlplane.controllers.environment import Environment
from controlplane.controllers.pods import is_finished
from machinery.api.catalogue import NAMESPACES, PODS
from machinery.api.meta import Object, condition, format_time, is_deleting, name_of, namespace_of, set_condition
from machinery.api.resource import ResourceType
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import MethodNotAllowed, NotFound, StatusError

ACCOUNT = "namespace-controller"
FINALIZER = "kubernetes"
_AT_ONCE = 10
_FINALIZER_SECONDS = 15.0  # how long whoever owns a finalizer may take before it is worth looking again
_METADATA = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"}
_FINE = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}


@dataclass(frozen=True)
class Leftover:
    """What is still there of one resource after its deletion was asked for."""

    resource: ResourceType
    objects: int
    finalizers: Counter[str] = field(default_factory=Counter)
    grace_seconds: float = 0.0
    error: str = ""


def deletable(discovered: Discovered) -> list[ResourceType]:
    """The namespaced resources whose objects can be deleted, pods first."""
    found = [r for r in discovered.resources if r.namespaced and "delete" in r.verbs and "list" in r.verbs]
    return sorted(found, key=lambda r: (r != PODS, r.group, r.plural))


def plan_conditions(
    standing: Iterable[Object], failed: dict[str, str], leftovers: Iterable[Leftover], now: str
) -> list[Object]:
    """The namespace's conditions after one pass of deletion."""
    problems: dict[str, tuple[str, str]] = {}
    if failed:
        told = ", ".join(f"{name}: {why}" for name, why in sorted(failed.items()))
        problems["NamespaceDeletionDiscoveryFailure"] = (
            "DiscoveryFailed",
            f"Discovery failed for some groups, {len(failed)} failing: unable to retrieve the complete list of server "
            f"APIs: {told}",
        )
    errors = sorted({left.error for left in leftovers if left.error})
    if errors:
        told = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
        problems["NamespaceDeletionContentFailure"] = (
            "ContentDeletionFailed",
            f"Failed to delete all resource types, {len(errors)} remaining: {told}",
        )
    remaining = [
        f"{left.resource.plural}.{left.resource.group} has {left.objects} resource instances"
        for left in leftovers
        if left.objects
    ]
    if remaining:
        problems["NamespaceContentRemaining"] = (
            "SomeResourcesRemain",
            "Some resources are remaining: " + ", ".join(sorted(remaining)),
        )
    finalizers: Counter[str] = Counter()
    for left in leftovers:
        finalizers.update(left.finalizers)
    if finalizers:
        told = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(finalizers.items()))
        problems["NamespaceFinalizersRemaining"] = (
            "SomeFinalizersRemain",
            "Some content in the namespace has finalizers remaining: " + told,
        )
    conditions = [dict(c) for c in standing]
    for kind, fine in _FINE.items():
        reason, message = problems.get(kind, fine)
        status = "True" if kind in problems else "False"
        set_condition(conditions, {"type": kind, "status": status, "reason": reason, "message": message}, now=now)
    return conditions


def grace_of(pods: Iterable[Object]) -> float:
    """The longest time that the running pods of a namespace may still take to stop."""
    seconds = (
        float((pod.get("spec") or {}).get("terminationGracePeriodSeconds") or 0) for pod in pods if not is_finished(pod)
    )
    return max(seconds, default=0.0)


@dataclass(frozen=True)
class NamespaceReconciler:
    """Ends one namespace, if its deletion was asked for."""

    namespaces: Informer
    pods: Informer
    client: Client
    clock: Clock

    async def reconcile(self, key: str) -> float | None:
        """One pass of deletion; returns seconds until the next is worth while."""
        if (cached := self.namespaces.get(key)) is None or not is_deleting(cached):
            return None
        try:
            namespace = await self.client.get(NAMESPACES, key)
        except NotFound:
            return None
        if not is_deleting(namespace):
            return None
        status = namespace.get("status") or {}
        if status.get("phase") != "Terminating":
            changed = {**namespace, "status": {**status, "phase": "Terminating"}}
            namespace = await self.client.update(NAMESPACES, changed, subresource="status")
        if FINALIZER not in (namespace["spec"].get("finalizers") or ()):
            return None
        discovered = await discover(self.client)
        leftovers = await self._delete_content(key, discovered)
        namespace = await self._write_conditions(namespace, discovered.failed, leftovers)
        problems = sorted({left.error for left in leftovers if left.error}) + list(discovered.failed.values())
        if problems:
            raise StatusError(f"namespace {key}: {'; '.join(problems)}")
        waits = [_FINALIZER_SECONDS if left.finalizers else left.grace_seconds for left in leftovers]
        if waits:
            return max(waits) / 2 + 1
        await self._finalize(namespace)
        return None

    async def _delete_content(self, namespace: str, discovered: Discovered) -> list[Leftover]:
        """Delete everything that can be; pods alone while there are any, as they may need the rest to end well."""
        resources = deletable(discovered)
        pods = [r for r in resources if r == PODS]
        leftovers = [left for r in pods if (left := await self._delete_resource(r, namespace)) is not None]
        if leftovers:
            return leftovers
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(resource: ResourceType) -> Leftover | None:
            async with gate:
                return await self._delete_resource(resource, namespace)

        found = await asyncio.gather(*(one(r) for r in resources if r != PODS))
        return [left for left in found if left is not None]

    async def _delete_resource(self, resource: ResourceType, namespace: str) -> Leftover | None:
        try:
            present = await self._list(resource, namespace)
            if not present:
                return None
            await self._delete_all(resource, namespace, present)
            remaining = await self._list(resource, namespace)
        except (NotFound, MethodNotAllowed):
            return None  # the resource itself went meanwhile
        except StatusError as exc:
            return Leftover(resource, 0, error=str(exc))
        if not remaining:
            return None
        finalizers = Counter(name for obj in remaining for name in obj["metadata"].get("finalizers") or ())
        grace = grace_of(self.pods.list(namespace)) if resource == PODS else 0.0
        if not finalizers and not grace:
            grace = 1.0  # being deleted by somebody (kubelet, a grace period of zero) at this moment
        return Leftover(resource, len(remaining), finalizers, grace)

    async def _list(self, resource: ResourceType, namespace: str) -> list[Object]:
        found = await self.client.request("GET", resource.path(namespace), headers=_METADATA)
        return list(found.get("items") or ())

    async def _delete_all(self, resource: ResourceType, namespace: str, present: list[Object]) -> None:
        if "deletecollection" in resource.verbs:
            options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
            await self.client.request("DELETE", resource.path(namespace), body=options)
            return
        for obj in present:
            try:
                await self.client.delete(resource, name_of(obj), namespace, propagation="Background")
            except NotFound:
                continue

    async def _write_conditions(self, namespace: Object, failed: dict[str, str], leftovers: list[Leftover]) -> Object:
        status = namespace.get("status") or {}
        standing = status.get("conditions") or []
        now = format_time(self.clock.now())
        conditions = plan_conditions(standing, failed, leftovers, now)
        if conditions == standing or (not failed and not leftovers and condition(standing, next(iter(_FINE))) is None):
            return namespace  # all went at the first try: not worth a write
        changed = {**namespace, "status": {**status, "conditions": conditions}}
        return await self.client.update(NAMESPACES, changed, subresource="status")

    async def _finalize(self, namespace: Object) -> None:
        finalizers = [f for f in namespace["spec"].get("finalizers") or () if f != FINALIZER]
        changed = {**namespace, "spec": {**namespace["spec"], "finalizers": finalizers}}
        try:
            await self.client.update(NAMESPACES, changed, subresource="finalize")
        except NotFound:
            return


def build(env: Environment) -> list[Controller]:
    """The controller that ends namespaces."""
    namespaces, pods = env.informer(NAMESPACES), env.informer(PODS)
    reconciler = NamespaceReconciler(namespaces, pods, env.client_for(ACCOUNT), env.clock)
    controller = Controller("namespace", reconciler.reconcile, workers=env.options.concurrent("namespace"))

    def namespace_changed(old: Object | None, new: Object | None) -> None:
        if new is not None and is_deleting(new):
            controller.enqueue(name_of(new))

    def pod_changed(old: Object | None, new: Object | None) -> None:
        """The last pod of an ending namespace is gone: the rest can go now."""
        if new is not None or old is None:
            return
        namespace = namespaces.get(namespace_of(old))
        if namespace is not None and is_deleting(namespace) and not pods.list(namespace_of(old)):
            controller.enqueue(name_of(namespace))

    namespaces.on_change(namespace_changed)
    pods.on_change(pod_changed)
    return [controller]
