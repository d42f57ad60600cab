"""One attempt to place a pod that wants devices: what it wants, and what it would get on each node.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources (Filter, filterExtendedResources).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from controlplane.scheduler.columns import Mask
from controlplane.scheduler.dynamic import extended
from controlplane.scheduler.dynamic.allocator import Search, SearchGivenUp
from controlplane.scheduler.dynamic.claims import Claims, allocation_of
from controlplane.scheduler.dynamic.extended import Asked, DeviceClasses
from controlplane.scheduler.dynamic.inventory import InUse, Inventory
from controlplane.scheduler.dynamic.reach import Map
from controlplane.scheduler.dynamic.requests import Chosen, Need, need
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.rows import Rows
from machinery.api.catalogue import DEVICECLASSES, RESOURCECLAIMS, RESOURCESLICES
from machinery.api.meta import Object, name_of
from machinery.api.resourceclaims import requests_of
from machinery.cache.informer import Informers

_MOST_ALTERNATIVES = 8


class Devices:
    """What the scheduler knows of devices; one for all profiles."""

    def __init__(self, informers: Informers, nodes_changed: Callable[[], None]) -> None:
        """`nodes_changed` is called when other resources of nodes may come from devices."""
        self.claims = Claims(informers.of(RESOURCECLAIMS))
        self.slices = informers.of(RESOURCESLICES)
        self.classes = DeviceClasses(informers.of(DEVICECLASSES), nodes_changed)
        self._map: Map | None = None
        self.slices.on_change(self._forget)

    def _forget(self, old: Object | None, new: Object | None) -> None:
        self._map = None

    def map(self) -> Map:
        """All devices by their places."""
        if self._map is None:
            self._map = Map(Inventory.of(self.slices.list()))
        return self._map


@dataclass(frozen=True)
class Plan:
    """What a node has for the pod. `special` asks for what the node does not offer without claims, as `asked` says."""

    chosen: Sequence[Chosen]
    """For each claim that waits, and then for the special one if there is one."""
    special: Object | None
    asked: Asked | None


@dataclass
class Cycle:
    """An attempt. `claims`: those that the pod names."""

    claims: Sequence[Object]
    special: Object | None
    """The claim for its extended resources."""
    backed: Sequence[str]
    """The extended resources that it asks for and that could come from devices."""
    found: dict[int, Plan] = field(default_factory=dict)
    """Row → what it would get there; not for rows where no claim waits."""
    unavailable: set[str] = field(default_factory=set)
    """Uids of claims that keep it from some node."""
    asked: Asked | None = None
    created: bool = False
    """Whether the special claim is in the API server by now."""

    @property
    def stale(self) -> bool:
        """Whether the special claim was made by an earlier attempt."""
        return self.special is not None and not self.created and name_of(self.special) != extended.IN_MEMORY

    def specials(self) -> Sequence[Object]:
        """The special claim, if there is one."""
        return () if self.special is None else (self.special,)

    def all(self) -> Sequence[Object]:
        """The claims that the pod names, and the special one."""
        return (*self.claims, *self.specials())

    def waiting(self) -> list[Object]:
        """The claims that it names and that are not allocated."""
        return [claim for claim in self.claims if not allocation_of(claim)]


def worth(claim: Object) -> dict[str, int]:
    """Alternative → what it is worth: the most for the first of a request."""
    return {
        f"{request['name']}/{sub['name']}": _MOST_ALTERNATIVES - rank
        for request in requests_of(claim)
        for rank, sub in enumerate(request.get("firstAvailable") or ())
    }


@dataclass(frozen=True)
class Planner:
    """Finds what each node has for the claims of a pod that wait."""

    devices: Devices
    cycle: Cycle
    pod: Pod
    seconds: float

    @cached_property
    def _classes(self) -> Mapping[str, Object]:
        return self.devices.classes.by_name()

    def short(self, rows: Rows) -> Iterable[tuple[str, Mask]]:
        """(reason, rows) where not all can be allocated; notes in the cycle what there is elsewhere.

        Raises AllocationFailed when no node can help.
        """
        lacking = self._lacking(rows)
        needs = [need(claim, self._classes) for claim in self.cycle.waiting()]
        if not needs and not lacking.any():
            return
        known = self.devices.map()
        in_use = InUse.of(known.inventory, self.devices.claims.allocations())
        reach = known.of(rows)
        out: dict[str, Mask] = {}
        alike: dict[bytes, Plan | str] = {}  # nodes that reach the same devices get the same answer
        special: dict[bytes, Plan] = {}
        for place in np.flatnonzero(rows.exists).tolist():
            missing = lacking[:, place]
            if not needs and not missing.any():
                continue
            same = missing.tobytes() + reach.same(place)
            if same not in alike:
                kind = missing.tobytes()
                if kind not in special:
                    special[kind] = self._special(missing)
                devices, troubles = reach.at(place)
                alike[same] = self._plan(needs, special[kind], Search(devices, in_use, troubles, self.seconds))
            plan = alike[same]
            row = place if isinstance(rows.index, slice) else int(rows.index[place])
            if isinstance(plan, Plan):
                self.cycle.found[row] = plan
            else:
                self.cycle.found.pop(row, None)
                out.setdefault(plan, rows.none())[place] = True
        yield from out.items()

    def _lacking(self, rows: Rows) -> NDArray[np.bool_]:
        """bool[resources, rows]: extended resources that nodes do not offer without claims."""
        lines = [rows.allocatable(rows.table.names.column(name)) == 0 for name in self.cycle.backed]
        return np.array(lines, np.bool_).reshape(len(lines), len(rows))

    def _special(self, missing: Mask) -> Plan:
        """A plan with the special claim for those resources, and without devices as yet."""
        names = [name for name, lacks in zip(self.cycle.backed, missing.tolist(), strict=True) if lacks]
        backing = {name: self.devices.classes.behind(name) for name in names}
        asked = extended.asked(self.pod.spec, {name: name_of(each) for name, each in backing.items() if each})
        if not asked.requests or self.cycle.special is None:
            return Plan((), None, None)
        return Plan((), {**self.cycle.special, "spec": {"devices": {"requests": list(asked.requests)}}}, asked)

    def _plan(self, needs: Sequence[Need], special: Plan, search: Search) -> Plan | str:
        """What a node has, or why it can't do."""
        more = [] if special.special is None else [need(special.special, self._classes)]
        try:
            chosen = search.run([*needs, *more])
        except SearchGivenUp as exc:
            return str(exc)
        if chosen is None:
            return "invalid resource pools were encountered" if search.invalid else "cannot allocate all claims"
        return Plan(chosen, special.special, special.asked)
