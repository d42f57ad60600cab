"""Extended resources that device classes stand behind: one special claim asks for a pod's devices.

Source: KEP-5004; k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources (extendeddynamicresources.go,
extended/).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from machinery.api import quantity
from machinery.api.catalogue import RESOURCECLAIMS
from machinery.api.meta import Object, controller_of, name_of, namespace_of, uid_of
from machinery.api.podresources import DEVICE_CLASS_PREFIX, is_sidecar
from machinery.api.resourceclaims import SPECIAL, is_special
from machinery.cache.informer import Informer

IN_MEMORY = "<extended-resources>"
"""The name of a special claim that has not been created yet."""


def mapping(classes: Iterable[Object]) -> dict[str, Object]:
    """Extended resource → the class that stands behind it; of several the youngest, of those the first by name."""
    found: dict[str, Object] = {}
    for each in sorted(classes, key=name_of, reverse=True):
        found[f"{DEVICE_CLASS_PREFIX}{name_of(each)}"] = each
        named = each["spec"].get("extendedResourceName")
        if named is not None and (named not in found or _created(each) >= _created(found[named])):
            found[named] = each
    return found


def _created(obj: Object) -> str:
    return str(obj["metadata"].get("creationTimestamp") or "")


class DeviceClasses:
    """All device classes, by their names and by the extended resources that they stand behind."""

    def __init__(self, informer: Informer, changed: Callable[[], None]) -> None:
        """`changed` is called when another class may stand behind a resource."""
        self.informer = informer
        self._mapping: Mapping[str, Object] | None = None
        self._changed = changed
        informer.on_change(self._forget)

    def _forget(self, old: Object | None, new: Object | None) -> None:
        self._mapping = None
        self._changed()

    def by_name(self) -> dict[str, Object]:
        """The classes."""
        return {name_of(each): each for each in self.informer.list()}

    def behind(self, resource: str) -> Object | None:
        """The class of an extended resource, if any."""
        if self._mapping is None:
            self._mapping = mapping(self.informer.list())
        return self._mapping.get(resource)

    def stands_behind(self, resource: str) -> bool:
        """Whether nodes that do not offer the resource themselves may have devices for it."""
        return self.behind(resource) is not None


def special_claim(pod: Object) -> Object:
    """The claim for a pod's extended resources, as yet without requests and for this scheduler only."""
    reference = {"apiVersion": "v1", "kind": "Pod", "name": name_of(pod), "uid": uid_of(pod), "controller": True}
    return {
        "apiVersion": RESOURCECLAIMS.api_version,
        "kind": RESOURCECLAIMS.kind,
        "metadata": {
            "name": IN_MEMORY,
            "namespace": namespace_of(pod),
            "uid": str(uuid.uuid4()),
            "generateName": f"{name_of(pod)}-extended-resources-",
            "ownerReferences": [reference],
            "annotations": {SPECIAL: "true"},
        },
        "spec": {},
    }


def to_create(claim: Object) -> Object:
    """What the API server is asked to make of a special claim."""
    metadata = {name: value for name, value in claim["metadata"].items() if name not in ("name", "uid")}
    return {**claim, "metadata": metadata}


def owner_uid(claim: Object) -> list[str]:
    """The index of special claims: by the pods that they are for."""
    owner = controller_of(claim) if is_special(claim) else None
    return [owner["uid"]] if owner is not None else []


@dataclass(frozen=True)
class Asked:
    """What a special claim asks for on some nodes, and which container uses which of its requests for what."""

    requests: Sequence[Object]
    mappings: Sequence[Object]


def asked(spec: Object, class_names: Mapping[str, str]) -> Asked:
    """What a pod's containers want of resources (by their names) that come from devices of these classes.

    Containers that run one after the other share: what only init containers need is asked for once, as much as the
    neediest wants beyond what the containers after it have.
    """
    starting = spec.get("initContainers") or ()
    containers = [*starting, *(spec.get("containers") or ())]
    brief = [number for number, each in enumerate(starting) if not is_sidecar(each)]
    requests: list[Object] = []
    mappings: list[Object] = []
    for resource in sorted(class_names):
        lasting: list[Object | None] = [None] * len(containers)
        for number, container in enumerate(containers):
            if number not in brief:
                lasting[number], used = _of_container(number, container, resource, class_names[resource], ())
                mappings += used
        own: list[Object] = []
        shared: list[Object] = []
        for number in brief:
            later = [request for request in lasting[number:] if request is not None]
            request, used = _of_container(number, containers[number], resource, class_names[resource], later)
            shared += used
            own += [request] if request is not None else []
        if own:
            most = max(own, key=lambda request: int(request["exactly"]["count"]))
            names = {request["name"] for request in own}
            shared = [{**m, "requestName": most["name"]} if m["requestName"] in names else m for m in shared]
            requests.append(most)
        requests += [request for request in lasting if request is not None]
        mappings += shared
    return Asked(sorted(requests, key=lambda request: str(request["name"])), mappings)


def _of_container(
    number: int, container: Object, resource: str, class_name: str, reusable: Sequence[Object]
) -> tuple[Object | None, list[Object]]:
    """(the request that the container needs beyond those it can reuse, which requests it uses)."""
    given = (container.get("resources") or {}).get("requests") or {}
    wanted = quantity.parse(given.get(resource) or "0")
    if not wanted or not wanted.is_integer():
        return None, []
    used: list[Object] = []

    def uses(name: str) -> None:
        used.append({"containerName": container["name"], "resourceName": resource, "requestName": name})

    missing = wanted.value()
    for request in reusable:
        uses(request["name"])
        missing -= request["exactly"]["count"]
        if missing <= 0:
            return None, used
    name = f"container-{number}-request-{sorted(given).index(resource)}"
    uses(name)
    exactly = {"deviceClassName": class_name, "allocationMode": "ExactCount", "count": missing}
    return {"name": name, "exactly": exactly}, used
