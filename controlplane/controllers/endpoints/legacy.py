"""Endpoints, the form that EndpointSlices replaced and that tools still read: one object a Service.

Source: k8s.io/kubernetes/pkg/controller/endpoint/endpoints_controller.go, k8s.io/endpoints repackaging of subsets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.controllers.endpoints.controller import follow_pods
from controlplane.controllers.endpoints.model import (
    CHANGE_TRIGGER,
    HEADLESS,
    PortSet,
    address_of,
    families_of,
    is_headless,
    may_serve,
    ports_for,
    publishes_unready,
    selector_text,
    trigger_time,
)
from controlplane.controllers.environment import Environment
from controlplane.controllers.podcontrol import namespace_terminates
from controlplane.controllers.pods import has_labels, is_ready, node_of
from machinery.api.catalogue import ENDPOINTS, PODS, SERVICES
from machinery.api.meta import (
    Object,
    annotations_of,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    split_key,
    uid_of,
)
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.controller import Controller
from machinery.errors import AlreadyExists, Conflict, NavarchError, NotFound, StatusError
from machinery.events import EventRecorder

ACCOUNT = "endpoint-controller"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
_MAX_ADDRESSES = 1000


def subsets_of(service: Object, pods: Iterable[Object]) -> list[Object]:
    """The subsets that a Service's pods make: one for each set of ports, addresses sorted."""
    family = families_of(service)[0]
    ready: dict[PortSet, dict[str, Object]] = defaultdict(dict)
    unready: dict[PortSet, dict[str, Object]] = defaultdict(dict)
    for pod in pods:
        address = address_of(pod, family)
        if not address or not may_serve(pod, terminating=publishes_unready(service)):
            continue
        ports = ports_for(service, pod)
        if not ports and (service["spec"].get("ports") or not is_headless(service)):
            continue
        entry = _entry(service, pod, address)
        # Every port is told apart first: pods that differ in one of several ports share the others.
        for port in ports or [{}]:
            one = PortSet.of([_port(port)] if port else [])
            serves = publishes_unready(service) or is_ready(pod)
            (ready if serves else unready)[one][f"{address}/{uid_of(pod)}"] = entry
    return _repack(ready, unready)


def _port(port: Object) -> Object:
    return {k: v for k, v in port.items() if k != "name" or v}


def _entry(service: Object, pod: Object, address: str) -> Object:
    made: Object = {"ip": address}
    spec = pod["spec"]
    if spec.get("hostname") and spec.get("subdomain") == name_of(service):
        made["hostname"] = spec["hostname"]
    if node_of(pod):
        made["nodeName"] = node_of(pod)
    made["targetRef"] = {"kind": "Pod", "namespace": namespace_of(pod), "name": name_of(pod), "uid": uid_of(pod)}
    return made


def _repack(ready: dict[PortSet, dict[str, Object]], unready: dict[PortSet, dict[str, Object]]) -> list[Object]:
    """Join ports that have the same addresses into one subset."""
    by_addresses: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Object]] = defaultdict(list)
    entries: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[list[Object], list[Object]]] = {}
    for one in {**ready, **unready}:
        up, down = ready.get(one, {}), unready.get(one, {})
        which = tuple(sorted(up)), tuple(sorted(down))
        by_addresses[which] += one.ports
        entries[which] = [up[k] for k in sorted(up)], [down[k] for k in sorted(down)]
    subsets = []
    for which, ports in sorted(by_addresses.items(), key=lambda item: item[0]):
        up_entries, down_entries = entries[which]
        subset: Object = {}
        if up_entries:
            subset["addresses"] = up_entries
        if down_entries:
            subset["notReadyAddresses"] = down_entries
        if ports:
            subset["ports"] = sorted(ports, key=lambda p: (p["port"], p.get("protocol", ""), p.get("name", "")))
        subsets.append(subset)
    return subsets


def truncated(subsets: list[Object], limit: int = _MAX_ADDRESSES) -> tuple[list[Object], bool]:
    """The subsets with at most `limit` addresses, ready ones first, and whether any were left out."""
    ready = sum(len(s.get("addresses", ())) for s in subsets)
    total = ready + sum(len(s.get("notReadyAddresses", ())) for s in subsets)
    if total <= limit:
        return subsets, False
    room_ready, room_unready = min(limit, ready), max(0, limit - ready)
    made = []
    for subset in subsets:
        up = subset.get("addresses", [])[:room_ready]
        down = subset.get("notReadyAddresses", [])[:room_unready]
        room_ready -= len(up)
        room_unready -= len(down)
        if up or down:
            kept = {k: v for k, v in subset.items() if k == "ports"}
            kept |= {"addresses": up} if up else {}
            kept |= {"notReadyAddresses": down} if down else {}
            made.append(kept)
    return made, True


def plan_endpoints(service: Object, pods: list[Object], present: Object | None) -> Object | None:
    """The Endpoints to write, or None if they are as they should be."""
    subsets, over = truncated(subsets_of(service, pods))
    labels = {**labels_of(service), MANAGED_BY: ACCOUNT}
    labels.pop(HEADLESS, None)
    if is_headless(service):
        labels[HEADLESS] = ""
    before = annotations_of(present) if present is not None else {}
    annotations = {k: v for k, v in before.items() if k not in (OVER_CAPACITY, CHANGE_TRIGGER)}
    if over:
        annotations[OVER_CAPACITY] = "truncated"
    if present is not None:
        stands = {k: v for k, v in before.items() if k != CHANGE_TRIGGER}
        if (present.get("subsets") or []) == subsets and labels_of(present) == labels and stands == annotations:
            return None
    trigger = trigger_time(service, pods, before.get(CHANGE_TRIGGER, ""))
    if trigger:
        annotations[CHANGE_TRIGGER] = trigger
    metadata: Object = {**present["metadata"]} if present is not None else {}
    metadata |= {"name": name_of(service), "namespace": namespace_of(service), "labels": labels}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    made: Object = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}
    if subsets:
        made["subsets"] = subsets
    return made


@dataclass(frozen=True)
class EndpointsReconciler:
    """Keeps the Endpoints of one Service."""

    services: Informer
    pods: Informer
    endpoints: Informer
    client: Client
    recorder: EventRecorder

    async def reconcile(self, key: str) -> float | None:
        """One Service."""
        service, present = self.services.get(key), self.endpoints.get(key)
        if service is None:
            if present is not None and labels_of(present).get(MANAGED_BY) == ACCOUNT:
                await self._delete(present)
            return None
        selector = selector_text(service)
        if selector is None:
            return None
        pods = [p for p in self.pods.list(namespace_of(service)) if has_labels(labels_of(p), selector)]
        wanted = plan_endpoints(service, pods, present)
        if wanted is None:
            return None
        try:
            if present is None:
                await self.client.create(ENDPOINTS, wanted)
            else:
                await self.client.update(ENDPOINTS, wanted)
        except AlreadyExists:
            return None  # the cache lags; its change leads here again
        except (Conflict, NotFound):
            raise
        except StatusError as exc:
            if namespace_terminates(exc):
                return None
            self._tell(service, key, present, exc)
            raise
        return None

    def _tell(self, service: Object, key: str, present: Object | None, error: NavarchError) -> None:
        verb = "create" if present is None else "update"
        reason = "FailedToCreateEndpoint" if present is None else "FailedToUpdateEndpoint"
        self.recorder.warning(service, reason, f"Failed to {verb} endpoint {key}: {error}")

    async def _delete(self, present: Object) -> None:
        namespace, name = split_key(key_of(present))
        try:
            await self.client.delete(ENDPOINTS, name, namespace, uid=uid_of(present))
        except NotFound:
            return


def build(env: Environment) -> list[Controller]:
    """The controller of Endpoints."""
    services, pods, endpoints = env.informer(SERVICES), env.informer(PODS), env.informer(ENDPOINTS)
    recorder = env.recorder(ACCOUNT, ACCOUNT)
    reconciler = EndpointsReconciler(services, pods, endpoints, env.client_for(ACCOUNT), recorder)
    controller = Controller("endpoint", reconciler.reconcile, workers=env.options.concurrent("endpoint"))
    delay = float(env.options["endpoint-updates-batch-period"])
    services.on_change(lambda old, new: controller.enqueue(key_of(new or old or {})))
    endpoints.on_change(lambda old, new: controller.enqueue(key_of(new or old or {})))
    follow_pods(pods, services, lambda key: controller.queue.add_after(key, delay))
    return [controller]
