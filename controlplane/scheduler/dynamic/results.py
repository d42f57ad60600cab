"""What is written into a claim once its devices are chosen.

Source: resource.k8s.io/v1 AllocationResult; k8s.io/dynamic-resource-allocation/structured.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controlplane.scheduler.dynamic.inventory import Device
from controlplane.scheduler.dynamic.requests import Chosen, Pick
from machinery.api.meta import Object


def allocation(claim: Object, chosen: Chosen, classes: Mapping[str, Object], node_name: str) -> Object:
    """The AllocationResult of a claim: devices, their configuration, and from where they can be used.

    Every share of a device gets an identity of its own.
    """
    devices: Object = {"results": [_result(pick) for pick in chosen]}
    config = _config(claim, {pick.request.name for pick in chosen}, classes)
    if config:
        devices["config"] = config
    found: Object = {"devices": devices}
    selector = _node_selector([pick.device for pick in chosen], node_name)
    if selector is not None:
        found["nodeSelector"] = selector
    return found


def _result(pick: Pick) -> Object:
    driver, pool, name = pick.device.id
    result: Object = {"request": pick.request.name, "driver": driver, "pool": pool, "device": name}
    if pick.request.admin:
        result["adminAccess"] = True
    if pick.request.tolerations:
        result["tolerations"] = list(pick.request.tolerations)
    for field in ("bindingConditions", "bindingFailureConditions"):
        if pick.device.object.get(field):
            result[field] = list(pick.device.object[field])
    if pick.device.shared:
        result["shareID"] = str(uuid.uuid4())
    if pick.taken:
        result["consumedCapacity"] = {capacity: amount.canonical() for capacity, amount in pick.taken.items()}
    return result


def _config(claim: Object, requests: set[str], classes: Mapping[str, Object]) -> list[Object]:
    """The configuration of each class once, for the requests that use it; then what the claim gives for its own."""
    asked = (claim.get("spec") or {}).get("devices") or {}
    all_requests = asked.get("requests") or ()
    found: list[Object] = []
    of_class: dict[str, list[str]] = {}
    for class_name, name in _chosen_classes(all_requests, requests):
        if class_name not in of_class:
            of_class[class_name] = []
            configs = classes[class_name]["spec"].get("config") or ()
            found += [{"source": "FromClass", "requests": of_class[class_name], **config} for config in configs]
        of_class[class_name].append(name)
    for config in asked.get("config") or ():
        named = config.get("requests") or ()
        if not named:
            found.append({"source": "FromClaim", **config})
        found += [{"source": "FromClaim", **config} for each in all_requests if _concerns(named, each, requests)]
    return found


def _chosen_classes(all_requests: Sequence[Object], chosen: set[str]) -> Iterable[tuple[str, str]]:
    for each in all_requests:
        if exactly := each.get("exactly"):
            yield exactly["deviceClassName"], each["name"]
        for sub in each.get("firstAvailable") or ():
            if (name := f"{each['name']}/{sub['name']}") in chosen:
                yield sub["deviceClassName"], name


def _concerns(named: Sequence[str], request: Object, chosen: set[str]) -> bool:
    """Whether a configuration is for a request, or for the alternative of it that was chosen."""
    subs = (f"{request['name']}/{sub['name']}" for sub in request.get("firstAvailable") or ())
    return request["name"] in named or any(name in named and name in chosen for name in subs)


def _node_selector(devices: Sequence[Device], node_name: str) -> Object | None:
    if any(device.place.get("nodeName") or device.object.get("bindsToNode") for device in devices):
        field: dict[str, Any] = {"key": "metadata.name", "operator": "In", "values": [node_name]}
        return {"nodeSelectorTerms": [{"matchFields": [field]}]}
    expressions: list[Object] = []
    fields: list[Object] = []
    for device in devices:
        for term in (device.place.get("nodeSelector") or {}).get("nodeSelectorTerms") or ():
            expressions += _new(term.get("matchExpressions") or (), expressions)
            fields += _new(term.get("matchFields") or (), fields)
    if not expressions and not fields:
        return None
    term = {name: given for name, given in (("matchExpressions", expressions), ("matchFields", fields)) if given}
    return {"nodeSelectorTerms": [term]}


def _new(more: Iterable[Object], known: Sequence[Object]) -> list[Object]:
    """Requirements that are not there yet; the order of their values does not matter."""

    def what(each: Object) -> tuple[str, str, frozenset[str]]:
        return each["key"], each["operator"], frozenset(each.get("values") or ())

    there = {what(each) for each in known}
    return list({what(each): each for each in more if what(each) not in there}.values())
