"""LimitRanger: defaults, minimum, maximum and ratio of what containers, pods and claims ask for.

Source: k8s.io/kubernetes/plugin/pkg/admission/limitranger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import CREATE, UPDATE, BasePlugin, refuse, subject
from controlplane.apiserver.authz.rbac import aggregate
from controlplane.apiserver.reader import Reader
from machinery.api import podresources, quantity
from machinery.api.catalogue import LIMITRANGES, PERSISTENTVOLUMECLAIMS, PODS
from machinery.api.meta import Object, is_deleting
from machinery.api.quantity import Quantity

_ANNOTATION = "kubernetes.io/limit-ranger"

Amounts = Mapping[str, Quantity]
Check = Callable[[str, str, Quantity, Amounts, Amounts], str]
"""(type, resource, what the limit says, requests, limits) → what is wrong, or ""."""


class LimitRanger(BasePlugin):
    """Applies the LimitRanges of the namespace."""

    name = "LimitRanger"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, operation: Operation) -> bool:
        """Pods and claims that are made, claims that change, pods that are resized."""
        if operation.old is not None and is_deleting(operation.old):
            return False
        if operation.resource == PODS:
            return (operation.verb, operation.subresource) in ((CREATE, ""), (UPDATE, "resize"))
        if operation.resource == PERSISTENTVOLUMECLAIMS:
            return operation.verb in (CREATE, UPDATE) and not operation.subresource
        return False

    async def admit(self, operation: Operation) -> None:
        """Fill in default requests and limits of containers."""
        if operation.resource == PODS:
            for limit_range in self._reader.list(LIMITRANGES, operation.namespace):
                set_defaults(subject(operation), limit_range)

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden naming everything that one LimitRange does not allow."""
        check = pod_errors if operation.resource == PODS else claim_errors
        for limit_range in self._reader.list(LIMITRANGES, operation.namespace):
            errors = check(subject(operation), limit_range)
            if errors:
                raise refuse(operation, aggregate(errors))


def set_defaults(pod: Object, limit_range: Object) -> None:
    """Give containers the requests and limits they don't have; an annotation tells which."""
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    for item in _items(limit_range, "Container"):
        requests |= item.get("defaultRequest") or {}
        limits |= item.get("default") or {}
    told: list[str] = []
    spec = pod.get("spec") or {}
    for kind, called in (("containers", "container"), ("initContainers", "init container")):
        for container in spec.get(kind) or ():
            told += _fill(container, called, requests, limits)
    if told:
        metadata = pod["metadata"]
        annotations = metadata.get("annotations") or {}
        metadata["annotations"] = annotations | {_ANNOTATION: "LimitRanger plugin set: " + "; ".join(told)}


def _fill(container: Object, called: str, requests: Mapping[str, str], limits: Mapping[str, str]) -> Iterator[str]:
    resources = container.get("resources") or {}
    for which, singular, defaults in (("requests", "request", requests), ("limits", "limit", limits)):
        has = resources.get(which) or {}
        lacking = sorted(name for name in defaults if name not in has)
        if lacking:
            resources[which] = has | {name: defaults[name] for name in lacking}
            container["resources"] = resources
            yield f"{', '.join(lacking)} {singular} for {called} {container.get('name')}"


def pod_errors(pod: Object, limit_range: Object) -> list[str]:
    """What about the pod the LimitRange does not allow."""
    errors: list[str] = []
    spec = pod.get("spec") or {}
    for item in _items(limit_range, "Container"):
        for kind in ("containers", "initContainers"):
            for container in spec.get(kind) or ():
                requests = podresources.of_container(container, "requests")
                limits = podresources.of_container(container, "limits")
                errors += _item_errors(item, requests, limits)
    for item in _items(limit_range, "Pod"):
        plain = pod | {"spec": {key: value for key, value in spec.items() if key != "overhead"}}
        requests, limits = podresources.of_pod(plain, "requests"), podresources.of_pod(plain, "limits")
        errors += _item_errors(item, requests, limits)
    return errors


def claim_errors(claim: Object, limit_range: Object) -> list[str]:
    """What about the claim the LimitRange does not allow."""
    requests = podresources.of_container(claim.get("spec") or {}, "requests")
    errors: list[str] = []
    for item in _items(limit_range, "PersistentVolumeClaim"):
        errors += _apply(item, "min", _below_minimum, requests, {})
        errors += _apply(item, "max", _claim_above_maximum, requests, {})
    return errors


def _items(limit_range: Object, kind: str) -> Iterator[Any]:
    return (item for item in (limit_range.get("spec") or {}).get("limits") or () if item.get("type") == kind)


def _item_errors(item: Object, requests: Amounts, limits: Amounts) -> list[str]:
    return [
        *_apply(item, "min", _below_minimum, requests, limits),
        *_apply(item, "max", _above_maximum, requests, limits),
        *_apply(item, "maxLimitRequestRatio", _above_ratio, requests, limits),
    ]


def _apply(item: Object, which: str, check: Check, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for name, amount in sorted((item.get(which) or {}).items()):
        wrong = check(item["type"], name, quantity.parse(amount), requests, limits)
        if wrong:
            yield wrong


def _below_minimum(kind: str, name: str, least: Quantity, requests: Amounts, limits: Amounts) -> str:
    told = f"minimum {name} usage per {kind} is {least}"
    request, limit = requests.get(name), limits.get(name)
    if request is None:
        return f"{told}.  No request is specified"
    if request < least:
        return f"{told}, but request is {request}"
    if limit is not None and limit < least:
        return f"{told}, but limit is {limit}"
    return ""


def _above_maximum(kind: str, name: str, most: Quantity, requests: Amounts, limits: Amounts) -> str:
    told = f"maximum {name} usage per {kind} is {most}"
    request, limit = requests.get(name), limits.get(name)
    if limit is None:
        return f"{told}.  No limit is specified"
    if limit > most:
        return f"{told}, but limit is {limit}"
    if request is not None and request > most:
        return f"{told}, but request is {request}"
    return ""


def _claim_above_maximum(kind: str, name: str, most: Quantity, requests: Amounts, limits: Amounts) -> str:
    told = f"maximum {name} usage per {kind} is {most}"
    request = requests.get(name)
    if request is None:
        return f"{told}.  No request is specified"
    return f"{told}, but request is {request}" if request > most else ""


def _above_ratio(kind: str, name: str, most: Quantity, requests: Amounts, limits: Amounts) -> str:
    told = f"{name} max limit to request ratio per {kind} is {most}"
    request, limit = requests.get(name), limits.get(name)
    if not request:
        return f"{told}, but no request is specified or request is 0"
    if not limit:
        return f"{told}, but no limit is specified or limit is 0"
    ratio = limit.as_float() / request.as_float()
    return f"{told}, but provided ratio is {ratio:f}" if ratio > most.as_float() else ""
