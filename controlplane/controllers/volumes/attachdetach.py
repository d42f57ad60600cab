"""The hand of the attach-detach controller: VolumeAttachments made and deleted, node by node.

Source: k8s.io/kubernetes/pkg/controller/volume/attachdetach/{attach_detach_controller,reconciler}.go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from controlplane.controllers.environment import NODE_INDEX, Environment
from controlplane.controllers.pods import node_of
from controlplane.controllers.volumes.attachments import (
    MANAGED,
    AttachPlan,
    Setting,
    Storage,
    other_users,
    plan_node,
)
from controlplane.controllers.volumes.protection import CLAIM_INDEX, claim_keys, claims_used
from machinery.api.catalogue import (
    CSIDRIVERS,
    CSINODES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    VOLUMEATTACHMENTS,
)
from machinery.api.meta import Object, annotations_of, name_of, namespace_of, uid_of
from machinery.cache.informer import Informer
from machinery.client.rest import MERGE, Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import AlreadyExists, NavarchError, NotFound
from machinery.events import EventRecorder
from machinery.periodic import every

ACCOUNT = "attachdetach-controller"


@dataclass(frozen=True)
class AttachDetach:
    """Keeps the attachments of one node."""

    nodes: Informer
    pods: Informer
    attachments: Informer
    csi_nodes: Informer
    storage: Storage
    client: Client
    recorder: EventRecorder
    clock: Clock
    force: bool
    told: dict[str, None] = field(default_factory=dict)
    """Attachments (by uid) whose success was told of."""

    async def reconcile(self, key: str) -> float | None:
        """One node; returns seconds until volumes may be taken from it by force."""
        node = self.nodes.get(key)
        if node is None or annotations_of(node).get(MANAGED) != "true":
            return None
        attachments = {name_of(a): a for a in self.attachments.list()}
        setting = Setting(
            storage=self.storage,
            attachments=attachments,
            driver_nodes=self._has_driver,
            users=lambda volume, name: other_users(self.pods.list(), self.storage, volume, name),
            force=self.force,
        )
        plan = plan_node(node, self.pods.by_index(NODE_INDEX, key), setting, self.clock.now())
        await self._carry_out(node, plan)
        return plan.wait_seconds

    def _has_driver(self, driver: str, node: str) -> bool:
        found = self.csi_nodes.get(node)
        drivers = (found or {}).get("spec", {}).get("drivers") or ()
        return any(d.get("name") == driver for d in drivers)

    async def _carry_out(self, node: Object, plan: AttachPlan) -> None:
        for pod, message in plan.warnings:
            self.recorder.warning(pod, "FailedAttachVolume", message)
        # Kubelets trust the status: what is to be detached leaves it before it is.
        await self._write_attached(node, plan.attached)
        for attachment in plan.delete:
            try:
                await self.client.delete(VOLUMEATTACHMENTS, name_of(attachment), uid=uid_of(attachment))
            except NotFound:
                continue
        for attachment in plan.create:
            try:
                await self.client.create(VOLUMEATTACHMENTS, attachment)
            except AlreadyExists:
                continue  # the cache lags; its change leads here again
            except NavarchError as exc:
                volume = attachment["spec"]["source"]["persistentVolumeName"]
                self._tell(name_of(node), volume, f'AttachVolume.Attach failed for volume "{volume}" : {exc}')
                raise
        self._tell_successes(name_of(node), plan)

    def _tell(self, node: str, volume: str, message: str) -> None:
        for pod in self._users(node, volume):
            self.recorder.warning(pod, "FailedAttachVolume", message)

    def _tell_successes(self, node: str, plan: AttachPlan) -> None:
        going = {name_of(a) for a in plan.delete}
        for attachment in self.attachments.list():
            if attachment["spec"].get("nodeName") != node or name_of(attachment) in going:
                continue
            if not (attachment.get("status") or {}).get("attached") or uid_of(attachment) in self.told:
                continue
            self.told[uid_of(attachment)] = None
            volume = (attachment["spec"].get("source") or {}).get("persistentVolumeName") or ""
            for pod in self._users(node, volume):
                told = f'AttachVolume.Attach succeeded for volume "{volume}" '
                self.recorder.normal(pod, "SuccessfulAttachVolume", told)

    def _users(self, node: str, volume: str) -> list[Object]:
        pods = self.pods.by_index(NODE_INDEX, node)
        return [p for p in pods if any(name_of(v) == volume for v in self.storage.attachable(p))]

    async def _write_attached(self, node: Object, attached: list[Object]) -> None:
        if attached == ((node.get("status") or {}).get("volumesAttached") or []):
            return
        patch = {"status": {"volumesAttached": attached or None}}
        await self.client.patch(NODES, name_of(node), patch, content_type=MERGE, subresource="status")


def build(env: Environment) -> list[Controller]:
    """The controller of attachments."""
    nodes, pods, attachments = env.informer(NODES), env.informer(PODS), env.informer(VOLUMEATTACHMENTS)
    claims, volumes = env.informer(PERSISTENTVOLUMECLAIMS), env.informer(PERSISTENTVOLUMES)
    drivers, csi_nodes = env.informer(CSIDRIVERS), env.informer(CSINODES)
    pods.add_index(CLAIM_INDEX, claim_keys)
    reconciler = AttachDetach(
        nodes=nodes,
        pods=pods,
        attachments=attachments,
        csi_nodes=csi_nodes,
        storage=Storage(claims.get, volumes.get, drivers.get),
        client=env.client_for(ACCOUNT),
        recorder=env.recorder("attachdetach-controller", ACCOUNT),
        clock=env.clock,
        force=not env.options["disable-force-detach-on-timeout"],
    )
    controller = Controller("attach_detach", reconciler.reconcile, workers=5)

    def enqueue_users(claim_key: str) -> None:
        for pod in pods.by_index(CLAIM_INDEX, claim_key):
            if node_of(pod):
                controller.enqueue(node_of(pod))

    def volume_changed(old: Object | None, new: Object | None) -> None:
        volume = new or old or {}
        if volume["spec"].get("csi") and (reference := volume["spec"].get("claimRef")):
            enqueue_users(f"{reference['namespace']}/{reference['name']}")

    def attachment_changed(old: Object | None, new: Object | None) -> None:
        attachment = new or old or {}
        controller.enqueue(attachment["spec"].get("nodeName") or "")
        if new is None:  # whoever waits for the volume may have it now
            reconciler.told.pop(uid_of(attachment), None)
            name = (attachment["spec"].get("source") or {}).get("persistentVolumeName") or ""
            if (volume := volumes.get(name)) is not None:
                volume_changed(None, volume)

    nodes.on_change(_node_handler(controller.enqueue))
    pods.on_change(_pod_handler(controller.enqueue))
    claims.on_change(lambda old, new: enqueue_users(f"{namespace_of(c := new or old or {})}/{name_of(c)}"))
    volumes.on_change(volume_changed)
    attachments.on_change(attachment_changed)
    csi_nodes.on_change(lambda old, new: controller.enqueue(name_of(new or old or {})))
    if env.options["disable-attach-detach-reconcile-sync"]:
        return [controller]

    async def compare() -> None:
        for node in nodes.list():
            controller.enqueue(name_of(node))

    period = float(env.options["attach-detach-reconcile-sync-period"])
    return [controller, every("attach_detach_resync", period, compare)]


def _pod_handler(enqueue: Callable[[str], None]) -> Callable[[Object | None, Object | None], None]:
    def changed(old: Object | None, new: Object | None) -> None:
        """Pods without claims concern no attachment."""
        pod = new or old or {}
        if node_of(pod) and claims_used(pod):
            enqueue(node_of(pod))

    return changed


def _node_handler(enqueue: Callable[[str], None]) -> Callable[[Object | None, Object | None], None]:
    def shape(node: Object) -> object:
        """Heartbeats concern no attachment."""
        status = node.get("status") or {}
        ready = [(c.get("status"), c.get("lastTransitionTime")) for c in status.get("conditions") or ()]
        taints = (node.get("spec") or {}).get("taints")
        return (
            annotations_of(node).get(MANAGED),
            status.get("volumesInUse"),
            status.get("volumesAttached"),
            taints,
            ready,
        )

    def changed(old: Object | None, new: Object | None) -> None:
        if new is not None and (old is None or shape(old) != shape(new)):
            enqueue(name_of(new))

    return changed
