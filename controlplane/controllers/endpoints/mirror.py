"""Slices that mirror Endpoints made by hand, for Services without a selector.

Source: k8s.io/kubernetes/pkg/controller/endpointslicemirroring; KEP-752.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from dataclasses import dataclass

from controlplane.controllers.endpoints.controller import SERVICE_INDEX, SliceHand, SliceTracker, service_keys
from controlplane.controllers.endpoints.model import CHANGE_TRIGGER, MANAGED_BY, PortSet, selector_text
from controlplane.controllers.endpoints.slices import SliceMaker, SlicePlan, plan_slices
from controlplane.controllers.environment import Environment
from machinery.api.catalogue import ENDPOINTS, ENDPOINTSLICES, SERVICES
from machinery.api.meta import Object, annotations_of, is_deleting, key_of, labels_of, name_of
from machinery.cache.informer import Informer
from machinery.controller import Controller
from machinery.errors import NavarchError
from machinery.events import EventRecorder

ACCOUNT = "endpointslicemirroring-controller"
MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_NOT_COPIED = frozenset({CHANGE_TRIGGER, "kubectl.kubernetes.io/last-applied-configuration"})
FAMILIES = ("IPv4", "IPv6")


def should_mirror(service: Object | None, endpoints: Object | None) -> bool:
    """Whether these Endpoints are made by hand and meant for a Service."""
    if service is None or endpoints is None or is_deleting(endpoints) or selector_text(service) is not None:
        return False
    if service["spec"].get("type") == "ExternalName" and service["spec"].get("selector"):
        return False
    return labels_of(endpoints).get(SKIP) != "true" and _LEADER not in annotations_of(endpoints)


def mirrored(endpoints: Object, family: str, limit: int) -> tuple[dict[PortSet, list[Object]], int]:
    """(the endpoints of one address family by their ports, how many addresses were left out)."""
    found: dict[PortSet, dict[str, Object]] = defaultdict(dict)
    skipped = 0
    for subset in endpoints.get("subsets") or ():
        ports = PortSet.of([{"name": "", "protocol": "TCP", **port} for port in subset.get("ports") or ()])
        taken = 0
        for part, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(part) or ():
                if _family(address["ip"]) != family:
                    continue
                if taken >= limit:
                    skipped += 1
                    continue
                taken += 1
                found[ports].setdefault(address["ip"], _endpoint(address, ready=ready))
    return {ports: list(by_address.values()) for ports, by_address in found.items()}, skipped


def _family(text: str) -> str:
    try:
        return f"IPv{ipaddress.ip_address(text).version}"
    except ValueError:
        return ""


def _endpoint(address: Object, *, ready: bool) -> Object:
    made: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for name in ("hostname", "nodeName", "targetRef"):
        if address.get(name):
            made[name] = address[name]
    return made


def plan_mirror(
    service_name: str, endpoints: Object, existing: list[Object], per_slice: int, per_subset: int
) -> tuple[SlicePlan, int]:
    """(the writes that make the slices mirror the Endpoints, how many addresses don't fit)."""
    annotations = {k: v for k, v in annotations_of(endpoints).items() if k not in _NOT_COPIED}
    maker = SliceMaker(
        owner=endpoints,
        owner_kind=ENDPOINTS,
        manager=MANAGER,
        labels={k: v for k, v in labels_of(endpoints).items() if k != SKIP},
        annotations=annotations,
        headless=False,
        service_name=service_name,
    )
    create: list[Object] = []
    update: list[Object] = []
    delete: list[Object] = []
    left_out = 0
    for family in FAMILIES:
        desired, skipped = mirrored(endpoints, family, per_subset)
        left_out += skipped
        own = [s for s in existing if s.get("addressType") == family]
        if not desired:
            delete += own
            continue
        part = plan_slices(maker, family, own, desired, per_slice)
        create += part.create
        update += part.update
        delete += part.delete
    return SlicePlan(tuple(create), tuple(update), tuple(delete)), left_out


@dataclass(frozen=True)
class MirrorReconciler:
    """Mirrors the Endpoints of one Service."""

    services: Informer
    endpoints: Informer
    slices: Informer
    hand: SliceHand
    recorder: EventRecorder
    per_slice: int
    per_subset: int

    async def reconcile(self, key: str) -> float | None:
        """One Service and its Endpoints."""
        mine = [s for s in self.slices.by_index(SERVICE_INDEX, key) if labels_of(s).get(MANAGED_BY) == MANAGER]
        if self.hand.tracker.stale(key, mine):
            return None
        service, endpoints = self.services.get(key), self.endpoints.get(key)
        if endpoints is None or not should_mirror(service, endpoints):
            await self.hand.carry_out(key, SlicePlan(delete=tuple(s for s in mine if not is_deleting(s))))
            if endpoints is None:
                self.hand.tracker.written.pop(key, None)
            return None
        existing = [s for s in mine if not is_deleting(s)]
        plan, left_out = plan_mirror(name_of(endpoints), endpoints, existing, self.per_slice, self.per_subset)
        if left_out:
            told = (
                f"A max of {self.per_subset} addresses can be mirrored to EndpointSlices per Endpoints subset. "
                f"{left_out} addresses were skipped"
            )
            self.recorder.warning(endpoints, "TooManyAddressesToMirror", told)
        try:
            await self.hand.carry_out(key, plan)
        except NavarchError as exc:
            told = f"Error updating EndpointSlices for {key}: {exc}"
            self.recorder.warning(endpoints, "FailedToUpdateEndpointSlices", told)
            raise
        return None


def build(env: Environment) -> list[Controller]:
    """The controller that mirrors Endpoints."""
    services, endpoints = env.informer(SERVICES), env.informer(ENDPOINTS)
    slices = env.informer(ENDPOINTSLICES)
    slices.add_index(SERVICE_INDEX, service_keys)
    tracker = SliceTracker()
    reconciler = MirrorReconciler(
        services=services,
        endpoints=endpoints,
        slices=slices,
        hand=SliceHand(env.client_for(ACCOUNT), tracker),
        recorder=env.recorder("endpoint-slice-mirroring-controller", ACCOUNT),
        per_slice=int(env.options["max-endpoints-per-slice"]),
        per_subset=int(env.options["mirroring-max-endpoints-per-subset"]),
    )
    workers = int(env.options["mirroring-concurrent-service-endpoint-syncs"])
    controller = Controller("endpoint_slice_mirroring", reconciler.reconcile, workers=workers)
    delay = float(env.options["mirroring-endpointslice-updates-batch-period"])

    def changed(old: Object | None, new: Object | None) -> None:
        controller.queue.add_after(key_of(new or old or {}), delay)

    def slice_changed(old: Object | None, new: Object | None) -> None:
        slice_ = new or old or {}
        if labels_of(slice_).get(MANAGED_BY) == MANAGER:
            for key in service_keys(slice_):
                if new is None:
                    tracker.gone(key, name_of(slice_))
                controller.enqueue(key)

    services.on_change(changed)
    endpoints.on_change(changed)
    slices.on_change(slice_changed)
    return [controller]
