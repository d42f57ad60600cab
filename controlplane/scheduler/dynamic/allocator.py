"""Choosing devices for the claims of a pod, on one node: all requests and constraints together, or nothing.

Source: KEP-4381; KEP-4816 (prioritized list), KEP-5018 (admin access), KEP-5055 (taints);
k8s.io/dynamic-resource-allocation/structured.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from controlplane.scheduler.dynamic import selectors
from controlplane.scheduler.dynamic.inventory import Device, InUse
from machinery.api.meta import Object, key_of
from machinery.errors import NavarchError

_MOST_RESULTS = 32
_MOST_STEPS = 20_000  # of one search: a claim that needs more is not worth the time of everybody else


class AllocationFailed(NavarchError):
    """A claim or a class is wrong, or the search took too long."""


@dataclass(frozen=True)
class Request:
    """One request of a claim, or one of its alternatives (`parent/name`)."""

    name: str
    selectors: tuple[str, ...]
    count: int
    everything: bool
    admin: bool
    tolerations: Sequence[Object]

    @classmethod
    def of(cls, given: Object, name: str, device_class: Object) -> Request:
        """From a request and its class."""
        chosen = [
            each["cel"]["expression"]
            for each in (*(device_class["spec"].get("selectors") or ()), *(given.get("selectors") or ()))
            if each.get("cel")
        ]
        everything = given.get("allocationMode") == "All"
        return cls(
            name, tuple(chosen), given.get("count") or 1, everything, bool(given.get("adminAccess")),
            given.get("tolerations") or (),
        )  # fmt: skip

    def takes(self, device: Device) -> bool:
        """Whether the device is what was asked for."""
        return not device.untolerated(self.tolerations) and all(
            selectors.matches(expression, device.seen) for expression in self.selectors
        )


@dataclass(frozen=True)
class Constraint:
    """What devices of some requests must have in common, or must not."""

    attribute: str
    distinct: bool
    requests: frozenset[str]  # empty: of all

    def about(self, request: str) -> bool:
        """Whether it speaks of a request, or of the one that it is an alternative of."""
        return not self.requests or request in self.requests or request.partition("/")[0] in self.requests

    def allows(self, chosen: Sequence[tuple[Request, Device]], request: Request, device: Device) -> bool:
        """Whether the device goes with those chosen before."""
        if not self.about(request.name):
            return True
        value = device.attribute(self.attribute)
        if value is None:
            return False
        others = [other.attribute(self.attribute) for earlier, other in chosen if self.about(earlier.name)]
        return value not in others if self.distinct else all(value == other for other in others)


@dataclass(frozen=True)
class Need:
    """What one claim needs: for each request its alternatives, the best first."""

    claim: Object
    requests: Sequence[Sequence[Request]]
    constraints: Sequence[Constraint]


def need(claim: Object, classes: Mapping[str, Object]) -> Need:
    """A claim, read with its classes (all of which exist). Raises AllocationFailed, SelectorInvalid."""
    devices = (claim.get("spec") or {}).get("devices") or {}
    requests: list[list[Request]] = []
    for each in devices.get("requests") or ():
        alternatives = each.get("firstAvailable")
        if alternatives:
            made = [(sub, f"{each['name']}/{sub['name']}") for sub in alternatives]
        elif each.get("exactly"):
            made = [(each["exactly"], each["name"])]
        else:
            raise AllocationFailed(
                f"claim {claim['metadata']['name']}, request {each['name']}: unsupported request type"
            )
        requests.append([Request.of(given, name, classes[given["deviceClassName"]]) for given, name in made])
    for alternatives in requests:
        for request in alternatives:
            for expression in request.selectors:
                selectors.compiled(expression)
    constraints = [
        Constraint(
            each.get("matchAttribute") or each.get("distinctAttribute", ""),
            "distinctAttribute" in each,
            frozenset(each.get("requests") or ()),
        )
        for each in devices.get("constraints") or ()
    ]
    return Need(claim, requests, constraints)


Chosen = Sequence[tuple[Request, Device]]


@dataclass
class Search:
    """A depth-first search over the devices that one node can reach."""

    devices: Sequence[Device]
    in_use: InUse
    updating: Sequence[Device] = ()
    steps: int = field(default=0)

    def run(self, needs: Sequence[Need]) -> list[Chosen] | None:
        """What each claim gets, or None. Raises AllocationFailed."""
        if self.updating:
            pool = f"{self.updating[0].driver}/{self.updating[0].pool}"
            for need in needs:
                for request in itertools.chain.from_iterable(need.requests):
                    if request.everything:
                        raise AllocationFailed(
                            f"claim {key_of(need.claim)}, request {request.name}: asks for all devices, but resource "
                            f"pool {pool} is currently being updated"
                        )
        return self._claims(needs, (), self.in_use)

    def _claims(self, needs: Sequence[Need], done: tuple[Chosen, ...], in_use: InUse) -> list[Chosen] | None:
        if not needs:
            return list(done)
        for chosen, left in self._requests(needs[0], needs[0].requests, (), in_use):
            found = self._claims(needs[1:], (*done, chosen), left)
            if found is not None:
                return found
        return None

    def _requests(
        self,
        claim: Need,
        requests: Sequence[Sequence[Request]],
        chosen: tuple[tuple[Request, Device], ...],
        in_use: InUse,
    ) -> Iterator[tuple[Chosen, InUse]]:
        if not requests:
            if len(chosen) <= _MOST_RESULTS:
                yield chosen, in_use
            return
        for request in requests[0]:
            fitting = [device for device in self.devices if request.takes(device)]
            # All means all: one that is taken or does not go with the others fails the request.
            count = len(fitting) if request.everything else request.count
            if not fitting:
                continue
            for more, left in self._devices(claim, request, fitting, count, chosen, in_use):
                yield from self._requests(claim, requests[1:], more, left)

    def _devices(
        self,
        claim: Need,
        request: Request,
        fitting: Sequence[Device],
        count: int,
        chosen: tuple[tuple[Request, Device], ...],
        in_use: InUse,
    ) -> Iterator[tuple[tuple[tuple[Request, Device], ...], InUse]]:
        if not count:
            yield chosen, in_use
            return
        for index in range(len(fitting) - count + 1):
            self.steps += 1
            if self.steps > _MOST_STEPS:
                raise AllocationFailed("filter operation was aborted: too many combinations of devices")
            device = fitting[index]
            left = _taking(request, device, in_use)
            if any(device.id == other.id for _, other in chosen):
                continue  # not even an administrator has a device twice in a claim
            if left is None or not all(each.allows(chosen, request, device) for each in claim.constraints):
                continue
            yield from self._devices(
                claim, request, fitting[index + 1 :], count - 1, (*chosen, (request, device)), left
            )


def _taking(request: Request, device: Device, in_use: InUse) -> InUse | None:
    """What is in use once the device is taken; None if it can't be."""
    if request.admin:
        return in_use
    if device.id in in_use.devices:
        return None
    counters = in_use.counters
    if device.consumed:
        counters = dict(counters)
        for counter, amount in device.consumed.items():
            counters[counter] = counters.get(counter, 0) - amount
            if counters[counter] < 0:
                return None
    return replace(in_use, devices=in_use.devices | {device.id}, counters=counters)


def allocation(claim: Object, chosen: Chosen, classes: Mapping[str, Object], node_name: str) -> Object:
    """The AllocationResult of a claim: devices, their configuration, and from where they can be used."""
    results = []
    for request, device in chosen:
        driver, pool, name = device.id
        result: Object = {"request": request.name, "driver": driver, "pool": pool, "device": name}
        if request.admin:
            result["adminAccess"] = True
        if request.tolerations:
            result["tolerations"] = list(request.tolerations)
        results.append(result)
    devices: Object = {"results": results}
    config = _config(claim, [request.name for request, _ in chosen], classes)
    if config:
        devices["config"] = config
    found: Object = {"devices": devices}
    selector = _node_selector([device for _, device in chosen], node_name)
    if selector is not None:
        found["nodeSelector"] = selector
    return found


def _config(claim: Object, requests: Sequence[str], classes: Mapping[str, Object]) -> list[Object]:
    asked = (claim.get("spec") or {}).get("devices") or {}
    found: list[Object] = []
    for each in asked.get("requests") or ():
        subs = [(sub, f"{each['name']}/{sub['name']}") for sub in each.get("firstAvailable") or ()]
        for given, name in subs or [(each.get("exactly") or {}, each["name"])]:
            if name in requests:
                configs = classes[given["deviceClassName"]]["spec"].get("config") or ()
                found += [{"source": "FromClass", "requests": [name], **config} for config in configs]
    for config in asked.get("config") or ():
        named = config.get("requests") or ()
        if not named or any(name in named or name.partition("/")[0] in named for name in requests):
            found.append({"source": "FromClaim", **config})
    return found


def _node_selector(devices: Sequence[Device], node_name: str) -> Object | None:
    if any(device.place.get("nodeName") for device in devices):
        field_: dict[str, Any] = {"key": "metadata.name", "operator": "In", "values": [node_name]}
        return {"nodeSelectorTerms": [{"matchFields": [field_]}]}
    expressions: list[Object] = []
    fields: list[Object] = []
    for device in devices:
        for term in (device.place.get("nodeSelector") or {}).get("nodeSelectorTerms") or ():
            expressions += [each for each in term.get("matchExpressions") or () if each not in expressions]
            fields += [each for each in term.get("matchFields") or () if each not in fields]
    if not expressions and not fields:
        return None
    term = {name: given for name, given in (("matchExpressions", expressions), ("matchFields", fields)) if given}
    return {"nodeSelectorTerms": [term]}
