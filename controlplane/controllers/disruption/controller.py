"""The disruption controller's hand: finds pods and their controllers' scale, writes statuses.

Source: k8s.io/kubernetes/pkg/controller/disruption/disruption.go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controlplane.controllers.discovery import discover
from controlplane.controllers.disruption import plan
from controlplane.controllers.environment import Environment
from machinery.api.catalogue import (
    DEPLOYMENTS,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
)
from machinery.api.labels import NOTHING, Selector, from_selector
from machinery.api.meta import (
    Object,
    controller_of,
    format_time,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
)
from machinery.api.resource import ResourceType
from machinery.cache.informer import Informer
from machinery.client.rest import STRATEGIC, Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import NavarchError, NotFound, StatusError
from machinery.events import EventRecorder

ACCOUNT = "disruption-controller"
_KNOWN: tuple[ResourceType, ...] = (REPLICATIONCONTROLLERS, REPLICASETS, STATEFULSETS, DEPLOYMENTS)


class NoScale(NavarchError):
    """It can't be told how many pods the owner of a pod wants."""


def selector_of(budget: Object) -> Selector:
    """The budget's pods: none without a selector, all with an empty one."""
    try:
        return from_selector(budget["spec"].get("selector"))
    except ValueError:
        return NOTHING


@dataclass(frozen=True)
class BudgetReconciler:
    """Keeps the status of one budget."""

    budgets: Informer
    pods: Informer
    owners: dict[ResourceType, Informer]
    client: Client
    recorder: EventRecorder
    clock: Clock

    async def reconcile(self, key: str) -> float | None:
        """Count; returns seconds until an eviction that was granted should have happened."""
        budget = self.budgets.get(key)
        if budget is None:
            return None
        selector = selector_of(budget)
        pods = [p for p in self.pods.list(namespace_of(budget)) if selector.matches(labels_of(p))]
        if not pods:
            self.recorder.normal(budget, "NoPods", "No matching pods found")
        now = self.clock.now()
        try:
            scale = await self._scale(budget, pods) if plan.needs_scale(budget) else 0
            wanted = plan.expected(budget, len(pods), scale)
        except (NoScale, StatusError, ValueError) as exc:
            message = f"Failed to calculate the number of expected pods: {exc}"
            self.recorder.warning(budget, "CalculateExpectedPodCountFailed", message)
            await self._write(budget, plan.failed_status(budget, str(exc), now))
            return None
        disrupted, overdue, wait = plan.still_disrupted(budget, pods, now)
        for pod in overdue:
            told = f"Pod was expected by PDB {key} to be deleted but it wasn't"
            self.recorder.warning(pod, "NotDeleted", told)
        healthy = plan.count_healthy(pods, disrupted)
        await self._write(budget, plan.plan_status(budget, wanted, healthy, disrupted, now))
        return wait

    async def _write(self, budget: Object, status: Object) -> None:
        if status != (budget.get("status") or {}):
            changed = {**budget, "status": status}
            await self.client.update(PODDISRUPTIONBUDGETS, changed, subresource="status")

    async def _scale(self, budget: Object, pods: list[Object]) -> int:
        """How many pods the controllers of these pods want in all."""
        wanted: dict[str, int] = {}
        unmanaged = []
        for pod in pods:
            reference = controller_of(pod)
            if reference is None:
                unmanaged.append(name_of(pod))
            elif reference["uid"] not in wanted:
                uid, count = await self._scale_of(pod, reference)
                wanted[reference["uid"]] = 0
                wanted[uid] = count
        if unmanaged:
            told = (
                f"Pods selected by this PodDisruptionBudget (selector: {selector_of(budget)}) were found to be "
                "unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in "
                'undefined behavior. To account for these pods please set ".spec.minAvailable" field of the PDB to an '
                "integer value."
            )
            self.recorder.warning(budget, "UnmanagedPods", told)
        return sum(wanted.values())

    async def _scale_of(self, pod: Object, reference: Object) -> tuple[str, int]:
        """(uid, replicas) of what controls the pod; a ReplicaSet of a Deployment counts as the Deployment."""
        namespace = namespace_of(pod)
        owner = self._cached(namespace, reference)
        if owner is not None and reference["kind"] == REPLICASETS.kind:
            parent = controller_of(owner)
            deployment = self._cached(namespace, parent) if parent is not None else None
            if deployment is not None:
                return uid_of(deployment), _replicas(deployment)
        if owner is not None:
            return uid_of(owner), _replicas(owner)
        resource = (await discover(self.client)).of_kind(reference["apiVersion"], reference["kind"])
        if resource is None or resource.subresource("scale") is None:
            raise NoScale(f"{reference['kind']}.{reference['apiVersion']} does not implement the scale subresource")
        try:
            scale = await self.client.get(resource, reference["name"], namespace, subresource="scale")
        except NotFound:
            raise NoScale(f'found no controllers for pod "{name_of(pod)}"') from None
        return str(reference["uid"]), int((scale.get("spec") or {}).get("replicas") or 0)

    def _cached(self, namespace: str, reference: Object) -> Object | None:
        for resource, informer in self.owners.items():
            if resource.kind == reference.get("kind") and resource.api_version == reference.get("apiVersion"):
                owner = informer.get(f"{namespace}/{reference['name']}")
                return owner if owner is not None and uid_of(owner) == reference["uid"] else None
        return None


def _replicas(owner: Object) -> int:
    replicas = owner["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


@dataclass(frozen=True)
class StaleDisruptions:
    """Takes the DisruptionTarget condition back from pods that were to be deleted and never were."""

    pods: Informer
    client: Client
    clock: Clock

    async def reconcile(self, key: str) -> float | None:
        """One pod; returns seconds until its condition is void."""
        pod = self.pods.get(key)
        left = plan.stale_disruption(pod, self.clock.now()) if pod is not None else None
        if pod is None or left is None or left > 0:
            return left
        void = {
            "type": "DisruptionTarget",
            "status": "False",
            "lastTransitionTime": format_time(self.clock.now()),
            "observedGeneration": pod["metadata"].get("generation", 0),
        }
        patch = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [void]}}
        try:
            await self.client.patch(
                PODS, name_of(pod), patch, namespace_of(pod), content_type=STRATEGIC, subresource="status"
            )
        except NotFound:
            return None
        return None


def build(env: Environment) -> list[Controller]:
    """The disruption controller."""
    client, budgets, pods = env.client_for(ACCOUNT), env.informer(PODDISRUPTIONBUDGETS), env.informer(PODS)
    owners = {resource: env.informer(resource) for resource in _KNOWN}
    recorder = env.recorder("controllermanager", ACCOUNT)
    reconciler = BudgetReconciler(budgets, pods, owners, client, recorder, env.clock)
    controller = Controller("disruption", reconciler.reconcile, workers=1)
    stale = Controller("stale_pod_disruption", StaleDisruptions(pods, client, env.clock).reconcile, workers=1)
    budgets.on_change(lambda old, new: controller.enqueue(key_of(new or old or {})))

    def pod_changed(old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            if pod is not None:
                for budget in budgets.list(namespace_of(pod)):
                    if selector_of(budget).matches(labels_of(pod)):
                        controller.enqueue(key_of(budget))
        if new is not None and plan.stale_disruption(new, env.clock.now()) is not None:
            stale.enqueue(key_of(new))

    pods.on_change(pod_changed)
    for informer in owners.values():
        informer.on_change(_on_scale(budgets, controller.enqueue))
    return [controller, stale]


def _on_scale(budgets: Informer, enqueue: Callable[[str], None]) -> Callable[[Object | None, Object | None], None]:
    """What to do when something that may own pods is scaled: look at the budgets of its namespace."""

    def changed(old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and old["spec"].get("replicas") != new["spec"].get("replicas"):
            for budget in budgets.list(namespace_of(new)):
                if plan.needs_scale(budget):
                    enqueue(key_of(budget))

    return changed
