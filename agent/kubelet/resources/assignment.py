"""Which of the free CPUs a container gets: packed as densely as the machine allows, or spread evenly over NUMA nodes.

Packed: whole NUMA nodes and sockets first, then (where asked for) whole last-level caches, then whole cores, then
single threads of what is begun already. Everywhere the fullest place is taken first, of equally full ones the lowest.

Source: kubelet's cm/cpumanager cpu_assignment.go; KEP-2902 (distribute-cpus-across-numa), KEP-4800 (uncore caches).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import pstdev

from agent.kubelet.resources.cpuset import CpuSet
from agent.kubelet.resources.topology import Processor, Topology, cache, core, node, socket
from machinery.errors import NavarchError

Part = Callable[[Processor], int]


class NotEnough(NavarchError):
    """There are not as many free CPUs as were asked for; the text is upstream's."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How CPUs are chosen; `spread` over cores, `by_cache` last-level caches first."""

    spread: bool = False
    by_cache: bool = False


class _Choice:
    """CPUs as they are taken out of those that are free."""

    def __init__(self, machine: Topology, free: CpuSet, count: int) -> None:
        self.machine, self.free, self.needed = machine, free, count
        self.taken: CpuSet = frozenset()
        # Where NUMA nodes hold sockets, nodes come first; where sockets hold nodes, sockets do.
        self.outer: list[Part] = [node, socket] if machine.sockets >= len(machine.cpu_nodes) else [socket, node]

    def take(self, cpus: Iterable[int]) -> None:
        chosen = frozenset(cpus)
        self.taken |= chosen
        self.free -= chosen
        self.needed -= len(chosen)

    def within(self, part: Part, place: int, among: CpuSet) -> CpuSet:
        return frozenset(cpu for cpu in among if part(self.machine.processors[cpu]) == place)

    def sorted(self, *parts: Part, among: CpuSet | None = None) -> list[int]:
        """The places of the last part that have free CPUs, fullest first, place by place of the parts before it."""
        part, *inner = parts
        among = self.free if among is None else among
        places = self.machine.places(among, part)
        ordered = sorted(places, key=lambda place: (len(self.within(part, place, self.free)), place))
        if not inner:
            return ordered
        found: list[int] = []
        for place in ordered:
            found += self.sorted(*inner, among=self.within(part, place, among))
        return found

    def take_whole(self, *parts: Part) -> None:
        """Take every place of the last part of which all is free and that is needed whole."""
        part = parts[-1]
        for place in self.sorted(*parts):
            free = self.within(part, place, self.free)
            if free and len(free) == len(self.within(part, place, self.machine.cpus)) and len(free) <= self.needed:
                self.take(free)

    def take_caches(self) -> None:
        caches = self.machine.places(self.machine.cpus, cache)
        size = len(self.machine.processors) // len(caches)
        for place in self.sorted(*self.to_nodes, cache):
            if self.needed >= size:
                self.take_whole(*self.to_nodes, cache)
            if self.needed:
                self._take_part_of_cache(place)
            if not self.needed:
                return

    def _take_part_of_cache(self, place: int) -> None:
        threads = self.machine.cpus_per_core
        free = self.within(cache, place, self.free)
        cores = sorted(self.machine.places(free, core))[: -(-self.needed // threads)]
        cpus = sorted(cpu for cpu in self.free if core(self.machine.processors[cpu]) in cores)
        if self.needed % 2 and threads > 1 and len(cpus) > self.needed:
            cpus = cpus[:-1]  # of the last core only one thread is needed
        if len(cpus) == self.needed:
            self.take(cpus)

    @property
    def to_nodes(self) -> list[Part]:
        return [node] if self.outer[0] is node else [socket, node]

    def take_single(self, manner: Manner) -> None:
        to_sockets = [socket] if self.outer[0] is socket else [node, socket]
        parts = to_sockets if manner.spread else [*self.outer, core]
        for place in self.sorted(*parts):
            for cpu in sorted(self.within(parts[-1], place, self.free)):
                self.take([cpu])
                if not self.needed:
                    return


def take_packed(machine: Topology, free: CpuSet, count: int, manner: Manner = Manner()) -> CpuSet:
    """So many of the free CPUs, as close together as can be. Raises NotEnough."""
    if count < 1:
        return frozenset()
    if count > len(free):
        raise NotEnough(f"not enough cpus available to satisfy request: requested={count}, available={len(free)}")
    choice = _Choice(machine, free, count)
    steps: list[Callable[[], None]] = [
        lambda: choice.take_whole(choice.outer[0]),
        lambda: choice.take_whole(*choice.outer),
    ]
    if manner.by_cache:
        steps.append(choice.take_caches)
    if not manner.spread:
        steps.append(lambda: choice.take_whole(*choice.outer, core))
    steps.append(lambda: choice.take_single(manner))
    for step in steps:
        if choice.needed:
            step()
    return choice.taken


def take_distributed(machine: Topology, free: CpuSet, count: int, group: int, manner: Manner = Manner()) -> CpuSet:
    """So many of the free CPUs, the same number (in groups of so many) of each NUMA node. Raises NotEnough."""
    if count % group:
        return take_packed(machine, free, count, manner)
    if count < 1:
        return frozenset()
    if count > len(free):
        raise NotEnough(f"not enough cpus available to satisfy request: requested={count}, available={len(free)}")
    choice = _Choice(machine, free, count)
    nodes = choice.sorted(*choice.to_nodes)
    for size in range(*_node_counts(machine, free, count, group)):
        plan = _best_plan(machine, free, count, group, nodes, size)
        if plan is not None:
            return _carry_out(machine, free, count, group, plan, manner)
    return take_packed(machine, free, count, manner)


def _node_counts(machine: Topology, free: CpuSet, count: int, group: int) -> tuple[int, int]:
    groups = (len(machine.processors) - 1) // group + 1
    per_node = (groups - 1) // len(machine.cpu_nodes) + 1
    available = len(machine.places(free, node))
    needed = (count - 1) // group + 1
    return (needed - 1) // per_node + 1, min(needed, available) + 1


_Plan = tuple[tuple[int, ...], tuple[int, ...]]  # the nodes, and those of them that give one group more


def _best_plan(
    machine: Topology, free: CpuSet, count: int, group: int, nodes: Sequence[int], size: int
) -> _Plan | None:
    """The nodes after whose use what is left is the most balanced; None if none can give the same of each."""
    sizes = {number: len(machine.in_nodes([number], free)) for number in nodes}
    best: tuple[float, _Plan] | None = None
    for chosen in combinations(nodes, size):
        if best is not None and best[0] == 0:
            break
        if sum(sizes[n] // group for n in chosen) * group < count:
            continue
        share = count // size // group * group
        if any(sizes[n] < share for n in chosen):
            continue
        left = {n: sizes[n] - share if n in chosen else sizes[n] for n in nodes}
        found = _best_rest(left, chosen, count - share * size, group)
        if found is not None and (best is None or found[0] < best[0]):
            best = (found[0], (chosen, found[1]))
    return best[1] if best is not None else None


def _best_rest(
    left: dict[int, int], chosen: Sequence[int], rest: int, group: int
) -> tuple[float, tuple[int, ...]] | None:
    """Of which nodes to take what is left over after equal shares: (imbalance, nodes)."""
    if not rest:
        return _imbalance(left), ()
    best: tuple[float, tuple[int, ...]] | None = None
    can_give = [n for n in chosen if left[n] >= group]
    for size in range(len(can_give), 0, -1):
        for givers in combinations(can_give, size):
            if sum(left[n] // group for n in givers) * group < rest:
                continue
            after = dict(left)
            for number in _rounds(givers, after, rest, group):
                after[number] -= group
            balance = _imbalance(after)
            if best is None or balance < best[0]:
                best = (balance, givers)
    return best


def _imbalance(left: Mapping[int, int]) -> float:
    return round(pstdev(left.values()), 3)


def _rounds(givers: Sequence[int], left: dict[int, int], rest: int, group: int) -> Iterable[int]:
    """The nodes in the order in which they give one group each, until nothing is left over."""
    while rest > 0:
        for number in givers:
            if rest > 0 and left[number] >= group:
                rest -= group
                yield number


def _carry_out(machine: Topology, free: CpuSet, count: int, group: int, plan: _Plan, manner: Manner) -> CpuSet:
    chosen, givers = plan
    share = count // len(chosen) // group * group
    manner = Manner(spread=manner.spread)
    taken: CpuSet = frozenset()
    for number in chosen:
        taken |= take_packed(machine, machine.in_nodes([number], free - taken), share, manner)
    left = {n: len(machine.in_nodes([n], free - taken)) for n in chosen}
    for number in _rounds(givers, left, count - len(taken), group):
        left[number] -= group
        taken |= take_packed(machine, machine.in_nodes([number], free - taken), group, manner)
    return taken
