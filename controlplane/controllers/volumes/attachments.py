"""Which volumes must be attached to which nodes. Pure functions.

Only CSI volumes are attached: a VolumeAttachment asks the driver's external attacher to do it.

Source: k8s.io/kubernetes/pkg/controller/volume/attachdetach; pkg/volume/csi/csi_attacher.go (names).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controlplane.controllers.pods import is_finished, node_of
from controlplane.controllers.volumes.protection import claims_used
from machinery.api.catalogue import VOLUMEATTACHMENTS
from machinery.api.meta import (
    Object,
    annotations_of,
    condition,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    parse_time,
)

MANAGED = "volumes.kubernetes.io/controller-managed-attach-detach"
KEEPS_TERMINATED = "volumes.kubernetes.io/keep-terminated-pod-volumes"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
FORCE_DETACH_AFTER = timedelta(minutes=6)
_SHARED_MODES = frozenset({"ReadWriteMany", "ReadOnlyMany"})

Lookup = Callable[[str], Object | None]


@dataclass(frozen=True)
class Storage:
    """How claims, volumes and drivers are looked up: by key, or name."""

    claim: Lookup
    volume: Lookup
    driver: Lookup

    def attachable(self, pod: Object) -> list[Object]:
        """The persistent volumes of a pod whose driver wants them attached."""
        found = []
        for name in sorted(claims_used(pod)):
            claim = self.claim(f"{namespace_of(pod)}/{name}")
            if claim is None or (claim.get("status") or {}).get("phase") != "Bound":
                continue
            volume = self.volume(claim["spec"].get("volumeName") or "")
            source = volume["spec"].get("csi") if volume is not None else None
            if volume is None or not source:
                continue
            driver = self.driver(source["driver"])
            if driver is None or (driver.get("spec") or {}).get("attachRequired", True):
                found.append(volume)
        return found


def wants_volumes(pod: Object, node: Object) -> bool:
    """Whether the pod's volumes are to be attached to its node."""
    if annotations_of(node).get(MANAGED) != "true":
        return False
    return not is_finished(pod) or annotations_of(node).get(KEEPS_TERMINATED) == "true"


def attachment_name(volume: Object, node: str) -> str:
    """The name that attachers and kubelets compute as well."""
    source = volume["spec"]["csi"]
    digest = hashlib.sha256(f"{source['volumeHandle']}{source['driver']}{node}".encode()).hexdigest()
    return f"csi-{digest}"


def unique_name(volume: Object) -> str:
    """What node statuses call the volume."""
    source = volume["spec"]["csi"]
    return f"kubernetes.io/csi/{source['driver']}^{source['volumeHandle']}"


def make_attachment(volume: Object, node: str) -> Object:
    """The VolumeAttachment that asks for it."""
    return {
        "apiVersion": VOLUMEATTACHMENTS.api_version,
        "kind": VOLUMEATTACHMENTS.kind,
        "metadata": {"name": attachment_name(volume, node)},
        "spec": {
            "attacher": volume["spec"]["csi"]["driver"],
            "nodeName": node,
            "source": {"persistentVolumeName": name_of(volume)},
        },
    }


@dataclass
class AttachPlan:
    """The writes for one node."""

    create: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    attached: list[Object] = field(default_factory=list)
    """status.volumesAttached."""

    warnings: list[tuple[Object, str]] = field(default_factory=list)
    """(pod, message): FailedAttachVolume."""

    wait_seconds: float | None = None


@dataclass(frozen=True)
class Setting:
    """What a plan looks at besides the node."""

    storage: Storage
    attachments: Mapping[str, Object]
    """All VolumeAttachments, by name."""

    driver_nodes: Callable[[str, str], bool]
    """(driver, node): whether the driver runs there."""

    users: Callable[[str, str], list[str]]
    """(volume, node): keys of the pods on other nodes that use the volume."""

    force: bool = True
    """Whether to detach from a node that does not answer any more."""


def plan_node(node: Object, pods: Iterable[Object], setting: Setting, now: datetime) -> AttachPlan:
    """What has to be attached to the node and what may be detached from it."""
    plan, name = AttachPlan(), name_of(node)
    wanted: dict[str, tuple[Object, list[Object]]] = {}
    users: dict[str, list[Object]] = defaultdict(list)
    for pod in pods:
        if wants_volumes(pod, node):
            for volume in setting.storage.attachable(pod):
                users[name_of(volume)].append(pod)
                wanted[attachment_name(volume, name)] = volume, users[name_of(volume)]
    mine = {key: a for key, a in setting.attachments.items() if a["spec"].get("nodeName") == name}
    for key, (volume, pods_here) in wanted.items():
        present = mine.get(key)
        if present is None:
            _attach(plan, node, volume, pods_here, setting)
        elif error := ((present.get("status") or {}).get("attachError") or {}).get("message"):
            told = f'AttachVolume.Attach failed for volume "{name_of(volume)}" : {error}'
            plan.warnings += [(pod, told) for pod in pods_here]
    in_use = set((node.get("status") or {}).get("volumesInUse") or ())
    for key, present in mine.items():
        volume_name = (present["spec"].get("source") or {}).get("persistentVolumeName") or ""
        volume_or_none = setting.storage.volume(volume_name)
        source = (volume_or_none or {}).get("spec", {}).get("csi")
        if key in wanted or volume_or_none is None or not source:
            keep = True
        elif unique_name(volume_or_none) in in_use:
            wait = seconds_to_force(node, now) if setting.force else None
            keep = wait is None or wait > 0
            if wait is not None and wait > 0:
                plan.wait_seconds = wait if plan.wait_seconds is None else min(plan.wait_seconds, wait)
        else:
            keep = False
        if not keep and not is_deleting(present):
            plan.delete.append(present)
        if keep and volume_or_none is not None and source and (present.get("status") or {}).get("attached"):
            plan.attached.append({"name": unique_name(volume_or_none), "devicePath": ""})
    plan.attached.sort(key=lambda item: str(item["name"]))
    return plan


def _attach(plan: AttachPlan, node: Object, volume: Object, pods: list[Object], setting: Setting) -> None:
    name = name_of(node)
    elsewhere = [
        a
        for a in setting.attachments.values()
        if (a["spec"].get("source") or {}).get("persistentVolumeName") == name_of(volume)
        and a["spec"].get("nodeName") != name
    ]
    if elsewhere and not _SHARED_MODES & set(volume["spec"].get("accessModes") or ()):
        others = setting.users(name_of(volume), name)
        told = f'Multi-Attach error for volume "{name_of(volume)}" '
        if others:
            told += f"Volume is already used by pod(s) {', '.join(sorted(o.rpartition('/')[2] for o in others))}"
        else:
            told += "Volume is already exclusively attached to one node and can't be attached to another"
        plan.warnings += [(pod, told) for pod in pods]
        return
    driver = volume["spec"]["csi"]["driver"]
    if not setting.driver_nodes(driver, name):
        told = (
            f'AttachVolume.Attach failed for volume "{name_of(volume)}" : CSINode {name} does not contain driver '
            f"{driver}"
        )
        plan.warnings += [(pod, told) for pod in pods]
        return
    plan.create.append(make_attachment(volume, name))


def seconds_to_force(node: Object, now: datetime) -> float | None:
    """Seconds until volumes may be taken from a node that still uses them; None while it answers.

    A node marked out-of-service is known to be down: at once.
    """
    if any(t.get("key") == OUT_OF_SERVICE for t in (node.get("spec") or {}).get("taints") or ()):
        return 0.0
    ready = condition((node.get("status") or {}).get("conditions"), "Ready")
    if ready is None or ready.get("status") == "True" or not ready.get("lastTransitionTime"):
        return None
    return max(0.0, (parse_time(ready["lastTransitionTime"]) + FORCE_DETACH_AFTER - now).total_seconds())


def other_users(pods: Iterable[Object], storage: Storage, volume: str, node: str) -> list[str]:
    """Keys of the pods on other nodes that use a volume."""
    return [
        key_of(pod)
        for pod in pods
        if node_of(pod) not in ("", node)
        and not is_finished(pod)
        and any(name_of(v) == volume for v in storage.attachable(pod))
    ]
