"""Choosing devices for the claims of a pod, on one node: all requests and constraints together, or nothing.

Source: KEP-4381; KEP-4815 (shared counters), KEP-4816 (prioritized list), KEP-5018 (admin access), KEP-5055 (taints),
KEP-5075 (consumable capacity); k8s.io/dynamic-resource-allocation/structured (the incubating allocator of v1.36).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controlplane.scheduler.dynamic.inventory import (
    Counters,
    Device,
    DeviceId,
    InUse,
    Shares,
    Trouble,
    unambiguous,
)
from controlplane.scheduler.dynamic.requests import MOST_RESULTS, AllocationFailed, Chosen, Need, Pick, Request
from machinery.api.meta import key_of
from machinery.errors import NavarchError

_MOST_STEPS = 50_000  # of one search: a claim that needs more is not worth the time of everybody else
_STEPS_BETWEEN_LOOKS = 64


class SearchGivenUp(NavarchError):
    """There are too many ways to combine the devices of a node."""


@dataclass(frozen=True)
class _State:
    """What is in use: before the search, and by what it has chosen so far."""

    before: InUse
    devices: frozenset[DeviceId] = frozenset()
    watched: frozenset[DeviceId] = frozenset()
    """Devices that administrators get: not for others as well."""
    spent: Counters = field(default_factory=dict)
    shares: Shares = field(default_factory=dict)
    """What is taken in all of the capacities of devices that it has chosen shares of."""

    def is_held(self, device: DeviceId) -> bool:
        """Whether somebody has the whole device."""
        return device in self.before.devices or device in self.devices or device in self.watched

    def share(self, device: DeviceId) -> Mapping[str, int] | None:
        """What is taken of a device's capacities, in nanos; None if nobody has a share."""
        found = self.shares.get(device)
        return found if found is not None else self.before.shares.get(device)

    def spending(self, consumed: Counters) -> Counters | None:
        """What has been spent of shared counters once this is taken too; None if there is not so much."""
        spent = dict(self.spent)
        for counter, amount in consumed.items():
            spent[counter] = spent.get(counter, 0) + amount
            if spent[counter] > self.before.counters.get(counter, 0):
                return None
        return spent


@dataclass
class Search:
    """A depth-first search over the devices that one node can reach; the first way that works out is taken."""

    devices: Sequence[Device]
    in_use: InUse
    troubles: Sequence[Trouble] = ()
    seconds: float = 10.0
    """How long it may take (DynamicResourcesArgs.filterTimeout); 0: as long as its steps take."""
    _steps: int = field(default=0, init=False)
    _until: float = field(default=0.0, init=False)
    _suits: dict[tuple[int, int], bool] = field(default_factory=dict, init=False)
    _all: dict[int, Sequence[Device]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Leave out pools that have a name twice, and have devices that need nobody's word come before the others."""
        self.devices, more = unambiguous(self.devices)
        self.troubles = (*self.troubles, *more)
        slow = {device.id[:2] for device in self.devices if device.object.get("bindingConditions")}
        if slow:
            self.devices = sorted(self.devices, key=lambda device: device.id[:2] in slow)

    @property
    def invalid(self) -> bool:
        """Whether a pool was left out because it contradicts itself."""
        return any(trouble.invalid for trouble in self.troubles)

    def run(self, needs: Sequence[Need]) -> list[Chosen] | None:
        """What each claim gets, or None. Raises AllocationFailed, SearchGivenUp."""
        self._until = time.monotonic() + self.seconds if self.seconds else math.inf
        for each in needs:
            least = 0
            for alternatives in each.requests:
                least += min(self._count(request) for request in alternatives)
            if least > MOST_RESULTS:
                told = f"number of requested devices {least} exceeds the claim limit of {MOST_RESULTS}"
                raise AllocationFailed(f"claim {key_of(each.claim)}: {told}")
        return self._claims(needs, (), _State(self.in_use))

    def _count(self, request: Request) -> int:
        """How many devices it gets; of who wants all, those are noted."""
        if not request.everything:
            return request.count
        for trouble in self.troubles:
            told = f"asks for all devices, but {trouble.why()}"
            raise AllocationFailed(f"claim {request.claim}, request {request.base}: {told}")
        self._all[id(request)] = fitting = [
            device
            for device in self.devices
            if self._takes(request, device) and _taken(request, device, self.in_use.shares.get(device.id)) is not None
        ]
        return len(fitting)

    def _takes(self, request: Request, device: Device) -> bool:
        key = id(request), id(device)
        if key not in self._suits:
            self._suits[key] = request.takes(device)
        return self._suits[key]

    def _claims(self, needs: Sequence[Need], done: tuple[Chosen, ...], state: _State) -> list[Chosen] | None:
        if not needs:
            return list(done)
        for chosen, left in self._requests(needs[0], needs[0].requests, (), state):
            found = self._claims(needs[1:], (*done, chosen), left)
            if found is not None:
                return found
        return None

    def _requests(
        self, claim: Need, requests: Sequence[Sequence[Request]], chosen: tuple[Pick, ...], state: _State
    ) -> Iterator[tuple[Chosen, _State]]:
        if not requests:
            yield chosen, state
            return
        for request in requests[0]:
            # All means all: one that is taken or does not go with the others fails the request.
            every = self._all.get(id(request))
            count = request.count if every is None else len(every)
            if not count or len(chosen) + count > MOST_RESULTS:
                continue
            among = self.devices if every is None else every
            for more, left in self._devices(_Wanted(claim, request, count), among, chosen, state):
                yield from self._requests(claim, requests[1:], more, left)

    def _devices(
        self, wanted: _Wanted, among: Sequence[Device], chosen: tuple[Pick, ...], state: _State
    ) -> Iterator[tuple[tuple[Pick, ...], _State]]:
        if not wanted.count:
            yield chosen, state
            return
        rest = replace(wanted, count=wanted.count - 1)
        for index in range(len(among) - wanted.count + 1):
            self._step()
            device = among[index]
            if not _free(wanted.request, device, chosen, state) or not self._takes(wanted.request, device):
                continue
            found = _picking(wanted, device, chosen, state)
            if found is not None:
                yield from self._devices(rest, among[index + 1 :], (*chosen, found[0]), found[1])

    def _step(self) -> None:
        self._steps += 1
        late = self._steps % _STEPS_BETWEEN_LOOKS == 0 and time.monotonic() > self._until
        if late or self._steps > _MOST_STEPS:
            raise SearchGivenUp("timed out trying to allocate devices")


@dataclass(frozen=True, eq=False)
class _Wanted:
    """So many devices for a request of a claim."""

    claim: Need
    request: Request
    count: int


def _free(request: Request, device: Device, chosen: Chosen, state: _State) -> bool:
    """Whether nobody has the device; administrators only may not have it twice in a claim."""
    if request.admin:
        return device.shared or all(device.id != pick.device.id for pick in chosen)
    return not state.is_held(device.id)


def _taken(request: Request, device: Device, share: Mapping[str, int] | None) -> Mapping[str, int] | None:
    """What all shares with this one take of the device's capacities, in nanos; None if that is too much."""
    more = request.consumption(device)
    if more is None:
        return None
    before = share or {}
    after = {name: before.get(name, 0) + amount.nanos for name, amount in more.items()}
    return None if any(amount > device.room[name] for name, amount in after.items()) else after


def _picking(wanted: _Wanted, device: Device, chosen: Chosen, state: _State) -> tuple[Pick, _State] | None:
    """The device as the next one of the request, and what is in use then; None if it can't be. Raises AllocationFailed.

    All shares of a device together take of its pool's counters what the device takes.
    """
    request = wanted.request
    share = state.share(device.id)
    after = _taken(request, device, share)
    if after is None:
        return None
    spent: Counters | None = state.spent
    if device.consumed and not (device.shared and share is not None):
        spent = state.spending(device.consumed)
    if spent is None:
        return None
    if device.untolerated(request.tolerations):
        return None
    if not all(each.allows(chosen, request, device) for each in wanted.claim.constraints):
        if request.everything:
            told = f"cannot add device {'/'.join(device.id)} because a claim constraint would not be satisfied"
            raise AllocationFailed(f"claim {request.claim}, request {request.base}: {told}")
        return None
    if device.shared:
        amounts = request.consumption(device) or {}
        return Pick(request, device, amounts), replace(state, spent=spent, shares={**state.shares, device.id: after})
    if request.admin:
        return Pick(request, device, {}), replace(state, spent=spent, watched=state.watched | {device.id})
    return Pick(request, device, {}), replace(state, spent=spent, devices=state.devices | {device.id})
