"""NoExecute taints of devices: pods that use such a device and don't tolerate it are deleted.

Source: k8s.io/kubernetes/pkg/controller/devicetainteviction; KEP-5055 (DRA device taints and tolerations).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from controlplane.controllers import metrics
from controlplane.controllers.environment import Environment
from controlplane.controllers.nodelifecycle.eviction import Evictor, eviction_time
from controlplane.controllers.nodelifecycle.plan import stay_of
from controlplane.controllers.pods import is_finished
from controlplane.controllers.resourceclaims import CLAIM_INDEX, claim_keys
from machinery.api.catalogue import PODS, RESOURCECLAIMS, RESOURCESLICES
from machinery.api.meta import Object, is_deleting, key_of, uid_of
from machinery.cache.informer import Informer
from machinery.clock import Clock
from machinery.controller import Controller

ACCOUNT = "device-taint-eviction-controller"
DEVICE_INDEX = "device"
REASON = "DeletionByDeviceTaintManager"
MESSAGE = "Device Taint manager: deleting due to NoExecute taint"


def device_key(driver: str, pool: str, device: str) -> str:
    """What identifies a device in its cluster; also the value of the index."""
    return f"{driver}/{pool}/{device}"


def slice_devices(slice_: Object) -> dict[str, list[Object]]:
    """The NoExecute taints of a ResourceSlice's devices."""
    spec = slice_["spec"]
    pool = (spec.get("pool") or {}).get("name", "")
    return {
        device_key(spec.get("driver", ""), pool, device["name"]): taints
        for device in spec.get("devices") or ()
        if (taints := [t for t in device.get("taints") or () if t.get("effect") == "NoExecute"])
    }


def allocated(claim: Object) -> list[Object]:
    """The devices that a claim has."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    return list((allocation.get("devices") or {}).get("results") or ())


def claim_devices(claim: Object) -> list[str]:
    """The index of claims: by the devices they have."""
    return [device_key(r["driver"], r["pool"], r["device"]) for r in allocated(claim)]


def eviction_due(
    pod: Object, claims: Iterable[Object], taints: dict[str, list[Object]], first_seen: datetime
) -> datetime | None:
    """When the pod must go because of its devices; None: not at all."""
    moments = []
    for claim in claims:
        users = (claim.get("status") or {}).get("reservedFor") or ()
        if not any(user.get("uid") == uid_of(pod) for user in users):
            continue
        for result in allocated(claim):
            found = taints.get(device_key(result["driver"], result["pool"], result["device"]))
            if found:
                bearer = {"spec": {"tolerations": result.get("tolerations") or []}, "metadata": pod["metadata"]}
                moments.append(eviction_time(pod, stay_of(bearer, found), first_seen))
    return min((m for m in moments if m is not None), default=None)


@dataclass(frozen=True)
class DeviceEviction:
    """Decides about one pod at a time."""

    pods: Informer
    claims: Informer
    slices: Informer
    evictor: Evictor
    clock: Clock

    async def reconcile(self, key: str) -> float | None:
        """Evict the pod, or return seconds until it must go."""
        pod = self.pods.get(key)
        if pod is None or is_deleting(pod) or is_finished(pod):
            return None
        claims = [c for k in claim_keys(pod) if (c := self.claims.get(k)) is not None]
        taints: dict[str, list[Object]] = {}
        for device in {d for claim in claims for d in claim_devices(claim)}:
            for slice_ in self.slices.by_index(DEVICE_INDEX, device):
                taints |= slice_devices(slice_)
        now = self.clock.now()
        due = eviction_due(pod, claims, taints, now)
        if due is None:
            return None
        if due > now:
            return (due - now).total_seconds()
        await self.evictor.evict(pod)
        metrics.DEVICE_DELETIONS.inc()
        metrics.DEVICE_DELETION_SECONDS.observe((self.clock.now() - due).total_seconds())
        return None


def build(env: Environment) -> list[Controller]:
    """The controller that evicts pods from tainted devices."""
    pods, claims, slices = env.informer(PODS), env.informer(RESOURCECLAIMS), env.informer(RESOURCESLICES)
    pods.add_index(CLAIM_INDEX, claim_keys)
    claims.add_index(DEVICE_INDEX, claim_devices)
    slices.add_index(DEVICE_INDEX, slice_devices)
    evictor = Evictor(
        env.client_for(ACCOUNT),
        env.recorder("device-taint-eviction", ACCOUNT),
        env.clock,
        event="DeviceTaintManagerEviction",
        reason=REASON,
        message=MESSAGE,
    )
    eviction = DeviceEviction(pods, claims, slices, evictor, env.clock)
    workers = env.options.concurrent("device-taint-eviction")
    controller = Controller("device_taint_eviction", eviction.reconcile, workers=workers)

    def claim_changed(old: Object | None, new: Object | None) -> None:
        if new is not None:
            for pod in pods.by_index(CLAIM_INDEX, key_of(new)):
                controller.enqueue(key_of(pod))

    def slice_changed(old: Object | None, new: Object | None) -> None:
        before = slice_devices(old) if old is not None else {}
        for device, taints in (slice_devices(new) if new is not None else {}).items():
            if before.get(device) != taints:
                for claim in claims.by_index(DEVICE_INDEX, device):
                    claim_changed(None, claim)

    def pod_changed(old: Object | None, new: Object | None) -> None:
        if new is not None and claim_keys(new):
            controller.enqueue(key_of(new))

    pods.on_change(pod_changed)
    claims.on_change(claim_changed)
    slices.on_change(slice_changed)
    return [controller]
