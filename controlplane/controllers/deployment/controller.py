"""The hand of the Deployment controller: reads caches, asks for a plan, writes it.

Source: k8s.io/kubernetes/pkg/controller/deployment/deployment_controller.go.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from controlplane.controllers.adoption import Claimer
from controlplane.controllers.deployment import conditions
from controlplane.controllers.deployment.plan import DeploymentPlan, plan_deployment
from controlplane.controllers.deployment.sets import REVISION, has_deadline, is_rolling, same_template, sort_out
from controlplane.controllers.environment import Environment
from controlplane.controllers.ownership import candidates, controlled, follow, resolve, selector_of
from controlplane.controllers.podcontrol import namespace_terminates
from controlplane.controllers.pods import phase_of
from machinery.api.catalogue import DEPLOYMENTS, PODS, REPLICASETS
from machinery.api.meta import (
    Object,
    annotations_of,
    controller_of,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    uid_of,
)
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import AlreadyExists, NotFound, StatusError
from machinery.events import EventRecorder

ACCOUNT = "deployment-controller"


@dataclass(frozen=True)
class DeploymentReconciler:
    """Drives one Deployment."""

    deployments: Informer
    sets: Informer
    pods: Informer
    client: Client
    claimer: Claimer
    recorder: EventRecorder
    clock: Clock

    async def reconcile(self, key: str) -> float | None:
        """One step of the rollout; returns seconds until lack of progress must be reported."""
        deployment = self.deployments.get(key)
        if deployment is None:
            return None
        selector = selector_of(deployment)
        if not selector or selector.nothing:
            await self._refuse(deployment)
            return None
        owned = await self.claimer.claim(deployment, selector, candidates(self.sets, deployment))
        now = self.clock.now()
        plan = plan_deployment(deployment, owned, now, old_pods_run=self._old_pods_run(deployment, owned))
        await self._carry_out(deployment, plan)
        return conditions.seconds_to_deadline(deployment, plan.status, now) if not is_deleting(deployment) else None

    def _old_pods_run(self, deployment: Object, owned: list[Object]) -> bool:
        if is_rolling(deployment):
            return False
        return any(
            phase_of(pod) not in ("Succeeded", "Failed")
            for rs in sort_out(deployment, owned).old
            for pod in controlled(self.pods, rs)
        )

    async def _refuse(self, deployment: Object) -> None:
        message = "This deployment is selecting all pods. A non-empty selector is required."
        self.recorder.warning(deployment, "SelectingAll", message)
        status = deployment.get("status") or {}
        generation = deployment["metadata"].get("generation", 0)
        if status.get("observedGeneration", 0) < generation:
            await self._write_status(deployment, {**status, "observedGeneration": generation}, None)

    async def _carry_out(self, deployment: Object, plan: DeploymentPlan) -> None:
        if plan.create is not None and not await self._create(deployment, plan.create):
            return
        for rs in plan.updates:
            await self.client.update(REPLICASETS, rs)
        for reason, message in plan.events:
            self.recorder.normal(deployment, reason, message)
        await asyncio.gather(*map(self._delete, plan.deletes))
        await self._write_status(deployment, plan.status, plan.revision)

    async def _create(self, deployment: Object, rs: Object) -> bool:
        """Create the new ReplicaSet; False if the namespace is going, or the name is taken by another template."""
        try:
            await self.client.create(REPLICASETS, rs)
        except AlreadyExists:
            return await self._settle_collision(deployment, rs)
        except StatusError as exc:
            if namespace_terminates(exc):
                return False
            message = f'Failed to create new replica set "{name_of(rs)}": {exc}'
            if has_deadline(deployment):
                await self._report_failure(deployment, message)
            self.recorder.warning(deployment, "ReplicaSetCreateError", message)
            raise
        return True

    async def _settle_collision(self, deployment: Object, rs: Object) -> bool:
        """The name exists: our own earlier write that the cache does not show yet, or another template's hash."""
        found = await self.client.get(REPLICASETS, name_of(rs), namespace_of(rs))
        owner = controller_of(found)
        if (
            owner is not None
            and owner.get("uid") == uid_of(deployment)
            and same_template(found["spec"]["template"], deployment["spec"]["template"])
        ):
            return False  # the cache will show it, and that change leads here again
        status = deployment.get("status") or {}
        await self._write_status(
            deployment, {**status, "collisionCount": (status.get("collisionCount") or 0) + 1}, None
        )
        return False

    async def _report_failure(self, deployment: Object, message: str) -> None:
        status = deployment.get("status") or {}
        failed = conditions.make(conditions.PROGRESSING, "False", "ReplicaSetCreateError", message, self.clock.now())
        standing = list(status.get("conditions") or ())
        await self._write_status(deployment, {**status, "conditions": conditions.put(standing, failed)}, None)

    async def _delete(self, rs: Object) -> None:
        try:
            await self.client.delete(REPLICASETS, name_of(rs), namespace_of(rs), uid=uid_of(rs))
        except NotFound:
            return

    async def _write_status(self, deployment: Object, status: Object, revision: str | None) -> None:
        if status == (deployment.get("status") or {}) and revision is None:
            return
        changed = {**deployment, "status": status}
        if revision is not None:
            annotations = {**annotations_of(deployment), REVISION: revision}
            changed["metadata"] = {**deployment["metadata"], "annotations": annotations}
        await self.client.update(DEPLOYMENTS, changed, subresource="status")


def build(env: Environment) -> list[Controller]:
    """The controller of Deployments."""
    client = env.client_for(ACCOUNT)
    deployments, sets, pods = env.informer(DEPLOYMENTS), env.informer(REPLICASETS), env.informer(PODS)
    reconciler = DeploymentReconciler(
        deployments=deployments,
        sets=sets,
        pods=pods,
        client=client,
        claimer=Claimer(client, DEPLOYMENTS, REPLICASETS),
        recorder=env.recorder(ACCOUNT, ACCOUNT),
        clock=env.clock,
    )
    controller = Controller("deployment", reconciler.reconcile, workers=env.options.concurrent("deployment"))
    deployments.on_change(lambda old, new: controller.enqueue(key_of(new or old or {})))
    follow(sets, deployments, DEPLOYMENTS, controller.enqueue)

    def pod_changed(old: Object | None, new: Object | None) -> None:
        """Recreate waits for the last old pod to be gone."""
        if new is not None or old is None:
            return
        rs = resolve(sets, REPLICASETS, old)
        deployment = resolve(deployments, DEPLOYMENTS, rs) if rs is not None else None
        if deployment is not None and not is_rolling(deployment):
            controller.enqueue(key_of(deployment))

    pods.on_change(pod_changed)
    return [controller]
