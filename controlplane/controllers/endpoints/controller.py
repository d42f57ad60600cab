"""The EndpointSlice controller: from Services, pods and nodes to slices.

Source: k8s.io/kubernetes/pkg/controller/endpointslice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from controlplane.controllers import metrics
from controlplane.controllers.endpoints.hints import distribution_of, with_hints
from controlplane.controllers.endpoints.model import (
    CHANGE_TRIGGER,
    MANAGED_BY,
    SERVICE_NAME,
    ZONE,
    desired_endpoints,
    families_of,
    is_headless,
    pod_addresses,
    selector_text,
    trigger_time,
)
from controlplane.controllers.endpoints.slices import SliceMaker, SlicePlan, endpoint_key, plan_slices
from controlplane.controllers.environment import Environment
from controlplane.controllers.podcontrol import namespace_terminates
from controlplane.controllers.pods import has_labels, is_ready, node_of, phase_of
from machinery.api.catalogue import ENDPOINTSLICES, NODES, PODS, SERVICES
from machinery.api.meta import (
    Object,
    annotations_of,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
)
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.controller import Controller
from machinery.errors import NavarchError, NotFound, StatusError
from machinery.events import EventRecorder

ACCOUNT = "endpointslice-controller"
MANAGER = "endpointslice-controller.k8s.io"
SERVICE_INDEX = "service"


def service_keys(slice_: Object) -> list[str]:
    """The index of slices: by the key of the Service they are of."""
    name = labels_of(slice_).get(SERVICE_NAME)
    return [f"{namespace_of(slice_)}/{name}"] if name else []


def selected_services(services: Informer, pod: Object) -> list[str]:
    """Keys of the Services that select the pod."""
    labels = labels_of(pod)
    return [
        key_of(service)
        for service in services.list(namespace_of(pod))
        if (selector := selector_text(service)) and has_labels(labels, selector)
    ]


def endpoint_shape(pod: Object) -> object:
    """What of a pod shows in endpoints: a change elsewhere does not concern Services."""
    spec = pod["spec"]
    return (
        pod_addresses(pod),
        node_of(pod),
        is_ready(pod),
        is_deleting(pod),
        phase_of(pod) in ("Failed", "Succeeded"),
        spec.get("hostname"),
        spec.get("subdomain"),
    )


def follow_pods(pods: Informer, services: Informer, enqueue: Callable[[str], None]) -> None:
    """Enqueue the Services that a change of a pod concerns."""

    def on_change(old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None:
            same_labels = labels_of(old) == labels_of(new)
            if same_labels and endpoint_shape(old) == endpoint_shape(new):
                return
            keys = set(selected_services(services, new))
            if not same_labels:
                keys |= set(selected_services(services, old))
        else:
            keys = set(selected_services(services, new or old or {}))
        for key in keys:
            enqueue(key)

    pods.on_change(on_change)


@dataclass
class SliceTracker:
    """The writes of each Service that the cache does not show yet: (uid, resourceVersion) by slice name."""

    written: dict[str, dict[str, int]] = field(default_factory=dict)

    def stale(self, key: str, slices: list[Object]) -> bool:
        """Whether the cache lacks what was written for this Service."""
        pending = self.written.get(key)
        if not pending:
            return False
        seen = {name_of(s): _revision(s) for s in slices}
        for name, revision in list(pending.items()):
            if seen.get(name, -1) >= revision:
                del pending[name]
        return bool(pending)

    def wrote(self, key: str, slice_: Object) -> None:
        """A slice was created or changed."""
        self.written.setdefault(key, {})[name_of(slice_)] = _revision(slice_)

    def gone(self, key: str, name: str) -> None:
        """A slice was deleted, or seen deleted."""
        self.written.get(key, {}).pop(name, None)


def _revision(obj: Object) -> int:
    text = str(obj["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isdigit() else 0


@dataclass(frozen=True)
class SliceHand:
    """Carries slice plans out."""

    client: Client
    tracker: SliceTracker

    async def carry_out(self, key: str, plan: SlicePlan) -> None:
        """Create, update, delete. Raises the first error, after all writes of a step have been tried."""
        await self._all([self._create(key, s) for s in plan.create])
        await self._all([self._update(key, s) for s in plan.update])
        await self._all([self._delete(key, s) for s in plan.delete])

    @staticmethod
    async def _all(writes: list[object]) -> None:
        for result in await asyncio.gather(*writes, return_exceptions=True):  # type: ignore[call-overload]
            if isinstance(result, BaseException):
                raise result

    async def _create(self, key: str, slice_: Object) -> None:
        try:
            made = await self.client.create(ENDPOINTSLICES, slice_)
        except StatusError as exc:
            if not namespace_terminates(exc):
                raise
            return
        self.tracker.wrote(key, made)

    async def _update(self, key: str, slice_: Object) -> None:
        self.tracker.wrote(key, await self.client.update(ENDPOINTSLICES, slice_))

    async def _delete(self, key: str, slice_: Object) -> None:
        with contextlib.suppress(NotFound):
            await self.client.delete(ENDPOINTSLICES, name_of(slice_), namespace_of(slice_), uid=uid_of(slice_))
        self.tracker.gone(key, name_of(slice_))


@dataclass(frozen=True)
class SliceReconciler:
    """Keeps the slices of one Service."""

    services: Informer
    pods: Informer
    nodes: Informer
    slices: Informer
    hand: SliceHand
    recorder: EventRecorder
    limit: int

    async def reconcile(self, key: str) -> float | None:
        """One Service."""
        service = self.services.get(key)
        mine = [s for s in self.slices.by_index(SERVICE_INDEX, key) if labels_of(s).get(MANAGED_BY) == MANAGER]
        if service is None:
            self.hand.tracker.written.pop(key, None)  # the slices go with their owner
            return None
        if service["spec"].get("type") == "ExternalName":
            return None
        selector = selector_text(service)
        if selector is None:
            return None
        if self.hand.tracker.stale(key, mine):
            return None  # its change leads here again
        pods = [p for p in self.pods.list(namespace_of(service)) if has_labels(labels_of(p), selector)]
        plan = self._plan(service, pods, [s for s in mine if not is_deleting(s)])
        if is_deleting(service):
            plan = replace(plan, create=())  # the garbage collector takes them away: that would go on for ever
        self._count(service, plan)
        try:
            await self.hand.carry_out(key, plan)
        except NavarchError as exc:
            self.recorder.warning(
                service, "FailedToUpdateEndpointSlices", f"Error updating Endpoint Slices for Service {key}: {exc}"
            )
            raise
        return None

    def _count(self, service: Object, plan: SlicePlan) -> None:
        """Tell how much this changes."""
        if not plan:
            return
        before: set[tuple[str, ...]] = set()
        for slice_ in (*plan.update, *plan.delete):
            known = self.slices.get(key_of(slice_)) or {}
            before.update(map(endpoint_key, known.get("endpoints") or ()))
        after = {endpoint_key(e) for s in (*plan.create, *plan.update) for e in s.get("endpoints") or ()}
        metrics.ENDPOINTS_ADDED.observe(len(after - before))
        metrics.ENDPOINTS_REMOVED.observe(len(before - after))
        topology = "Auto" if distribution_of(service) == "Auto" else "Disabled"
        labels = (topology, service["spec"].get("trafficDistribution") or "")
        metrics.SLICES_CHANGED.labels(*labels).observe(len(plan.create) + len(plan.update) + len(plan.delete))

    def _plan(self, service: Object, pods: list[Object], existing: list[Object]) -> SlicePlan:
        families = families_of(service)
        since = max((annotations_of(s).get(CHANGE_TRIGGER, "") for s in existing), default="")
        trigger = trigger_time(service, pods, since)
        maker = SliceMaker(
            owner=service,
            owner_kind=SERVICES,
            manager=MANAGER,
            labels=labels_of(service),
            annotations={CHANGE_TRIGGER: trigger} if trigger else {},
            headless=is_headless(service),
            service_name=name_of(service),
        )
        distribution = distribution_of(service)
        create: list[Object] = []
        update: list[Object] = []
        delete = [s for s in existing if s.get("addressType") not in families]
        for family in families:
            desired = with_hints(
                desired_endpoints(service, pods, self.nodes.get, family), distribution, self.nodes.list
            )
            own = [s for s in existing if s.get("addressType") == family]
            part = plan_slices(maker, family, own, desired, self.limit)
            create += part.create
            update += part.update
            delete += part.delete
        return SlicePlan(tuple(create), tuple(update), tuple(delete))


def build(env: Environment) -> list[Controller]:
    """The controller of EndpointSlices."""
    services, pods, nodes = env.informer(SERVICES), env.informer(PODS), env.informer(NODES)
    slices = env.informer(ENDPOINTSLICES)
    slices.add_index(SERVICE_INDEX, service_keys)
    tracker = SliceTracker()
    reconciler = SliceReconciler(
        services=services,
        pods=pods,
        nodes=nodes,
        slices=slices,
        hand=SliceHand(env.client_for(ACCOUNT), tracker),
        recorder=env.recorder("endpoint-slice-controller", ACCOUNT),
        limit=int(env.options["max-endpoints-per-slice"]),
    )
    workers = env.options.concurrent("service-endpoint")
    controller = Controller("endpoint_slice", reconciler.reconcile, workers=workers)
    delay = float(env.options["endpointslice-updates-batch-period"])
    services.on_change(lambda old, new: controller.enqueue(key_of(new or old or {})))
    follow_pods(pods, services, lambda key: controller.queue.add_after(key, delay))

    def slice_changed(old: Object | None, new: Object | None) -> None:
        """Somebody else's change of our slices is undone; our own shows that the cache has caught up."""
        slice_ = new or old or {}
        if labels_of(slice_).get(MANAGED_BY) != MANAGER and labels_of(old or {}).get(MANAGED_BY) != MANAGER:
            return
        for key in {*service_keys(slice_), *service_keys(old or slice_)}:
            if new is None:
                tracker.gone(key, name_of(slice_))
            controller.enqueue(key)

    def node_changed(old: Object | None, new: Object | None) -> None:
        if old is None or new is None or labels_of(old).get(ZONE) != labels_of(new).get(ZONE):
            for service in services.list():
                controller.enqueue(key_of(service))

    slices.on_change(slice_changed)
    nodes.on_change(node_changed)
    return [controller]
