"""The devices that drivers publish in ResourceSlices, and which of them are in use.

Source: resource.k8s.io/v1 ResourceSlice; KEP-4381 (structured parameters), KEP-4815 (partitionable devices),
KEP-5055 (device taints); k8s.io/dynamic-resource-allocation/structured (pools).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from controlplane.scheduler.columns import Mask, tolerates
from controlplane.scheduler.dynamic import selectors
from controlplane.scheduler.plugins.node import matches_terms
from controlplane.scheduler.rows import Rows
from machinery.api import quantity
from machinery.api.meta import Object

DeviceId = tuple[str, str, str]
"""(driver, pool, device)"""

Counters = Mapping[tuple[str, str, str, str], int]
"""(driver, pool, counter set, counter) → amount in nanos."""


@dataclass(frozen=True, eq=False)
class Device:
    """One device of a pool."""

    driver: str
    pool: str
    object: Object
    place: Object
    """Where it can be reached: nodeName, nodeSelector or allNodes, of the device or its slice."""

    @property
    def id(self) -> DeviceId:
        """Its name in the cluster."""
        return self.driver, self.pool, self.object["name"]

    @cached_property
    def seen(self) -> Mapping[str, Any]:
        """What selectors see of it."""
        return selectors.variables(self.driver, self.object)

    @cached_property
    def consumed(self) -> Counters:
        """What it takes of its pool's shared counters."""
        return {
            (self.driver, self.pool, use["counterSet"], name): quantity.parse(counter["value"]).nanos
            for use in self.object.get("consumesCounters") or ()
            for name, counter in (use.get("counters") or {}).items()
        }

    def attribute(self, name: str) -> Any:
        """The value of a fully qualified attribute, or None."""
        domain, _, identifier = name.partition("/")
        return self.seen["device"]["attributes"].get(domain, {}).get(identifier)

    def rows(self, rows: Rows) -> Mask:
        """Rows from which it can be used."""
        if self.place.get("allNodes"):
            return np.ones(len(rows), np.bool_)
        if name := self.place.get("nodeName"):
            return rows.named([name])
        return matches_terms((self.place.get("nodeSelector") or {}).get("nodeSelectorTerms") or (), rows)

    def untolerated(self, tolerations: Sequence[Object]) -> bool:
        """Whether it has a taint that keeps claims with these tolerations away."""
        for taint in self.object.get("taints") or ():
            standing = (taint.get("key", ""), taint.get("value", ""), taint.get("effect", ""))
            kept_away = standing[2] in ("NoSchedule", "NoExecute")
            if kept_away and not any(tolerates(toleration, standing) for toleration in tolerations):
                return True
        return False


@dataclass(frozen=True)
class Inventory:
    """All devices of complete pools, in a fixed order, and what the pools share."""

    devices: Sequence[Device] = ()
    counters: Counters = field(default_factory=dict)
    updating: Sequence[Device] = ()
    """Of pools that are not published whole: not to be had, but they may not be passed over by who wants all."""

    @classmethod
    def of(cls, slices: Iterable[Object]) -> Inventory:
        """The newest generation of every pool that is published whole."""
        pools: dict[tuple[str, str], list[Object]] = {}
        for each in slices:
            pool = each["spec"]["pool"]
            pools.setdefault((each["spec"]["driver"], pool["name"]), []).append(each)
        devices: list[Device] = []
        updating: list[Device] = []
        counters: dict[tuple[str, str, str, str], int] = {}
        for (driver, pool), parts in sorted(pools.items()):
            newest = max(part["spec"]["pool"].get("generation", 0) for part in parts)
            current = [part for part in parts if part["spec"]["pool"].get("generation", 0) == newest]
            if len(current) < current[0]["spec"]["pool"].get("resourceSliceCount", 1):
                for part in current:
                    spec = part["spec"]
                    places = spec.get("devices") or () if spec.get("perDeviceNodeSelection") else (spec,)
                    updating += [Device(driver, pool, {}, place) for place in places]
                continue
            for part in sorted(current, key=lambda part: str(part["metadata"]["name"])):
                spec = part["spec"]
                each_its_own = bool(spec.get("perDeviceNodeSelection"))
                devices += [Device(driver, pool, d, d if each_its_own else spec) for d in spec.get("devices") or ()]
                for shared in spec.get("sharedCounters") or ():
                    for name, counter in (shared.get("counters") or {}).items():
                        counters[driver, pool, shared["name"], name] = quantity.parse(counter["value"]).nanos
        return cls(devices, counters, updating)


@dataclass(frozen=True)
class InUse:
    """Devices that claims hold, and what is left of shared counters."""

    devices: frozenset[DeviceId]
    counters: Counters

    @classmethod
    def of(cls, inventory: Inventory, allocations: Iterable[Object]) -> InUse:
        """From all allocations, those on their way included. Administrators' access takes nothing."""
        held = frozenset(
            (result["driver"], result["pool"], result["device"])
            for allocation in allocations
            for result in (allocation.get("devices") or {}).get("results") or ()
            if not result.get("adminAccess")
        )
        left = dict(inventory.counters)
        for device in inventory.devices:
            if device.consumed and device.id in held:
                for counter, amount in device.consumed.items():
                    left[counter] = left.get(counter, 0) - amount
        return cls(held, left)
