"""The devices that drivers publish in ResourceSlices, and which of them are in use.

Source: resource.k8s.io/v1 ResourceSlice; KEP-4381 (structured parameters), KEP-4815 (partitionable devices),
KEP-5055 (device taints), KEP-5075 (consumable capacity); k8s.io/dynamic-resource-allocation/structured (pools).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from controlplane.scheduler.columns import tolerates
from controlplane.scheduler.dynamic import selectors
from machinery.api import quantity
from machinery.api.meta import Object

_KEPT_ANSWERS = 256

DeviceId = tuple[str, str, str]
"""(driver, pool, device)"""

Counters = Mapping[tuple[str, str, str, str], int]
"""(driver, pool, counter set, counter) → amount in nanos."""

Shares = Mapping[DeviceId, Mapping[str, int]]
"""Device → capacity → what its shares take of it, in nanos."""


@dataclass(frozen=True, eq=False)
class Device:
    """One device of a pool."""

    driver: str
    pool: str
    object: Object
    place: Object
    """Where it can be reached: nodeName, nodeSelector or allNodes, of the device or its slice."""

    @cached_property
    def id(self) -> DeviceId:
        """Its name in the cluster."""
        return self.driver, self.pool, self.object["name"]

    @property
    def shared(self) -> bool:
        """Whether several claims may have a share of it."""
        return bool(self.object.get("allowMultipleAllocations"))

    @property
    def capacities(self) -> Mapping[str, Object]:
        """What there is of each of its capacities, and by which policy it is asked for."""
        return self.object.get("capacity") or {}

    @cached_property
    def room(self) -> Mapping[str, int]:
        """How much each capacity is in all, in nanos."""
        return {name: quantity.parse(each["value"]).nanos for name, each in self.capacities.items()}

    @cached_property
    def _seen(self) -> Mapping[str, Any]:
        return selectors.variables(self.driver, self.object)

    @cached_property
    def _chosen_by(self) -> dict[str, bool]:
        return {}

    def chosen_by(self, expression: str) -> bool:
        """Whether a selector chooses it. Raises SelectorInvalid."""
        answer = self._chosen_by.get(expression)
        if answer is None:
            if len(self._chosen_by) >= _KEPT_ANSWERS:
                self._chosen_by.clear()
            answer = self._chosen_by[expression] = selectors.matches(expression, self._seen)
        return answer

    @cached_property
    def consumed(self) -> Counters:
        """What it takes of its pool's shared counters."""
        return {
            (self.driver, self.pool, use["counterSet"], name): quantity.parse(counter["value"]).nanos
            for use in self.object.get("consumesCounters") or ()
            for name, counter in (use.get("counters") or {}).items()
        }

    def attribute(self, name: str) -> Object | None:
        """A fully qualified attribute, with its type; None if the device has none of that name."""
        attributes = self.object.get("attributes") or {}
        found: Object | None = attributes.get(name)
        domain, _, identifier = name.partition("/")
        return attributes.get(identifier) if found is None and domain == self.driver else found

    def untolerated(self, tolerations: Sequence[Object]) -> bool:
        """Whether it has a taint that keeps claims with these tolerations away."""
        for taint in self.object.get("taints") or ():
            standing = (taint.get("key", ""), taint.get("value", ""), taint.get("effect", ""))
            kept_away = standing[2] in ("NoSchedule", "NoExecute")
            if kept_away and not any(tolerates(toleration, standing) for toleration in tolerations):
                return True
        return False


@dataclass(frozen=True)
class Trouble:
    """A pool that nothing can be had of now, at one of its places; who wants all devices may not pass it over."""

    driver: str
    pool: str
    invalid: bool
    """It contradicts itself; else it is not published whole."""
    place: Object = field(default_factory=dict)

    def why(self) -> str:
        """As users read it."""
        return f"resource pool {self.driver}/{self.pool} is currently {'invalid' if self.invalid else 'being updated'}"


@dataclass(frozen=True)
class Inventory:
    """All devices of complete pools, in a fixed order, and what the pools share."""

    devices: Sequence[Device] = ()
    counters: Counters = field(default_factory=dict)
    troubles: Sequence[Trouble] = ()

    @cached_property
    def partitions(self) -> Sequence[Device]:
        """Those that take of shared counters."""
        return [device for device in self.devices if device.consumed]

    @classmethod
    def of(cls, slices: Iterable[Object]) -> Inventory:
        """The newest generation of every pool that is published whole and does not contradict itself."""
        pools: dict[tuple[str, str], list[Object]] = {}
        for each in slices:
            pool = each["spec"]["pool"]
            pools.setdefault((each["spec"]["driver"], pool["name"]), []).append(each)
        devices: list[Device] = []
        troubles: list[Trouble] = []
        counters: dict[tuple[str, str, str, str], int] = {}
        for (driver, pool), parts in sorted(pools.items()):
            newest = max(part["spec"]["pool"].get("generation", 0) for part in parts)
            current = [part for part in parts if part["spec"]["pool"].get("generation", 0) == newest]
            invalid = _contradicts(current)
            if invalid or len(current) != current[0]["spec"]["pool"].get("resourceSliceCount", 1):
                troubles += [Trouble(driver, pool, invalid, place) for place in _places(current)]
                continue
            for part in sorted(current, key=lambda part: str(part["metadata"]["name"])):
                spec = part["spec"]
                each_its_own = bool(spec.get("perDeviceNodeSelection"))
                devices += [Device(driver, pool, d, d if each_its_own else spec) for d in spec.get("devices") or ()]
                for shared in spec.get("sharedCounters") or ():
                    for name, counter in (shared.get("counters") or {}).items():
                        counters[driver, pool, shared["name"], name] = quantity.parse(counter["value"]).nanos
        return cls(devices, counters, troubles)


def _places(parts: Iterable[Object]) -> Iterable[Object]:
    for part in parts:
        spec = part["spec"]
        yield from (spec.get("devices") or ()) if spec.get("perDeviceNodeSelection") else (spec,)


def _contradicts(parts: Sequence[Object]) -> bool:
    """Whether the slices of a pool have a counter set twice, or a device takes of counters that are not there."""
    shared = [each for part in parts for each in part["spec"].get("sharedCounters") or ()]
    known = {each["name"]: each.get("counters") or {} for each in shared}
    uses = (
        use
        for part in parts
        for device in part["spec"].get("devices") or ()
        for use in device.get("consumesCounters") or ()
    )
    return len(known) < len(shared) or any(
        use["counterSet"] not in known or not (use.get("counters") or {}).keys() <= known[use["counterSet"]].keys()
        for use in uses
    )


def unambiguous(devices: Sequence[Device]) -> tuple[Sequence[Device], Sequence[Trouble]]:
    """Of the devices that one node can reach, those of pools that have no name twice; and the other pools."""
    if len({device.id for device in devices}) == len(devices):
        return devices, ()
    twice = {id_[:2] for id_, count in Counter(device.id for device in devices).items() if count > 1}
    left = [device for device in devices if device.id[:2] not in twice]
    return left, [Trouble(driver, pool, invalid=True) for driver, pool in sorted(twice)]


@dataclass(frozen=True)
class InUse:
    """Devices that claims hold, what is left of shared counters, and what shares take of devices' capacities."""

    devices: frozenset[DeviceId]
    counters: Counters
    shares: Shares = field(default_factory=dict)

    @classmethod
    def of(cls, inventory: Inventory, allocations: Iterable[Object]) -> InUse:
        """From all allocations, those on their way included. Administrators' access takes nothing."""
        held: set[DeviceId] = set()
        shares: dict[DeviceId, dict[str, int]] = {}
        for allocation in allocations:
            for result in (allocation.get("devices") or {}).get("results") or ():
                name = result["driver"], result["pool"], result["device"]
                if result.get("adminAccess"):
                    continue
                if result.get("shareID") is None:
                    held.add(name)
                    continue
                taken = shares.setdefault(name, {})
                for capacity, amount in (result.get("consumedCapacity") or {}).items():
                    taken[capacity] = taken.get(capacity, 0) + quantity.parse(amount).nanos
        left = dict(inventory.counters)
        for device in inventory.partitions:
            if device.id in held or device.id in shares:
                for counter, amount in device.consumed.items():
                    left[counter] = left.get(counter, 0) - amount
        return cls(frozenset(held), left, shares)
