"""Services of type LoadBalancer: each gets a load balancer of the cloud, and gives it up with its end.

Source: k8s.io/cloud-provider/controllers/service/controller.go; KEP-2086 (loadBalancerClass).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from controlplane.cloud.contract import CloudError, LoadBalancers
from controlplane.cloud.environment import Environment
from controlplane.cloud.lifecycle import is_ready
from machinery.api.catalogue import NODES, SERVICES
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
from machinery.client.rest import MERGE, Client
from machinery.controller import Controller
from machinery.errors import NotFound
from machinery.events import EventRecorder

ACCOUNT = "service-controller"
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
_GOING = "ToBeDeletedByClusterAutoscaler"


def wants_balancer(service: Object) -> bool:
    """Whether the cloud is to serve it: those with a class are somebody else's."""
    spec = service["spec"]
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass") and not is_deleting(service)


def has_finalizer(service: Object) -> bool:
    """Whether the cloud may have something of this Service's."""
    return FINALIZER in (service["metadata"].get("finalizers") or ())


def usable_nodes(nodes: Iterable[Object]) -> list[Object]:
    """The nodes that traffic may be sent to, by name."""
    return sorted(
        (
            node
            for node in nodes
            if EXCLUDED not in labels_of(node)
            and all(t.get("key") != _GOING for t in (node.get("spec") or {}).get("taints") or ())
            and is_ready(node)
            and not is_deleting(node)
        ),
        key=name_of,
    )


def shape(service: Object) -> object:
    """What of a Service concerns its load balancer."""
    annotations = {k: v for k, v in annotations_of(service).items() if not k.startswith("kubectl.kubernetes.io/")}
    return uid_of(service), service["spec"], annotations


def ingress_of(service: Object) -> list[Object]:
    """status.loadBalancer.ingress."""
    return list(((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ())


@dataclass(frozen=True)
class ServiceReconciler:
    """Works on one Service at a time."""

    services: Informer
    nodes: Informer
    balancers: LoadBalancers
    client: Client
    recorder: EventRecorder
    done: dict[str, Any] = field(default_factory=dict)
    """By Service: (shape, names of the nodes) that its load balancer was last made for."""

    async def reconcile(self, key: str) -> float | None:
        """Make, update or give up the Service's load balancer."""
        service = self.services.get(key)
        if service is None:
            self.done.pop(key, None)
            return None
        try:
            if wants_balancer(service):
                await self._ensure(key, service)
            elif has_finalizer(service):
                await self._give_up(key, service)
        except NotFound:
            return None
        except CloudError as exc:
            self.recorder.warning(service, "SyncLoadBalancerFailed", f"Error syncing load balancer: {exc}")
            raise
        return None

    async def _ensure(self, key: str, service: Object) -> None:
        nodes = usable_nodes(self.nodes.list())
        names = tuple(map(name_of, nodes))
        made_for, sent_to = self.done.get(key, (None, None))
        if made_for == shape(service) and ingress_of(service):
            if sent_to != names:
                await self.balancers.update_nodes(service, nodes)
                self.done[key] = made_for, names
                self.recorder.normal(service, "UpdatedLoadBalancer", "Updated load balancer with new hosts")
            return
        if not has_finalizer(service):
            finalizers = [*(service["metadata"].get("finalizers") or ()), FINALIZER]
            service = await self._patch(service, {"metadata": {"finalizers": finalizers}})
        self.recorder.normal(service, "EnsuringLoadBalancer", "Ensuring load balancer")
        ingress = await self.balancers.ensure(service, nodes)
        if ingress != ingress_of(service):
            await self._patch(service, {"status": {"loadBalancer": {"ingress": ingress}}})
        self.done[key] = shape(service), names
        self.recorder.normal(service, "EnsuredLoadBalancer", "Ensured load balancer")
        if not nodes:
            self.recorder.warning(service, "UnAvailableLoadBalancer", "There are no available nodes for LoadBalancer")

    async def _give_up(self, key: str, service: Object) -> None:
        self.recorder.normal(service, "DeletingLoadBalancer", "Deleting load balancer")
        await self.balancers.delete(service)
        self.done.pop(key, None)
        finalizers = [f for f in service["metadata"]["finalizers"] if f != FINALIZER]
        await self._patch(
            service, {"metadata": {"finalizers": finalizers or None}, "status": {"loadBalancer": {"ingress": None}}}
        )
        self.recorder.normal(service, "DeletedLoadBalancer", "Deleted load balancer")

    async def _patch(self, service: Object, patch: Object) -> Object:
        """By the status subresource, which takes finalizers as well: the account may write no more than that."""
        metadata = {**patch.get("metadata", {}), "resourceVersion": service["metadata"]["resourceVersion"]}
        return await self.client.patch(
            SERVICES,
            name_of(service),
            {**patch, "metadata": metadata},
            namespace_of(service),
            content_type=MERGE,
            subresource="status",
        )


def build(env: Environment) -> list[Controller]:
    """The controller of load balancers; nothing if the cloud has none."""
    if env.cloud.load_balancers is None:
        return []
    services, nodes = env.informers.of(SERVICES), env.informers.of(NODES)
    reconciler = ServiceReconciler(
        services,
        nodes,
        env.cloud.load_balancers,
        env.client_for(ACCOUNT),
        env.recorder("service-controller", ACCOUNT),
    )
    workers = int(env.flags["concurrent-service-syncs"])
    controller = Controller("service", reconciler.reconcile, workers=workers)

    def service_changed(old: Object | None, new: Object | None) -> None:
        if new is None or wants_balancer(new) or has_finalizer(new):
            controller.enqueue(key_of(new or old or {}))

    def node_changed(old: Object | None, new: Object | None) -> None:
        before = bool(usable_nodes([old] if old is not None else []))
        if before != bool(usable_nodes([new] if new is not None else [])):
            for service in services.list():
                service_changed(None, service)

    services.on_change(service_changed)
    nodes.on_change(node_changed)
    return [controller]
