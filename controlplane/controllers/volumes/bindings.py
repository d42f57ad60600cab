"""What a claim and a volume look like once they are bound, and what a claim waits for. Pure functions.

Source: k8s.io/kubernetes/pkg/controller/volume/persistentvolume/{pv_controller,index}.go.
"""

from __future__ import annotations

from controlplane.controllers.pods import is_finished, node_of
from controlplane.controllers.volumes.matching import BIND_COMPLETED, BOUND_BY_CONTROLLER, SELECTED_NODE
from machinery.api.meta import Object, annotations_of, name_of, namespace_of, uid_of

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def waits_for_consumer(claim: Object, storage_class: Object | None) -> bool:
    """Whether binding is left to the scheduler until a pod needs the claim."""
    if storage_class is None or storage_class.get("volumeBindingMode") != "WaitForFirstConsumer":
        return False
    return SELECTED_NODE not in annotations_of(claim)


def awaited(pods: list[Object]) -> tuple[str, str]:
    """(reason, message): what a claim waits for that a scheduler binds; `pods` are those that use it."""
    names = sorted(name_of(pod) for pod in pods if not node_of(pod) and not is_finished(pod))
    if not names:
        return "WaitForFirstConsumer", "waiting for first consumer to be created before binding"
    which = f"pod {names[0]}" if len(names) == 1 else f"pods {','.join(names)}"
    return "WaitForPodScheduled", f"waiting for {which} to be scheduled"


def default_class(classes: list[Object]) -> str:
    """The default storage class: the youngest of those marked so; "" if there is none."""
    marked = [c for c in classes if annotations_of(c).get(_DEFAULT_CLASS) == "true"]
    marked.sort(key=lambda c: (c["metadata"].get("creationTimestamp") or "", name_of(c)))
    return name_of(marked[-1]) if marked else ""


def with_annotations(obj: Object, **changes: str | None) -> Object:
    """The object with annotations set, or (None) taken away; names come with dots and slashes from a dict."""
    annotations = {**annotations_of(obj)}
    for name, value in changes.items():
        if value is None:
            annotations.pop(name, None)
        else:
            annotations[name] = value
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


def reserved(volume: Object, claim: Object) -> Object:
    """The volume with a claimRef to this very claim."""
    if (volume["spec"].get("claimRef") or {}).get("uid") == uid_of(claim):
        return volume
    chosen_by_user = bool(volume["spec"].get("claimRef"))
    reference = {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "namespace": namespace_of(claim),
        "name": name_of(claim),
        "uid": uid_of(claim),
        "resourceVersion": claim["metadata"].get("resourceVersion", ""),
    }
    made = {**volume, "spec": {**volume["spec"], "claimRef": reference}}
    return made if chosen_by_user else with_annotations(made, **{BOUND_BY_CONTROLLER: "yes"})


def pointed(claim: Object, volume: Object) -> Object:
    """The claim that names its volume and is marked as bound."""
    if claim["spec"].get("volumeName") == name_of(volume) and BIND_COMPLETED in annotations_of(claim):
        return claim
    marks = {BIND_COMPLETED: "yes"}
    if claim["spec"].get("volumeName") != name_of(volume):
        marks[BOUND_BY_CONTROLLER] = "yes"
    return with_annotations({**claim, "spec": {**claim["spec"], "volumeName": name_of(volume)}}, **marks)


def bound_status(claim: Object, volume: Object) -> Object:
    """The status of a bound claim."""
    status = {**(claim.get("status") or {}), "phase": "Bound"}
    status["accessModes"] = volume["spec"].get("accessModes") or []
    if not status.get("capacity") or (claim.get("status") or {}).get("phase") != "Bound":
        status["capacity"] = volume["spec"].get("capacity") or {}
    attributes = volume["spec"].get("volumeAttributesClassName")
    if attributes:
        status["currentVolumeAttributesClassName"] = attributes
    return status
