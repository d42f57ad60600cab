"""Claims, volumes and volume attributes classes that are in use are not removed under their users.

Source: k8s.io/kubernetes/pkg/controller/volume/{pvcprotection,pvprotection,vacprotection}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from controlplane.controllers.environment import Environment
from machinery.api.catalogue import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, VOLUMEATTRIBUTESCLASSES
from machinery.api.meta import Object, is_deleting, key_of, name_of, namespace_of, uid_of
from machinery.api.resource import ResourceType
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.controller import Controller
from machinery.errors import NotFound

CLAIM_ACCOUNT, VOLUME_ACCOUNT = "pvc-protection-controller", "pv-protection-controller"
ATTRIBUTES_ACCOUNT = "volumeattributesclass-protection-controller"
CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
ATTRIBUTES_FINALIZER = "kubernetes.io/vac-protection"


def claims_used(pod: Object) -> set[str]:
    """Names of the claims that a pod's volumes are."""
    names = set()
    for volume in pod["spec"].get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            names.add(volume["persistentVolumeClaim"]["claimName"])
        elif volume.get("ephemeral"):
            names.add(f"{name_of(pod)}-{volume['name']}")
    return names


CLAIM_INDEX = "claim"


def claim_keys(pod: Object) -> list[str]:
    """The index of pods: by the keys of the claims they use."""
    return [f"{namespace_of(pod)}/{name}" for name in claims_used(pod)]


def uses_claim(pods: Iterable[Object], name: str) -> bool:
    """Whether one of the pods, bound to a node, has the claim as a volume: an unbound one will never start with it."""
    return any(pod["spec"].get("nodeName") and name in claims_used(pod) for pod in pods)


@dataclass(frozen=True)
class Protector:
    """Puts a finalizer on every object of one resource, and takes it off when a deleted one is free."""

    resource: ResourceType
    finalizer: str
    objects: Informer
    client: Client
    in_use: Callable[[Object], Awaitable[bool]]

    async def reconcile(self, key: str) -> float | None:
        """One object."""
        obj = self.objects.get(key)
        if obj is None:
            return None
        finalizers = list(obj["metadata"].get("finalizers") or ())
        if is_deleting(obj):
            if self.finalizer in finalizers and not await self.in_use(obj):
                await self._write(obj, [f for f in finalizers if f != self.finalizer])
        elif self.finalizer not in finalizers:
            await self._write(obj, [*finalizers, self.finalizer])
        return None

    async def _write(self, obj: Object, finalizers: list[str]) -> None:
        changed = {**obj, "metadata": {**obj["metadata"], "finalizers": finalizers}}
        try:
            await self.client.update(self.resource, changed)
        except NotFound:
            return


def build_claims(env: Environment) -> list[Controller]:
    """The protection of claims that pods use."""
    claims, pods, client = env.informer(PERSISTENTVOLUMECLAIMS), env.informer(PODS), env.client_for(CLAIM_ACCOUNT)

    async def in_use(claim: Object) -> bool:
        namespace = namespace_of(claim)
        if uses_claim(pods.list(namespace), name_of(claim)):
            return True
        # The cache may not show a pod that was bound just now: the API server has the last word.
        fresh = await client.list(PODS, namespace)
        return uses_claim(fresh.items, name_of(claim))

    protector = Protector(PERSISTENTVOLUMECLAIMS, CLAIM_FINALIZER, claims, client, in_use)
    controller = Controller("pvcprotection", protector.reconcile, workers=1)

    def pod_changed(old: Object | None, new: Object | None) -> None:
        if new is not None and old is not None and uid_of(old) == uid_of(new):
            return
        pod = old or new or {}
        for name in claims_used(pod):
            controller.enqueue(f"{namespace_of(pod)}/{name}")

    claims.on_change(lambda old, new: controller.enqueue(key_of(new)) if new is not None else None)
    pods.on_change(pod_changed)
    return [controller]


def build_volumes(env: Environment) -> list[Controller]:
    """The protection of volumes that are bound."""
    volumes = env.informer(PERSISTENTVOLUMES)

    async def in_use(volume: Object) -> bool:
        return (volume.get("status") or {}).get("phase") == "Bound"

    client = env.client_for(VOLUME_ACCOUNT)
    protector = Protector(PERSISTENTVOLUMES, VOLUME_FINALIZER, volumes, client, in_use)
    controller = Controller("pvprotection", protector.reconcile, workers=1)
    volumes.on_change(lambda old, new: controller.enqueue(name_of(new)) if new is not None else None)
    return [controller]


def build_attributes(env: Environment) -> list[Controller]:
    """The protection of volume attributes classes that claims or volumes have."""
    classes, claims, volumes = (
        env.informer(VOLUMEATTRIBUTESCLASSES),
        env.informer(PERSISTENTVOLUMECLAIMS),
        env.informer(PERSISTENTVOLUMES),
    )

    async def in_use(attributes: Object) -> bool:
        name = name_of(attributes)
        return any(name in classes_used(claim) for claim in claims.list()) or any(
            v["spec"].get("volumeAttributesClassName") == name for v in volumes.list()
        )

    client = env.client_for(ATTRIBUTES_ACCOUNT)
    protector = Protector(VOLUMEATTRIBUTESCLASSES, ATTRIBUTES_FINALIZER, classes, client, in_use)
    controller = Controller("volumeattributesclassprotection", protector.reconcile, workers=1)

    def user_changed(old: Object | None, new: Object | None) -> None:
        for attributes in classes.list():
            if is_deleting(attributes):
                controller.enqueue(name_of(attributes))

    classes.on_change(lambda old, new: controller.enqueue(name_of(new)) if new is not None else None)
    claims.on_change(user_changed)
    volumes.on_change(user_changed)
    return [controller]


def classes_used(claim: Object) -> set[str]:
    """The volume attributes classes that a claim has, or is on the way to."""
    status = claim.get("status") or {}
    names = {
        claim["spec"].get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    }
    return {str(name) for name in names if name}
