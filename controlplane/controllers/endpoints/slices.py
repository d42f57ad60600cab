"""Placing endpoints into EndpointSlices with as few writes as possible. Pure functions.

What stands stays in its slice; what is new fills slices that are written anyway, then the fullest that have room, then
new slices.

Source: k8s.io/endpointslice/reconciler.go, "reconcileByPortMapping"; KEP-752.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controlplane.controllers.endpoints.model import CHANGE_TRIGGER, HEADLESS, MANAGED_BY, SERVICE_NAME, PortSet
from machinery.api.meta import Object, annotations_of, labels_of, name_of, namespace_of, owner_reference
from machinery.api.resource import ResourceType

_RESERVED_LABELS = frozenset({MANAGED_BY, SERVICE_NAME, HEADLESS})


@dataclass(frozen=True)
class SlicePlan:
    """EndpointSlices to write."""

    create: tuple[Object, ...] = ()
    update: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.create or self.update or self.delete)


@dataclass(frozen=True)
class SliceMaker:
    """What all slices of one owner have in common."""

    owner: Object
    owner_kind: ResourceType
    manager: str
    labels: Mapping[str, str]
    """Labels besides the three that the controller itself sets."""

    annotations: Mapping[str, str]
    headless: bool
    service_name: str

    def all_labels(self) -> dict[str, str]:
        """The labels that a slice must have."""
        own = {k: v for k, v in self.labels.items() if k not in _RESERVED_LABELS}
        own |= {SERVICE_NAME: self.service_name, MANAGED_BY: self.manager}
        return own | {HEADLESS: ""} if self.headless else own

    def make(self, family: str, ports: list[Object], endpoints: list[Object]) -> Object:
        """A new slice."""
        name = name_of(self.owner)
        metadata: Object = {
            "generateName": f"{name}-",
            "namespace": namespace_of(self.owner),
            "labels": self.all_labels(),
            "ownerReferences": [owner_reference(self.owner, self.owner_kind)],
        }
        if self.annotations:
            metadata["annotations"] = dict(self.annotations)
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata,
            "addressType": family,
            "endpoints": endpoints,
            "ports": ports,
        }

    def dress(self, slice_: Object, endpoints: list[Object]) -> Object:
        """A slice that exists with these endpoints and the labels and annotations it must have."""
        metadata = {**slice_["metadata"], "labels": self.all_labels()}
        annotations = {**_without_trigger(annotations_of(slice_)), **self.annotations}
        if annotations:
            metadata["annotations"] = annotations
        else:
            metadata.pop("annotations", None)
        return {**slice_, "metadata": metadata, "endpoints": endpoints, "ports": slice_.get("ports") or []}

    def fits(self, slice_: Object) -> bool:
        """Whether the slice has the labels and annotations it must have."""
        wanted = {k: v for k, v in self.annotations.items() if k != CHANGE_TRIGGER}
        return labels_of(slice_) == self.all_labels() and annotations_of(slice_).items() >= wanted.items()


def _without_trigger(annotations: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in annotations.items() if k != CHANGE_TRIGGER}


def endpoint_key(endpoint: Object) -> tuple[str, ...]:
    """What makes an endpoint the same one through changes of its conditions."""
    target = endpoint.get("targetRef") or {}
    return (*endpoint["addresses"], target.get("uid", ""), target.get("name", ""))


def _bare(endpoint: Object) -> Object:
    """An endpoint as it is compared: fields that are not set are not there."""
    return {k: v for k, v in endpoint.items() if v not in (None, {}, [])}


def plan_slices(
    maker: SliceMaker,
    family: str,
    existing: Iterable[Object],
    desired: Mapping[PortSet, list[Object]],
    limit: int,
) -> SlicePlan:
    """The writes that make the existing slices of one address family hold the desired endpoints.

    An owner without endpoints keeps one empty slice, so that readers can tell "none" from "not yet looked at".
    """
    by_ports: dict[PortSet, list[Object]] = defaultdict(list)
    create: list[Object] = []
    update: list[Object] = []
    delete: list[Object] = []
    for slice_ in existing:
        by_ports[PortSet.of(slice_.get("ports") or ())].append(slice_)
    for ports, endpoints in desired.items():
        part = _place(maker, family, ports, by_ports.pop(ports, []), endpoints, limit)
        create += part.create
        update += part.update
        delete += part.delete
    delete += [slice_ for slices in by_ports.values() for slice_ in slices]
    kept = any(desired.values())
    if not kept and not create and not update:
        placeholder = next((s for s in delete if not s.get("endpoints") and not s.get("ports")), None)
        if placeholder is None:
            create.append(maker.make(family, [], []))
        else:
            delete.remove(placeholder)
            if not maker.fits(placeholder):
                update.append(maker.dress(placeholder, []))
    # A slice that is to go is rewritten in place of making another: one write, and no moment without.
    while create and delete:
        fresh, old = create.pop(), delete.pop(0)
        update.append({**maker.dress(old, fresh["endpoints"]), "ports": fresh["ports"]})
    return SlicePlan(tuple(create), tuple(update), tuple(delete))


def _place(
    maker: SliceMaker, family: str, ports: PortSet, slices: list[Object], endpoints: list[Object], limit: int
) -> SlicePlan:
    unplaced = {endpoint_key(e): e for e in endpoints}
    kept: dict[str, list[Object]] = {}
    changed: set[str] = set()
    for slice_ in slices:
        name = name_of(slice_)
        kept[name] = []
        before = slice_.get("endpoints") or []
        for endpoint in before:
            wanted = unplaced.pop(endpoint_key(endpoint), None)
            if wanted is None:
                changed.add(name)
                continue
            kept[name].append(wanted)
            if _bare(wanted) != _bare(endpoint):
                changed.add(name)
        if not maker.fits(slice_):
            changed.add(name)
    waiting = list(unplaced.values())

    def fill(name: str) -> None:
        room = max(0, limit - len(kept[name]))
        kept[name] += waiting[:room]
        del waiting[:room]

    for name in sorted(changed, key=lambda n: -len(kept[n])):
        fill(name)
    while waiting:
        # The fullest slice that takes all of them, so that the writes stay few; else whatever has most room.
        roomy = [n for n in kept if n not in changed and len(kept[n]) < limit]
        best = [n for n in roomy if len(kept[n]) + len(waiting) <= limit]
        if not best:
            break
        name = max(best, key=lambda n: len(kept[n]))
        changed.add(name)
        fill(name)
    create = [maker.make(family, ports.ports, waiting[i : i + limit]) for i in range(0, len(waiting), limit)]
    by_name = {name_of(s): s for s in slices}
    delete = [by_name[n] for n in kept if not kept[n]]
    update = [maker.dress(by_name[n], kept[n]) for n in changed if kept[n]]
    return SlicePlan(tuple(create), tuple(update), tuple(delete))
