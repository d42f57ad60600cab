"""What an object counts for in a ResourceQuota, and which quotas it counts against.

Source: k8s.io/kubernetes/pkg/quota/v1/evaluator/core, k8s.io/apiserver/pkg/quota/v1/generic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from machinery.api import devicequota, labels, podresources, quantity
from machinery.api.catalogue import (
    CONFIGMAPS,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    REPLICATIONCONTROLLERS,
    RESOURCECLAIMS,
    RESOURCEQUOTAS,
    SECRETS,
    SERVICES,
)
from machinery.api.devicequota import ALONE
from machinery.api.meta import Object, annotations_of, parse_time
from machinery.api.quantity import Quantity
from machinery.api.resource import ResourceType

Usage = dict[str, Quantity]

_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_MUST_SPECIFY = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})
_NAMED = {
    CONFIGMAPS: "configmaps",
    SECRETS: "secrets",
    REPLICATIONCONTROLLERS: "replicationcontrollers",
    RESOURCEQUOTAS: "resourcequotas",
    SERVICES: "services",
    PODS: "pods",
    PERSISTENTVOLUMECLAIMS: "persistentvolumeclaims",
}
"""Resources that have a name of their own in quotas, besides count/RESOURCE."""

_CLASS_INFIX = ".storageclass.storage.k8s.io/"
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def usage(
    resource: ResourceType, obj: Object, now: datetime | None = None, around: devicequota.Surroundings = ALONE
) -> Usage:
    """What the object counts for, by the names that quotas use; `around` is looked at for ResourceClaims."""
    one = quantity.of(1)
    counted: Usage = {f"count/{resource.group_resource}": one}
    if resource in _NAMED and not (resource == PODS and _is_over(obj, now)):
        counted[_NAMED[resource]] = one
    if resource == PODS:
        counted |= _pod_usage(obj, now)
    elif resource == SERVICES:
        counted |= _service_usage(obj)
    elif resource == PERSISTENTVOLUMECLAIMS:
        counted |= _claim_usage(obj)
    elif resource == RESOURCECLAIMS:
        counted |= devicequota.usage(obj, around)
    return counted


def relevant(resource: ResourceType, names: Iterable[str]) -> set[str]:
    """Those of a quota's names that objects of the resource can count for."""
    own = {f"count/{resource.group_resource}"}
    if resource in _NAMED:
        own.add(_NAMED[resource])
    if resource == SERVICES:
        own |= {"services.nodeports", "services.loadbalancers"}
    if resource == PERSISTENTVOLUMECLAIMS:
        return {n for n in names if n in own or n == "requests.storage" or _CLASS_INFIX in n}
    if resource == RESOURCECLAIMS:
        return {n for n in names if n in own or devicequota.concerns(n)}
    if resource == PODS:
        return {n for n in names if n in own or _of_pods(n)}
    return own.intersection(names)


def _of_pods(name: str) -> bool:
    if name in _COMPUTE or name.startswith("hugepages-"):
        return True
    bare = name.removeprefix("requests.")
    if bare != name:
        return bare in _COMPUTE or bare.startswith("hugepages-") or ("/" in bare and _CLASS_INFIX not in bare)
    return name.removeprefix("limits.") in _COMPUTE


def missing_constraints(resource: ResourceType, obj: Object, names: Iterable[str]) -> str:
    """What a pod must say because a quota counts it: `limits.memory for: c; …`, or ""."""
    required = _MUST_SPECIFY.intersection(names)
    if resource != PODS or not required:
        return ""
    lacking: dict[str, set[str]] = {}
    spec = obj.get("spec") or {}
    whole = _compute(podresources.of_container(spec, "requests"), podresources.of_container(spec, "limits"))
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind) or ():
            requests = podresources.of_container(container, "requests")
            limits = podresources.of_container(container, "limits")
            for name in required - _compute(requests, limits).keys() - whole.keys():
                lacking.setdefault(name, set()).add(str(container.get("name")))
    return "; ".join(f"{name} for: {','.join(sorted(who))}" for name, who in sorted(lacking.items()))


def _is_over(pod: Object, now: datetime | None) -> bool:
    """Pods that have ended count as objects only, and so do those that should long be gone: of nodes that are lost."""
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return True
    metadata = pod.get("metadata") or {}
    gone, grace = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
    if now is None or not gone or grace is None:
        return False
    return now > parse_time(gone) + timedelta(seconds=grace)


def _pod_usage(pod: Object, now: datetime | None) -> Usage:
    if _is_over(pod, now):
        return {}
    plain = pod if "spec" in pod else pod | {"spec": {}}
    return _compute(podresources.of_pod(plain, "requests"), podresources.of_pod(plain, "limits"))


def _compute(requests: Mapping[str, Quantity], limits: Mapping[str, Quantity]) -> Usage:
    counted: Usage = {}
    for name, amount in requests.items():
        if name in _COMPUTE or name.startswith("hugepages-"):
            counted[name] = amount
            counted[f"requests.{name}"] = amount
        elif "/" in name:
            counted[f"requests.{name}"] = amount
    for name in _COMPUTE:
        if name in limits:
            counted[f"limits.{name}"] = limits[name]
    return counted


def _service_usage(service: Object) -> Usage:
    spec = service.get("spec") or {}
    ports = spec.get("ports") or []
    kind = spec.get("type")
    node_ports = 0
    if kind == "NodePort":
        node_ports = len(ports)
    elif kind == "LoadBalancer":
        explicit = spec.get("allocateLoadBalancerNodePorts") is False
        node_ports = sum(1 for port in ports if port.get("nodePort")) if explicit else len(ports)
    return {
        "services.nodeports": quantity.of(node_ports),
        "services.loadbalancers": quantity.of(1 if kind == "LoadBalancer" else 0),
    }


def _claim_usage(claim: Object) -> Usage:
    spec = claim.get("spec") or {}
    counted: Usage = {}
    requests = (spec.get("resources") or {}).get("requests") or {}
    storage_class = annotations_of(claim).get(_CLASS_ANNOTATION) or spec.get("storageClassName") or ""
    if storage_class:
        counted[f"{storage_class}{_CLASS_INFIX}persistentvolumeclaims"] = quantity.of(1)
    if "storage" in requests:
        # A claim that is shrunk back while it grows still counts for what is being allocated; whole bytes count.
        allocated = ((claim.get("status") or {}).get("allocatedResources") or {}).get("storage") or "0"
        amount = max(quantity.parse(requests["storage"]), quantity.parse(allocated)).rounded_up(0)
        counted["requests.storage"] = amount
        if storage_class:
            counted[f"{storage_class}{_CLASS_INFIX}requests.storage"] = amount
    return counted


def in_scope(quota: Object, resource: ResourceType, obj: Object) -> bool:
    """Whether the quota's scopes include the object."""
    scopes = scopes_of(quota)
    return len(matching(scopes, resource, obj)) == len(scopes)


def scopes_of(quota: Object) -> list[Object]:
    """What a quota chooses objects by, as expressions."""
    spec = quota.get("spec") or {}
    scopes = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    return scopes + list((spec.get("scopeSelector") or {}).get("matchExpressions") or ())


def matching(scopes: Iterable[Object], resource: ResourceType, obj: Object) -> list[Object]:
    """Those expressions that choose the object."""
    return [scope for scope in scopes if _matches(scope, resource, obj)]


def _matches(scope: Any, resource: ResourceType, obj: Object) -> bool:
    name = scope.get("scopeName")
    spec = obj.get("spec") or {}
    if resource == PERSISTENTVOLUMECLAIMS:
        return name == "VolumeAttributesClass" and any(_selects(scope, used) for used in _attributes_classes(obj))
    if resource != PODS:
        return False
    test: Callable[[], bool] | None = {
        "Terminating": lambda: _terminating(spec),
        "NotTerminating": lambda: not _terminating(spec),
        "BestEffort": lambda: best_effort(spec),
        "NotBestEffort": lambda: not best_effort(spec),
        "CrossNamespacePodAffinity": lambda: crosses_namespaces(spec),
    }.get(name)
    if test is not None:
        return test()
    return name == "PriorityClass" and _selects(scope, spec.get("priorityClassName") or "")


def _attributes_classes(claim: Object) -> list[str]:
    """The VolumeAttributesClasses that a claim wants, has and is on its way to; [""] for none."""
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    named = {
        spec.get("volumeAttributesClassName") or "",
        status.get("currentVolumeAttributesClassName") or "",
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName") or "",
    }
    return sorted(named - {""}) or [""]


def _selects(scope: Any, value: str) -> bool:
    operators = {
        "In": labels.IN,
        "NotIn": labels.NOT_IN,
        "Exists": labels.EXISTS,
        "DoesNotExist": labels.DOES_NOT_EXIST,
    }
    operator = operators.get(scope.get("operator"))
    if operator is None:
        return False
    asked = labels.Requirement("class", operator, tuple(scope.get("values") or ()))
    return asked.matches({"class": value} if value else {})


def _terminating(spec: Object) -> bool:
    deadline = spec.get("activeDeadlineSeconds")
    return deadline is not None and deadline >= 0


def best_effort(spec: Object) -> bool:
    """Whether nothing in the pod asks for or is limited in cpu or memory."""
    holders = [spec, *(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    for holder in holders:
        resources = holder.get("resources") or {}
        for which in ("requests", "limits"):
            for name, amount in (resources.get(which) or {}).items():
                if name in ("cpu", "memory") and quantity.parse(amount):
                    return False
    return True


def crosses_namespaces(spec: Object) -> bool:
    """Whether an affinity term of the pod looks into other namespaces."""
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms += [p.get("podAffinityTerm") or {} for p in preferred]
        if any(t.get("namespaces") or t.get("namespaceSelector") is not None for t in terms):
            return True
    return False
