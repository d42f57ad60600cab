"""A pod as the scheduler sees it: what decides where it can go, compiled once for all pods that agree in it.

Source: core/v1 PodSpec; k8s.io/kubernetes/pkg/scheduler/framework/types.go (PodInfo).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from controlplane.scheduler import resources
from controlplane.scheduler.resources import ResourceNames
from controlplane.scheduler.terms import PodLabels, Term, WeightedTerm, weighted_terms
from machinery.api import labels as label_selectors
from machinery.api.labels import Selector
from machinery.api.meta import Object, controller_of, is_deleting, key_of, labels_of, name_of, namespace_of, uid_of
from machinery.api.podresources import is_sidecar, may_be_devices

_KEPT_SHAPES = 8192


Disk = tuple[str, ...]
"""What tells disks apart that pods of one node do not share: a kind and its identity."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A topology spread constraint."""

    topology_key: str
    max_skew: int
    term: Term
    required: bool  # DoNotSchedule
    min_domains: int
    honor_affinity: bool
    honor_taints: bool
    matches_itself: bool


@dataclass(frozen=True, eq=False, slots=True)
class Shape:
    """What of a pod bears on scheduling. Pods of one shape get the same answer from the same nodes.

    `asked` and `scored` are in the units of `resources`; `number` is given to one shape only.
    """

    number: int
    namespace: str
    labels: Mapping[str, str]
    counted_as: PodLabels
    priority: int
    asked: dict[int, int]
    scored: tuple[int, int]
    ports: frozenset[tuple[str, str, int]]  # (ip, protocol, host port)
    images: tuple[str, ...]
    owner: tuple[str, str]  # (kind, name) of its controller, or empty
    volumes: tuple[Object, ...]  # those that are claims or disks
    disks: tuple[tuple[Disk, bool], ...]  # with whether for reading only
    claims: tuple[tuple[str, bool], ...]  # (claim name, whether of a generic ephemeral volume)
    resource_claims: tuple[str, ...]
    device_resources: tuple[str, ...]  # extended resources it asks for that device classes may stand behind
    features: frozenset[str]  # what its node must have declared that it can do
    tolerations: Sequence[Object]
    node_selector: Mapping[str, str]
    node_affinity: Object
    affinity: tuple[WeightedTerm, ...]
    anti_affinity: tuple[WeightedTerm, ...]
    preferred: tuple[WeightedTerm, ...]  # affinity with positive, anti-affinity with negative weight
    spreads: tuple[Spread, ...]


@dataclass(frozen=True, slots=True)
class Pod:
    """A compiled pod: the object, who it is, and its shape."""

    object: Object
    key: str
    uid: str
    namespace: str
    name: str
    shape: Shape

    @property
    def spec(self) -> Object:
        """The pod's spec."""
        spec: Object = self.object["spec"]
        return spec

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return self.shape.labels

    @property
    def priority(self) -> int:
        """Its priority; higher ones go first and may preempt."""
        return self.shape.priority

    @property
    def may_want_devices(self) -> bool:
        """Whether it uses ResourceClaims, or extended resources that may come from devices."""
        return bool(self.shape.resource_claims or self.shape.device_resources)

    @property
    def node_name(self) -> str:
        """Where it has been bound to, or ""."""
        return self.object["spec"].get("nodeName") or ""

    @property
    def nominated_node(self) -> str:
        """Where room is being made for it, or ""."""
        return (self.object.get("status") or {}).get("nominatedNodeName") or ""

    @property
    def scheduler_name(self) -> str:
        """Which profile it is for."""
        return self.object["spec"].get("schedulerName") or "default-scheduler"


class Shapes:
    """Compiles pods; those that agree share what was compiled."""

    def __init__(self, names: ResourceNames) -> None:
        self._names = names
        self._known: dict[bytes, Shape] = {}
        self._numbers = itertools.count(1)

    def pod(self, obj: Object) -> Pod:
        """The compiled form. The object must have passed the API server's validation."""
        agreeing = orjson.dumps(_deciding(obj))
        shape = self._known.get(agreeing)
        if shape is None:
            if len(self._known) >= _KEPT_SHAPES:
                self._known.clear()
            shape = self._known[agreeing] = _shape(obj, next(self._numbers), self._names)
        return Pod(obj, key_of(obj), uid_of(obj), shape.namespace, name_of(obj), shape)


_SPEC = (
    "affinity",
    "nodeSelector",
    "overhead",
    "priority",
    "resources",
    "tolerations",
    "topologySpreadConstraints",
)
_DEVICES = ("gcePersistentDisk", "awsElasticBlockStore", "iscsi", "rbd")


def _deciding(obj: Object) -> list[Any]:
    spec, meta = obj["spec"], obj["metadata"]
    status = obj.get("status") or {}
    get = spec.get
    owners = meta.get("ownerReferences")
    owner = controller_of(obj) if owners else None
    parts: list[Any] = [
        meta.get("namespace"),
        meta.get("labels"),
        meta.get("deletionTimestamp") is not None,
        [owner.get("kind"), owner["name"]] if owner else None,
        [get(name) for name in _SPEC],
        [_container_parts(container) for container in get("containers") or ()],
        [_container_parts(container) for container in get("initContainers") or ()],
        _volumes(spec),
        get("hostUsers") is False and bool(get("hostNetwork")),
        _image_volumes(spec),
    ]
    if any("ephemeral" in volume for volume in get("volumes") or ()) or get("resourceClaims"):
        parts += [uid_of(obj), name_of(obj), get("resourceClaims"), status.get("resourceClaimStatuses")]
    if status.get("resources") is not None:
        parts += [status["resources"], status.get("allocatedResources"), status.get("conditions")]
    for name in ("containerStatuses", "initContainerStatuses"):
        for each in status.get(name) or ():
            if each.get("resources") is not None:
                parts += [each["name"], each["resources"], each.get("allocatedResources"), status.get("conditions")]
    return parts


def _container_parts(container: Object) -> list[Any]:
    get = container.get
    parts = [container["name"], get("image"), get("resources"), get("ports"), get("restartPolicy")]
    return [*parts, rules] if (rules := get("restartPolicyRules")) else parts


def _volumes(spec: Object) -> list[Object]:
    return [
        volume
        for volume in spec.get("volumes") or ()
        if "persistentVolumeClaim" in volume
        or "ephemeral" in volume
        or "csi" in volume
        or any(kind in volume for kind in _DEVICES)
    ]


def _image_volumes(spec: Object) -> list[str]:
    """The images that are volumes."""
    return [volume["image"].get("reference") or "" for volume in spec.get("volumes") or () if volume.get("image")]


def _shape(obj: Object, number: int, names: ResourceNames) -> Shape:
    spec = obj["spec"]
    labels, namespace = labels_of(obj), namespace_of(obj)
    affinity = spec.get("affinity") or {}
    together, apart = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
    owner = controller_of(obj)
    volumes = _volumes(spec)
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    asked = resources.requested(obj, names)
    return Shape(
        number=number,
        namespace=namespace,
        labels=labels,
        counted_as=(namespace, frozenset(labels.items()), is_deleting(obj)),
        priority=spec.get("priority") or 0,
        asked=asked,
        scored=resources.scored(obj),
        ports=_host_ports(spec),
        images=(*(container.get("image", "") for container in containers), *_image_volumes(spec)),
        owner=(owner.get("kind", ""), owner["name"]) if owner else ("", ""),
        volumes=tuple(volumes),
        disks=tuple(_disks(volumes)),
        claims=tuple(_claim_names(name_of(obj), volumes)),
        resource_claims=tuple(claim["name"] for claim in spec.get("resourceClaims") or ()),
        device_resources=tuple(sorted(name for name in map(names.names.__getitem__, asked) if may_be_devices(name))),
        features=frozenset(_features(spec)),
        tolerations=tuple(spec.get("tolerations") or ()),
        node_selector=spec.get("nodeSelector") or {},
        node_affinity=affinity.get("nodeAffinity") or {},
        affinity=tuple(weighted_terms(together.get(required), namespace, labels)),
        anti_affinity=tuple(weighted_terms(apart.get(required), namespace, labels)),
        preferred=(*_preferred(together, namespace, labels, 1), *_preferred(apart, namespace, labels, -1)),
        spreads=tuple(spread(each, namespace, labels) for each in spec.get("topologySpreadConstraints") or ()),
    )


def _claim_names(pod_name: str, volumes: Sequence[Object]) -> list[tuple[str, bool]]:
    found = []
    for volume in volumes:
        if claim := volume.get("persistentVolumeClaim"):
            found.append((claim["claimName"], False))
        elif volume.get("ephemeral"):
            found.append((f"{pod_name}-{volume['name']}", True))
    return found


def _features(spec: Object) -> Iterable[str]:
    """Source: k8s.io/component-helpers/nodedeclaredfeatures/features (of v1.36)."""
    containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    rules = [rule for container in containers for rule in container.get("restartPolicyRules") or ()]
    if any(rule.get("action") == "RestartAllContainers" for rule in rules):
        yield "RestartAllContainersOnContainerExits"
    if spec.get("hostNetwork") and spec.get("hostUsers") is False:
        yield "UserNamespacesHostNetworkSupport"


def _disks(volumes: Sequence[Object]) -> list[tuple[Disk, bool]]:
    found: list[tuple[Disk, bool]] = []
    for volume in volumes:
        if disk := volume.get("gcePersistentDisk"):
            found.append((("gce", disk["pdName"]), bool(disk.get("readOnly"))))
        elif disk := volume.get("awsElasticBlockStore"):
            found.append((("aws", disk["volumeID"]), False))
        elif disk := volume.get("iscsi"):
            found.append((("iscsi", disk["iqn"]), bool(disk.get("readOnly"))))
        elif disk := volume.get("rbd"):
            image = (disk.get("pool") or "rbd", disk["image"])
            found += [(("rbd", monitor, *image), bool(disk.get("readOnly"))) for monitor in disk["monitors"]]
    return found


def _host_ports(spec: Object) -> frozenset[tuple[str, str, int]]:
    sidecars = [container for container in spec.get("initContainers") or () if is_sidecar(container)]
    return frozenset(
        (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", number)
        for container in [*(spec.get("containers") or ()), *sidecars]
        for port in container.get("ports") or ()
        if (number := port.get("hostPort"))
    )


def _preferred(affinity: Object, namespace: str, labels: Mapping[str, str], sign: int) -> list[WeightedTerm]:
    given = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return [
        (term, key, sign * item["weight"])
        for item in given
        for term, key, _ in weighted_terms([item["podAffinityTerm"]], namespace, labels)
    ]


def spread(constraint: Object, namespace: str, labels: Mapping[str, str], selector: Selector | None = None) -> Spread:
    """A constraint of a pod; `selector` takes the place of the constraint's own (default constraints have none)."""
    if selector is None:
        selector = label_selectors.from_selector(constraint.get("labelSelector"))
        same = tuple(
            label_selectors.Requirement(key, label_selectors.IN, (labels[key],))
            for key in constraint.get("matchLabelKeys") or ()
            if key in labels
        )
        if same and not selector.nothing:
            selector = Selector((*selector.requirements, *same))
    return Spread(
        topology_key=constraint["topologyKey"],
        max_skew=constraint["maxSkew"],
        term=Term((selector,), frozenset((namespace,)), living=True),
        required=constraint["whenUnsatisfiable"] == "DoNotSchedule",
        min_domains=constraint.get("minDomains") or 1,
        honor_affinity=(constraint.get("nodeAffinityPolicy") or "Honor") == "Honor",
        honor_taints=(constraint.get("nodeTaintsPolicy") or "Ignore") == "Honor",
        matches_itself=selector.matches(labels),
    )
