"""Which devices each node can reach: its own, and those that are there for many nodes.

Source: resource.k8s.io/v1 ResourceSlice (nodeName, nodeSelector, allNodes, perDeviceNodeSelection).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from controlplane.scheduler.columns import Mask
from controlplane.scheduler.dynamic.inventory import Device, Inventory, Trouble
from controlplane.scheduler.plugins.node import matches_terms
from controlplane.scheduler.rows import Rows
from machinery.api.meta import Object


class _Placed(Protocol):
    @property
    def place(self) -> Object: ...


class Places:
    """Things with a place, sorted by it once; `reach` then tells of rows."""

    def __init__(self, things: Sequence[_Placed]) -> None:
        self.local: dict[str, list[int]] = {}
        self.wide: list[tuple[int, Object]] = []
        for number, thing in enumerate(things):
            if name := thing.place.get("nodeName"):
                self.local.setdefault(name, []).append(number)
            else:
                self.wide.append((number, thing.place))

    def reach(self, rows: Rows) -> NDArray[np.bool_]:
        """bool[wide, rows]: who can reach what is there for many. The devices of a slice share their place."""
        known: dict[int, Mask] = {}
        for _, place in self.wide:
            if id(place) not in known:
                known[id(place)] = _reached_from(place, rows)
        lines = [known[id(place)] for _, place in self.wide]
        return np.array(lines, np.bool_).reshape(len(lines), len(rows))

    def at(self, node_name: str, reached: Mask) -> list[int]:
        """The numbers, in order, of what a node can reach; `reached` is its column of `reach`."""
        wide = [self.wide[number][0] for number in np.flatnonzero(reached).tolist()]
        return sorted((*self.local.get(node_name, ()), *wide)) if wide else self.local.get(node_name, [])


def _reached_from(place: Object, rows: Rows) -> Mask:
    if place.get("allNodes"):
        return np.ones(len(rows), np.bool_)
    return matches_terms((place.get("nodeSelector") or {}).get("nodeSelectorTerms") or (), rows)


class Map:
    """An inventory by places; made once for each state of the ResourceSlices."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory

    @cached_property
    def _devices(self) -> Places:
        return Places(self.inventory.devices)

    @cached_property
    def _troubles(self) -> Places:
        return Places(self.inventory.troubles)

    def of(self, rows: Rows) -> Reach:
        """What those rows can reach."""
        return Reach(self.inventory, rows, (self._devices, self._troubles))


class Reach:
    """What each of some rows can reach."""

    def __init__(self, inventory: Inventory, rows: Rows, places: tuple[Places, Places]) -> None:
        self._inventory, self._rows = inventory, rows
        self._devices, self._troubles = places
        self._wide, self._wide_troubles = (each.reach(rows) for each in places)

    def same(self, place: int) -> bytes:
        """Equal for rows that reach the same; a row with things of its own is like no other."""
        name = self._name(place)
        own = name in self._devices.local or name in self._troubles.local
        alike = self._wide[:, place].tobytes() + self._wide_troubles[:, place].tobytes()
        return name.encode() + b"/" + alike if own else alike

    def at(self, place: int) -> tuple[list[Device], list[Trouble]]:
        """What one row reaches, in the order of the inventory."""
        name = self._name(place)
        devices = self._devices.at(name, self._wide[:, place])
        troubles = self._troubles.at(name, self._wide_troubles[:, place])
        inventory = self._inventory
        return [inventory.devices[n] for n in devices], [inventory.troubles[n] for n in troubles]

    def _name(self, place: int) -> str:
        index = self._rows.index
        return self._rows.table.name(place if isinstance(index, slice) else int(index[place]))
