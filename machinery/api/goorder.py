"""JSON text with the fields of objects in the order in which Go's structs declare them.

Nobody needs that order but readers of messages that show a whole object: upstream prints its structs, and puts into
sorted order only those parts that a patch went through.

Source: k8s.io/api types.go (declaration order); github.com/evanphx/json-patch (which parts it takes apart).
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

import orjson

from machinery.api.protobuf import table
from machinery.api.schema_types import Type

# Structs are declared in the order of their protobuf numbers but where fields came later and stand among their kin:
# a word is a field, or `field<other` for one that stands before another.
_MOVED: Final[dict[str, str]] = {
    "core.v1.ConfigMap": "immutable<data",
    "core.v1.Secret": "immutable<data stringData<type",
    "core.v1.PodSpec": (
        "initContainers<containers ephemeralContainers<restartPolicy automountServiceAccountToken<nodeName "
        "shareProcessNamespace<securityContext"
    ),
    "core.v1.PodStatus": (
        "observedGeneration<phase nominatedNodeName<hostIP hostIPs<podIP podIPs<startTime "
        "initContainerStatuses<containerStatuses"
    ),
    "core.v1.Container": (
        "envFrom<env resizePolicy<volumeMounts restartPolicy<volumeMounts restartPolicyRules<volumeMounts "
        "volumeDevices<livenessProbe startupProbe<lifecycle terminationMessagePolicy<imagePullPolicy"
    ),
    "core.v1.ServiceSpec": "clusterIPs<type ipFamilies<ipFamilyPolicy",
    "core.v1.ServicePort": "appProtocol<port",
    "core.v1.NodeSpec": "podCIDRs<providerID configSource< externalID<",
    "core.v1.PersistentVolumeClaimSpec": "selector<resources",
    "core.v1.VolumeMount": "recursiveReadOnly<mountPath",
    "apps.v1.DeploymentStatus": ("readyReplicas<availableReplicas terminatingReplicas<conditions collisionCount<"),
    "apps.v1.ReplicaSetStatus": (
        "readyReplicas<observedGeneration availableReplicas<observedGeneration terminatingReplicas<observedGeneration"
    ),
    "batch.v1.JobSpec": (
        "podFailurePolicy<selector successPolicy<selector backoffLimit<selector backoffLimitPerIndex<selector "
        "maxFailedIndexes<selector"
    ),
    "batch.v1.CronJobSpec": "timeZone<startingDeadlineSeconds",
    "discovery.v1.EndpointSlice": "addressType<endpoints",
}
_MOVED["core.v1.EphemeralContainerCommon"] = _MOVED["core.v1.Container"]


@cache
def fields(message: str) -> tuple[str, ...]:
    """The JSON names of a struct's fields, in the order of declaration; () if it is unknown."""
    if not table.has(message):
        return ()
    names: list[str] = []
    for field in table.fields(message):
        names += fields(field.type) if field.inline else [field.name]
    for word in _MOVED.get(message, "").split():
        name, _, before = word.partition("<")
        names.remove(name)
        names.insert(names.index(before) if before else len(names), name)
    return tuple(names)


def arranged(kind: Type, value: Any, apart: frozenset[int] = frozenset()) -> Any:
    """The value with members in Go's order; sorted where the identity of a container is in `apart`."""
    if isinstance(value, list):
        element = kind.element or kind
        return [arranged(element, item, apart) for item in value]
    if not isinstance(value, dict) or (kind.atomic and kind.sort == "any"):
        return value
    return {name: arranged(kind.child(name) or kind, value[name], apart) for name in _keys(kind, value, apart)}


def _keys(kind: Type, value: dict[str, Any], apart: frozenset[int]) -> list[str]:
    if id(value) in apart or not kind.name:
        return sorted(value)
    rank = {name: i for i, name in enumerate(("kind", "apiVersion", *fields(table.message_of(kind.name))))}
    return sorted(value, key=lambda name: (rank.get(name, len(rank)), name))


def _containers(value: Any) -> list[int]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return [] if inner is None else [id(value), *(i for v in inner for i in _containers(v))]


def taken_apart(before: Any, after: Any) -> frozenset[int]:
    """The containers of `after` that a patch made anew, and `after` itself; all others are shared with `before`."""
    return frozenset(_containers(after)) - frozenset(_containers(before)) | {id(after)}


def dumps(kind: Type, value: Any, apart: frozenset[int] = frozenset()) -> str:
    """The text of an object as Go prints it."""
    made = arranged(kind, value, apart)
    try:
        return orjson.dumps(made).decode()
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(made, separators=(",", ":"), ensure_ascii=False)
