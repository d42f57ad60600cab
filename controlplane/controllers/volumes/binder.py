"""Binding claims to volumes, and reclaiming volumes whose claim is gone.

A binding is four writes (volume, its phase, claim, its phase); each reconcile does the next that is missing, so that it
can be broken off anywhere.

Source: k8s.io/kubernetes/pkg/controller/volume/persistentvolume/pv_controller.go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from controlplane.controllers import metrics
from controlplane.controllers.environment import Environment
from controlplane.controllers.freshness import Written
from controlplane.controllers.volumes.bindings import (
    awaited,
    bound_status,
    default_class,
    pointed,
    reserved,
    waits_for_consumer,
    with_annotations,
)
from controlplane.controllers.volumes.matching import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    PROVISIONED_BY,
    best_volume,
    class_of,
    mismatch,
    refers_to,
)
from controlplane.controllers.volumes.protection import CLAIM_INDEX, claim_keys
from machinery.api.catalogue import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, STORAGECLASSES
from machinery.api.meta import (
    Object,
    annotations_of,
    format_time,
    is_deleting,
    key_of,
    name_of,
    uid_of,
)
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import NotFound
from machinery.events import EventRecorder
from machinery.periodic import every

ACCOUNT = "persistent-volume-binder"
_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
_OLD_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
NO_PROVISIONER = "kubernetes.io/no-provisioner"


@dataclass(frozen=True)
class VolumeBinder:
    """Works on one claim, or one volume, at a time."""

    claims: Informer
    volumes: Informer
    classes: Informer
    client: Client
    recorder: EventRecorder
    clock: Clock
    consumers: Callable[[Object], list[Object]]
    """The pods that use a claim."""

    written_claims: Written = field(default_factory=Written)
    written_volumes: Written = field(default_factory=Written)

    # -- claims ------------------------------------------------------------------------------------------------------

    async def reconcile_claim(self, key: str) -> float | None:
        """Bind the claim, if a volume fits."""
        claim = self.claims.get(key)
        if claim is None:
            self.written_claims.forget(key)
            return None
        if self.written_claims.is_stale(key, claim):
            return None
        if BIND_COMPLETED in annotations_of(claim):
            await self._keep_bound(claim)
        else:
            await self._bind_new(claim)
        return None

    async def _keep_bound(self, claim: Object) -> None:
        name = claim["spec"].get("volumeName")
        if not name:
            told = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
            await self._lose(claim, "ClaimLost", told)
            return
        volume = await self._volume(name)
        if volume is None:
            told = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
            await self._lose(claim, "ClaimLost", told)
        elif not volume["spec"].get("claimRef") or refers_to(volume, claim):
            await self._bind(claim, volume)
        else:
            told = "Two claims are bound to the same volume, this one is bound incorrectly"
            await self._lose(claim, "ClaimMisbound", told)

    async def _bind_new(self, claim: Object) -> None:
        if is_deleting(claim):
            return
        name = claim["spec"].get("volumeName")
        if name:
            await self._bind_named(claim, await self._volume(name))
            return
        if claim["spec"].get("storageClassName") is None and not class_of(claim):
            claim = await self._assign_default_class(claim)
        storage_class = self.classes.get(class_of(claim)) if class_of(claim) else None
        waits = waits_for_consumer(claim, storage_class)
        volume = best_volume(claim, self.volumes.list(), only_reserved=waits)
        if volume is not None and not self.written_volumes.is_stale(name_of(volume), volume):
            await self._bind(claim, volume)
            return
        claim = await self._explain(claim, storage_class, waits=waits)
        await self._set_phase(claim, "Pending")

    async def _bind_named(self, claim: Object, volume: Object | None) -> None:
        """The user asked for one volume."""
        if volume is None:
            await self._set_phase(claim, "Pending")
            return
        if not volume["spec"].get("claimRef"):
            if why := mismatch(volume, claim):
                told = f'Cannot bind to requested volume "{name_of(volume)}": {why}'
                self.recorder.warning(claim, "VolumeMismatch", told)
                await self._set_phase(claim, "Pending")
                return
            await self._bind(claim, volume)
        elif refers_to(volume, claim):
            await self._bind(claim, volume)
        else:
            told = f'volume "{name_of(volume)}" already bound to a different claim.'
            self.recorder.warning(claim, "FailedBinding", told)
            await self._set_phase(claim, "Pending")

    async def _assign_default_class(self, claim: Object) -> Object:
        """A class that became the default after the claim was made is good for it too."""
        name = default_class(self.classes.list())
        if not name:
            return claim
        changed = {**claim, "spec": {**claim["spec"], "storageClassName": name}}
        return await self._write_claim(changed)

    async def _explain(self, claim: Object, storage_class: Object | None, *, waits: bool) -> Object:
        """Say what the claim waits for, and ask its provisioner for a volume."""
        if waits:
            self.recorder.normal(claim, *awaited(self.consumers(claim)))
            return claim
        name = class_of(claim)
        if not name:
            told = "no persistent volumes available for this claim and no storage class is set"
            self.recorder.normal(claim, "FailedBinding", told)
            return claim
        if storage_class is None:
            told = f'storageclass.storage.k8s.io "{name}" not found'
            self.recorder.warning(claim, "ProvisioningFailed", told)
            return claim
        provisioner = storage_class.get("provisioner") or ""
        if provisioner == NO_PROVISIONER:
            return claim
        if annotations_of(claim).get(_PROVISIONER) != provisioner:
            marks = {_PROVISIONER: provisioner, _OLD_PROVISIONER: provisioner}
            claim = await self._write_claim(with_annotations(claim, **marks))
        told = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the "
            "system administrator. If volume creation is delayed, please verify that the provisioner is running and "
            "correctly registered."
        )
        self.recorder.normal(claim, "ExternalProvisioning", told)
        return claim

    async def _bind(self, claim: Object, volume: Object) -> None:
        wanted = reserved(volume, claim)
        if wanted is not volume:
            volume = await self._write_volume(wanted)
        volume = await self._set_volume_phase(volume, "Bound")
        named = pointed(claim, volume)
        if named is not claim:
            claim = await self._write_claim(named)
        status = bound_status(claim, volume)
        if status != (claim.get("status") or {}):
            await self._write_claim({**claim, "status": status}, "status")

    async def _lose(self, claim: Object, reason: str, message: str) -> None:
        if (claim.get("status") or {}).get("phase") != "Lost":
            self.recorder.warning(claim, reason, message)
            await self._write_claim({**claim, "status": {"phase": "Lost"}}, "status")

    async def _set_phase(self, claim: Object, phase: str) -> None:
        status = claim.get("status") or {}
        if status.get("phase") != phase:
            await self._write_claim({**claim, "status": {**status, "phase": phase}}, "status")

    # -- volumes -----------------------------------------------------------------------------------------------------

    async def reconcile_volume(self, key: str) -> float | None:
        """Bring the volume's phase up to date, and reclaim it when its claim is gone."""
        volume = self.volumes.get(key)
        if volume is None:
            self.written_volumes.forget(key)
            return None
        if self.written_volumes.is_stale(key, volume):
            return None
        reference = volume["spec"].get("claimRef")
        if not reference or not reference.get("uid"):
            await self._set_volume_phase(volume, "Available")
            return None
        claim = await self._claim(reference)
        if claim is None:
            await self._reclaim(volume)
        elif claim["spec"].get("volumeName") == name_of(volume):
            await self._set_volume_phase(volume, "Bound")
        elif claim["spec"].get("volumeName"):
            await self._unbind(volume)  # the claim found another one
        return None

    async def _claim(self, reference: Object) -> Object | None:
        """The claim of a claimRef, if it is still the same one; before it counts as gone the API server is asked."""
        claim = self.claims.get(f"{reference['namespace']}/{reference['name']}")
        if claim is None or uid_of(claim) != reference["uid"]:
            try:
                claim = await self.client.get(PERSISTENTVOLUMECLAIMS, reference["name"], reference["namespace"])
            except NotFound:
                return None
        return claim if uid_of(claim) == reference["uid"] else None

    async def _volume(self, name: str) -> Object | None:
        volume = self.volumes.get(name)
        if volume is not None:
            return volume
        try:
            return await self.client.get(PERSISTENTVOLUMES, name)
        except NotFound:
            return None

    async def _unbind(self, volume: Object) -> None:
        """Free a volume that was reserved for a claim that has another one."""
        if BOUND_BY_CONTROLLER in annotations_of(volume):
            freed = {**volume, "spec": {k: v for k, v in volume["spec"].items() if k != "claimRef"}}
            freed = with_annotations(freed, **{BOUND_BY_CONTROLLER: None})
        else:
            kept = {k: v for k, v in volume["spec"]["claimRef"].items() if k not in ("uid", "resourceVersion")}
            freed = {**volume, "spec": {**volume["spec"], "claimRef": kept}}
        await self._set_volume_phase(await self._write_volume(freed), "Available")

    async def _reclaim(self, volume: Object) -> None:
        phase = (volume.get("status") or {}).get("phase")
        if phase not in ("Released", "Failed"):
            volume = await self._set_volume_phase(volume, "Released")
        policy = volume["spec"].get("persistentVolumeReclaimPolicy") or "Retain"
        if policy == "Retain" or phase == "Failed" or is_deleting(volume):
            return
        name = name_of(volume)
        if policy == "Delete":
            if annotations_of(volume).get(PROVISIONED_BY) or volume["spec"].get("csi"):
                return  # whoever provisioned it deletes it
            told = f'error getting deleter volume plugin for volume "{name}": no deletable volume plugin matched'
            await self._fail(volume, "VolumeFailedDelete", told)
        else:
            await self._fail(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!")

    async def _fail(self, volume: Object, reason: str, message: str) -> None:
        self.recorder.warning(volume, reason, message)
        await self._set_volume_phase(volume, "Failed", message)

    async def _set_volume_phase(self, volume: Object, phase: str, message: str = "") -> Object:
        status = volume.get("status") or {}
        if status.get("phase") == phase:
            return volume  # what others say beside it is theirs
        fresh: Object = {**status, "phase": phase, "lastPhaseTransitionTime": format_time(self.clock.now())}
        fresh.pop("message", None)
        if message:
            fresh["message"] = message
        return await self._write_volume({**volume, "status": fresh}, "status")

    # -- writing -----------------------------------------------------------------------------------------------------

    async def _write_claim(self, claim: Object, subresource: str = "") -> Object:
        made = await self.client.update(PERSISTENTVOLUMECLAIMS, claim, subresource=subresource)
        self.written_claims.note(made)
        return made

    async def _write_volume(self, volume: Object, subresource: str = "") -> Object:
        made = await self.client.update(PERSISTENTVOLUMES, volume, subresource=subresource)
        self.written_volumes.note(made)
        return made


def build(env: Environment) -> list[Controller]:
    """The controller that binds claims and volumes."""
    claims, volumes = env.informer(PERSISTENTVOLUMECLAIMS), env.informer(PERSISTENTVOLUMES)
    classes = env.informer(STORAGECLASSES)
    recorder = env.recorder("persistentvolume-controller", ACCOUNT)
    pods = env.informer(PODS)
    pods.add_index(CLAIM_INDEX, claim_keys)
    binder = VolumeBinder(
        claims,
        volumes,
        classes,
        env.client_for(ACCOUNT),
        recorder,
        env.clock,
        lambda claim: pods.by_index(CLAIM_INDEX, key_of(claim)),
    )
    # One worker each: two claims must not be offered the same volume at once.
    binding = Controller("claims", binder.reconcile_claim, workers=1)
    reclaiming = Controller("volumes", binder.reconcile_volume, workers=1)

    def pending() -> None:
        for claim in claims.list():
            if (claim.get("status") or {}).get("phase") != "Bound":
                binding.enqueue(key_of(claim))

    def claim_changed(old: Object | None, new: Object | None) -> None:
        claim = new or old or {}
        binding.enqueue(key_of(claim))
        if name := claim["spec"].get("volumeName"):
            reclaiming.enqueue(name)

    def volume_changed(old: Object | None, new: Object | None) -> None:
        volume = new or old or {}
        reclaiming.enqueue(name_of(volume))
        if reference := volume["spec"].get("claimRef"):
            binding.enqueue(f"{reference['namespace']}/{reference['name']}")
        elif new is not None:
            pending()

    async def again() -> None:
        pending()

    metrics.VOLUMES.claims, metrics.VOLUMES.volumes = claims.list, volumes.list
    claims.on_change(claim_changed)
    volumes.on_change(volume_changed)
    classes.on_change(lambda old, new: pending())
    return [binding, reclaiming, every("volume_resync", float(env.options["pvclaimbinder-sync-period"]), again)]
