"""Generic ephemeral volumes: a claim for each, that lives as long as its pod.

Source: k8s.io/kubernetes/pkg/controller/volume/ephemeral; KEP-1698.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.controllers import metrics
from controlplane.controllers.environment import Environment
from controlplane.controllers.pods import is_finished
from machinery.api.catalogue import PERSISTENTVOLUMECLAIMS, PODS
from machinery.api.meta import (
    Object,
    controller_of,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
)
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.controller import Controller
from machinery.errors import AlreadyExists, Conflict, NavarchError
from machinery.events import EventRecorder

ACCOUNT = "ephemeral-volume-controller"


def ephemeral_volumes(pod: Object) -> list[Object]:
    """The pod's volumes that want a claim of their own."""
    return [v for v in pod["spec"].get("volumes") or () if v.get("ephemeral")]


def make_claim(pod: Object, volume: Object) -> Object:
    """The claim of one volume."""
    template = volume["ephemeral"]["volumeClaimTemplate"]
    described = template.get("metadata") or {}
    metadata: Object = {
        "name": f"{name_of(pod)}-{volume['name']}",
        "namespace": namespace_of(pod),
        "ownerReferences": [owner_reference(pod, PODS)],
    }
    metadata |= {part: dict(described[part]) for part in ("labels", "annotations") if described.get(part)}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": template.get("spec") or {},
    }


@dataclass(frozen=True)
class EphemeralVolumes:
    """Makes the claims of one pod."""

    pods: Informer
    claims: Informer
    client: Client
    recorder: EventRecorder

    async def reconcile(self, key: str) -> float | None:
        """One pod."""
        pod = self.pods.get(key)
        if pod is None or is_deleting(pod) or is_finished(pod):
            return None
        for volume in ephemeral_volumes(pod):
            await self._ensure(pod, make_claim(pod, volume))
        return None

    async def _ensure(self, pod: Object, claim: Object) -> None:
        present = self.claims.get(key_of(claim))
        try:
            if present is None:
                metrics.EPHEMERAL_CREATES.inc()
                try:
                    await self.client.create(PERSISTENTVOLUMECLAIMS, claim)
                except AlreadyExists:
                    metrics.EPHEMERAL_FAILURES.inc()
                    raise Conflict(f"PVC {key_of(claim)} exists and is not yet in the cache") from None
                except NavarchError:
                    metrics.EPHEMERAL_FAILURES.inc()
                    raise
                return
            owner = controller_of(present)
            if owner is None or owner.get("uid") != uid_of(pod):
                raise AlreadyExists(f"PVC {key_of(claim)} was not created for pod {key_of(pod)} (pod is not owner)")
        except Conflict:
            raise
        except NavarchError as exc:
            self.recorder.warning(pod, "FailedBinding", f"ephemeral volume controller: {exc}")
            raise


def build(env: Environment) -> list[Controller]:
    """The controller of generic ephemeral volumes."""
    pods, claims = env.informer(PODS), env.informer(PERSISTENTVOLUMECLAIMS)
    recorder = env.recorder("ephemeral_volume", ACCOUNT)
    reconciler = EphemeralVolumes(pods, claims, env.client_for(ACCOUNT), recorder)
    workers = env.options.concurrent("ephemeralvolume")
    controller = Controller("ephemeral_volume", reconciler.reconcile, workers=workers)

    def pod_changed(old: Object | None, new: Object | None) -> None:
        if new is not None and old is None and ephemeral_volumes(new):
            controller.enqueue(key_of(new))

    def claim_changed(old: Object | None, new: Object | None) -> None:
        owner = controller_of(old) if new is None and old is not None else None
        if old is not None and owner is not None and owner.get("kind") == "Pod":
            controller.enqueue(f"{namespace_of(old)}/{owner['name']}")

    pods.on_change(pod_changed)
    claims.on_change(claim_changed)
    return [controller]
