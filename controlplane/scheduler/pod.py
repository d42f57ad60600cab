"""A pod as the scheduler sees it: compiled once from the object, compared and counted from then on.

Source: core/v1 PodSpec; k8s.io/kubernetes/pkg/scheduler/framework/types.go (PodInfo).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from controlplane.scheduler import resources
from controlplane.scheduler.resources import ResourceNames
from controlplane.scheduler.terms import PodLabels, Term
from machinery.api import labels as label_selectors
from machinery.api.labels import Selector
from machinery.api.meta import Object, key_of, labels_of, name_of, namespace_of, uid_of

WeightedTerm = tuple[Term, str, int]
"""(which pods, topology key, weight)"""

# What of a pod decides where it can go; pods that agree in all of it get the same answer from the same nodes.
_DECIDING = (
    "affinity",
    "containers",
    "hostNetwork",
    "initContainers",
    "nodeName",
    "nodeSelector",
    "overhead",
    "priority",
    "resources",
    "resourceClaims",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
    "preemptionPolicy",
)


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Pod:
    """A compiled pod. `asked` and `scored` are in the units of `resources`."""

    object: Object
    key: str
    uid: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    counted_as: PodLabels
    priority: int
    asked: dict[int, int]
    scored: tuple[int, int]
    ports: frozenset[tuple[str, str, int]]  # (ip, protocol, host port)
    images: tuple[str, ...]
    claims: tuple[str, ...] = ()  # keys of persistent volume claims it names
    affinity: tuple[tuple[Term, str], ...] = ()
    anti_affinity: tuple[WeightedTerm, ...] = ()
    preferred: tuple[WeightedTerm, ...] = ()  # affinity with positive, anti-affinity with negative weight
    spreads: tuple[Spread, ...] = ()
    signature: bytes = field(default=b"", repr=False)

    @property
    def spec(self) -> Object:
        """The pod's spec."""
        spec: Object = self.object["spec"]
        return spec

    @property
    def node_name(self) -> str:
        """Where it has been bound to, or ""."""
        return self.spec.get("nodeName") or ""

    @property
    def required_affinity_owned(self) -> tuple[WeightedTerm, ...]:
        """Its required affinity terms with the weight they lend nodes of that topology (hardPodAffinityWeight)."""
        return tuple((term, topology_key, 1) for term, topology_key in self.affinity)


def compile_pod(pod: Object, names: ResourceNames) -> Pod:
    """The compiled form. The object must have passed the API server's validation."""
    spec = pod["spec"]
    labels = labels_of(pod)
    namespace = namespace_of(pod)
    asked = resources.requested(pod, names)
    affinity = spec.get("affinity") or {}
    together, apart = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
    liked = [*_weighted(together, namespace, labels, 1), *_weighted(apart, namespace, labels, -1)]
    deciding = {name: spec[name] for name in _DECIDING if name in spec}
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    return Pod(
        object=pod,
        key=key_of(pod),
        uid=uid_of(pod),
        namespace=namespace,
        name=name_of(pod),
        labels=labels,
        counted_as=(namespace, frozenset(labels.items())),
        priority=spec.get("priority") or 0,
        asked=asked,
        scored=resources.scored(pod, asked),
        ports=_host_ports(spec),
        claims=tuple(
            f"{namespace}/{volume['persistentVolumeClaim']['claimName']}"
            for volume in spec.get("volumes") or ()
            if volume.get("persistentVolumeClaim")
        ),
        images=tuple(container.get("image", "") for container in containers),
        affinity=tuple((term, key) for term, key, _ in _required(together, namespace, labels)),
        anti_affinity=tuple(_required(apart, namespace, labels)),
        preferred=tuple(liked),
        spreads=tuple(
            _spread(constraint, namespace, labels) for constraint in spec.get("topologySpreadConstraints") or ()
        ),
        signature=orjson.dumps([namespace, labels, deciding], option=orjson.OPT_SORT_KEYS),
    )


def _host_ports(spec: Object) -> frozenset[tuple[str, str, int]]:
    found = set()
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        for port in container.get("ports") or ():
            if number := port.get("hostPort"):
                found.add((port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", number))
    return frozenset(found)


def _required(affinity: Object, namespace: str, labels: Mapping[str, str]) -> list[WeightedTerm]:
    given = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    return [(_term(term, namespace, labels), term["topologyKey"], 1) for term in given]


def _weighted(affinity: Object, namespace: str, labels: Mapping[str, str], sign: int) -> list[WeightedTerm]:
    given = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return [
        (
            _term(item["podAffinityTerm"], namespace, labels),
            item["podAffinityTerm"]["topologyKey"],
            sign * item["weight"],
        )
        for item in given
    ]


def _term(term: Object, namespace: str, labels: Mapping[str, str]) -> Term:
    named = frozenset(term.get("namespaces") or ())
    chosen = term.get("namespaceSelector")
    if chosen is None and not named:
        named = frozenset((namespace,))
    extra = [*_same(term.get("matchLabelKeys"), labels, "In"), *_same(term.get("mismatchLabelKeys"), labels, "NotIn")]
    return Term(
        selectors=(_narrowed(term.get("labelSelector"), extra),),
        namespaces=named,
        namespace_selector=None if chosen is None else label_selectors.from_selector(chosen),
    )


def _spread(constraint: Object, namespace: str, labels: Mapping[str, str]) -> Spread:
    selector = _narrowed(constraint.get("labelSelector"), _same(constraint.get("matchLabelKeys"), labels, "In"))
    return Spread(
        topology_key=constraint["topologyKey"],
        max_skew=constraint["maxSkew"],
        term=Term((selector,), frozenset((namespace,))),
        required=constraint["whenUnsatisfiable"] == "DoNotSchedule",
        min_domains=constraint.get("minDomains") or 1,
        honor_affinity=(constraint.get("nodeAffinityPolicy") or "Honor") == "Honor",
        honor_taints=(constraint.get("nodeTaintsPolicy") or "Ignore") == "Honor",
        matches_itself=selector.matches(labels),
    )


def _same(keys: list[str] | None, labels: Mapping[str, str], operator: str) -> list[dict[str, Any]]:
    """matchLabelKeys: the pod's own values of these labels, as requirements."""
    return [{"key": key, "operator": operator, "values": [labels[key]]} for key in keys or () if key in labels]


def _narrowed(selector: Object | None, extra: list[dict[str, Any]]) -> Selector:
    if selector is None:
        return label_selectors.from_selector(None)
    if not extra:
        return label_selectors.from_selector(selector)
    expressions = [*(selector.get("matchExpressions") or ()), *extra]
    # The API server has merged matchLabelKeys into the selector of pods it admitted: the same requirement twice is one.
    unique = list({orjson.dumps(e, option=orjson.OPT_SORT_KEYS): e for e in expressions}.values())
    return label_selectors.from_selector({**selector, "matchExpressions": unique})
