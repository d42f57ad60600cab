"""Which changes in the cluster may help a pod that a plugin turned away.

Source: EventsToRegister and the queueing hints of k8s.io/kubernetes/pkg/scheduler/framework/plugins; KEP-4247.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from controlplane.scheduler.columns import tolerates
from controlplane.scheduler.plugins.node import UNBEARABLE
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.resources import PODS, ResourceNames, allocatable, is_scalar
from machinery.api.meta import Object, name_of, namespace_of
from machinery.api.podresources import DEVICE_CLASS_PREFIX

NODE_ADD, NODE_DELETE = "NodeAdd", "NodeDelete"
NODE_ALLOCATABLE, NODE_LABEL, NODE_TAINT = "UpdateNodeAllocatable", "UpdateNodeLabel", "UpdateNodeTaint"
NODE_CONDITION, NODE_ANNOTATION = "UpdateNodeCondition", "UpdateNodeAnnotation"
NODE_FEATURE = "UpdateNodeDeclaredFeature"
POD_ADD, POD_DELETE = "AssignedPodAdd", "AssignedPodDelete"
POD_LABEL, POD_SCALE_DOWN = "AssignedPodUpdatePodLabel", "AssignedPodUpdatePodScaleDown"


def added(kind: str) -> str:
    """The event of a new object of another kind."""
    return f"{kind}Add"


def updated(kind: str) -> str:
    """The event of a changed one."""
    return f"{kind}Update"


def deleted(kind: str) -> str:
    """The event of one that is gone."""
    return f"{kind}Delete"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happened: (None, new) added, (old, new) changed, (old, None) deleted; of pods their compiled form.

    Without objects it stands for anything that may have happened.
    """

    event: str
    old: Object | Pod | None = None
    new: Object | Pod | None = None


Hint = Callable[[Pod, Change], bool]
"""Whether the change may help the pod."""


def _always(pod: Pod, change: Change) -> bool:
    return True


class Hints:
    """What each plugin waits for. Plugins that are not known here are helped by anything."""

    def __init__(self, names: ResourceNames, from_devices: Callable[[str], bool] = lambda name: False) -> None:
        """`from_devices` tells which resources nodes that do not offer them may have as devices."""
        self._names = names
        self._from_devices = from_devices
        near = {NODE_ADD: _always, NODE_LABEL: _always, POD_ADD: _company, POD_LABEL: _company, POD_DELETE: _company}
        storage = (added("PersistentVolume"), updated("PersistentVolume"), *_both("StorageClass"))
        self._plugins: dict[str, Mapping[str, Hint]] = {
            "NodeUnschedulable": {NODE_ADD: _not_cordoned, NODE_TAINT: _not_cordoned},
            "NodeName": {NODE_ADD: lambda pod, change: _name(change.new) == pod.node_name},
            "TaintToleration": {NODE_ADD: _tolerable, NODE_TAINT: _tolerable},
            "NodeAffinity": {NODE_ADD: _always, NODE_LABEL: _always},
            "NodeDeclaredFeatures": {NODE_ADD: _always, NODE_FEATURE: _always},
            "NodePorts": {NODE_ADD: _always, POD_DELETE: _frees_ports},
            "NodeResourcesFit": {
                NODE_ADD: self._large_enough,
                NODE_ALLOCATABLE: self._large_enough,
                POD_DELETE: _frees_resources,
                POD_SCALE_DOWN: _frees_resources,
                **dict.fromkeys(_both("DeviceClass"), _brings_devices),
            },
            "InterPodAffinity": near,
            "PodTopologySpread": near | {NODE_DELETE: _always, NODE_TAINT: _always},
            "VolumeRestrictions": {
                POD_DELETE: _frees_claims,
                added("PersistentVolumeClaim"): _own_claim,
            },
            "VolumeBinding": {
                **dict.fromkeys(
                    (NODE_ADD, NODE_LABEL, *storage, *_both("CSINode"), *_both("CSIStorageCapacity")), _always
                ),
                **dict.fromkeys((updated("CSIDriver"), deleted("CSIDriver")), _always),
                **dict.fromkeys(_both("PersistentVolumeClaim"), _own_claim),
            },
            "VolumeZone": {
                **dict.fromkeys((NODE_ADD, NODE_LABEL, *storage), _always),
                **dict.fromkeys(_both("PersistentVolumeClaim"), _own_claim),
            },
            "NodeVolumeLimits": {
                **dict.fromkeys((*_both("CSINode"), deleted("VolumeAttachment"), POD_DELETE), _always),
                **dict.fromkeys(_both("PersistentVolumeClaim"), _own_claim),
            },
            "DynamicResources": dict.fromkeys(
                (
                    NODE_ADD,
                    NODE_LABEL,
                    NODE_ALLOCATABLE,
                    *_both("ResourceClaim"),
                    deleted("ResourceClaim"),
                    *_both("DeviceClass"),
                    *_both("ResourceSlice"),
                ),
                _always,
            ),
        }

    def interested(self, plugins: Collection[str], event: str) -> bool:
        """Whether one of the plugins waits for such an event at all; without any (there was no node), all may help."""
        return not plugins or any((hints := self._plugins.get(plugin)) is None or event in hints for plugin in plugins)

    def may_help(self, pod: Pod, plugins: Collection[str], change: Change) -> bool:
        """Whether the change may let the pod past one of the plugins that turned it away, if any has."""
        if not plugins:
            return True
        for plugin in plugins:
            hints = self._plugins.get(plugin)
            if hints is None:
                return True
            hint = hints.get(change.event)
            if hint is not None and hint(pod, change):
                return True
        return False

    def _large_enough(self, pod: Pod, change: Change) -> bool:
        if not isinstance(change.new, dict):
            return True
        there = allocatable(change.new, self._names)
        return all(
            there.get(column, 0) >= number
            or (not there.get(column) and is_scalar(name := self._names.names[column]) and self._from_devices(name))
            for column, number in pod.shape.asked.items()
        )


def _both(kind: str) -> tuple[str, str]:
    return added(kind), updated(kind)


def _name(obj: Object | Pod | None) -> str:
    return name_of(obj) if isinstance(obj, dict) else ""


def _not_cordoned(pod: Pod, change: Change) -> bool:
    return not (isinstance(change.new, dict) and change.new["spec"].get("unschedulable"))


def _tolerable(pod: Pod, change: Change) -> bool:
    if not isinstance(change.new, dict):
        return True
    for taint in change.new["spec"].get("taints") or ():
        standing = (taint.get("key", ""), taint.get("value", ""), taint.get("effect", ""))
        if standing[2] in UNBEARABLE and not any(tolerates(each, standing) for each in pod.shape.tolerations):
            return False
    return True


def _frees_resources(pod: Pod, change: Change) -> bool:
    """A pod that is gone makes room in any case; one that shrank, of what this one asks for."""
    if not isinstance(change.old, Pod) or change.new is None:
        return True
    return any(column in change.old.shape.asked for column in pod.shape.asked if column != PODS)


def _brings_devices(pod: Pod, change: Change) -> bool:
    """A class of devices may stand behind a resource that the pod asks for."""
    if not isinstance(change.new, dict):
        return True
    named = change.new["spec"].get("extendedResourceName")
    return any(name in (named, f"{DEVICE_CLASS_PREFIX}{name_of(change.new)}") for name in pod.shape.device_resources)


def _frees_ports(pod: Pod, change: Change) -> bool:
    if not isinstance(change.old, Pod):
        return True
    taken = {(protocol, number) for _, protocol, number in change.old.shape.ports}
    return any((protocol, number) in taken for _, protocol, number in pod.shape.ports)


def _frees_claims(pod: Pod, change: Change) -> bool:
    if not isinstance(change.old, Pod):
        return True
    other = change.old.shape
    same = other.namespace == pod.namespace and bool({n for n, _ in other.claims} & {n for n, _ in pod.shape.claims})
    return same or bool(other.disks and pod.shape.disks)


def _own_claim(pod: Pod, change: Change) -> bool:
    claim = change.new if change.new is not None else change.old
    if not isinstance(claim, dict):
        return True
    return namespace_of(claim) == pod.namespace and any(name == name_of(claim) for name, _ in pod.shape.claims)


def _company(pod: Pod, change: Change) -> bool:
    """Whether a pod that came, went or has other labels bears on what this pod, or that one, wants near or far."""
    others = [other.shape for other in (change.old, change.new) if isinstance(other, Pod)]
    shape = pod.shape
    wanted = [term for term, _, _ in (*shape.affinity, *shape.anti_affinity)]
    if not others or any(term.namespace_selector is not None for term in wanted):
        return True
    terms = [*wanted, *(constraint.term for constraint in shape.spreads)]
    return not terms or any(
        other.anti_affinity or any(term.matches(other.namespace, other.labels, {}) for term in terms)
        for other in others
    )
