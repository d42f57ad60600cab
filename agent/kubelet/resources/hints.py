"""Hints of where a container's resources could be, and how a topology policy makes one of them all.

A mask is a number whose bits are NUMA nodes. A provider says for each resource which masks could hold what is asked
for, and which of them are as narrow as they can be (`preferred`).

Source: kubelet's cm/topologymanager policy.go, policy_single_numa_node.go, numa_info.go, bitmask.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

NONE, BEST_EFFORT, RESTRICTED, SINGLE = "none", "best-effort", "restricted", "single-numa-node"


@dataclass(frozen=True, slots=True)
class Hint:
    """NUMA nodes that could serve; no mask: any."""

    mask: int | None
    preferred: bool


ANY = Hint(None, True)
NOWHERE = Hint(None, False)

Hints = Mapping[str, Sequence[Hint] | None]
"""By resource: where it could be; None: anywhere, empty: nowhere."""


def mask_of(nodes: Iterable[int]) -> int:
    """The mask of these nodes."""
    return sum(1 << number for number in set(nodes))


def nodes_of(mask: int) -> list[int]:
    """The nodes of a mask."""
    return [number for number in range(mask.bit_length()) if mask >> number & 1]


def masks(nodes: Iterable[int]) -> list[int]:
    """Every mask of these nodes, narrow ones first."""
    numbers = sorted(nodes)
    return [mask_of(part) for size in range(1, len(numbers) + 1) for part in combinations(numbers, size)]


@dataclass(frozen=True)
class Merger:
    """A policy on a machine with these nodes; `distances` by node where the closest nodes are preferred."""

    policy: str
    nodes: tuple[int, ...]
    distances: Mapping[int, Sequence[int]] | None = None

    def merge(self, providers: Iterable[Hints]) -> tuple[Hint, bool]:
        """(the one hint, whether the pod can be taken with it)."""
        lists = [hints for provider in providers for hints in _lists(provider)]
        if self.policy == SINGLE:
            lists = [
                [h for h in hints if h.preferred and (h.mask is None or h.mask.bit_count() == 1)] for hints in lists
            ]
        everything = mask_of(self.nodes)
        best = self._best(lists, everything)
        if self.policy == SINGLE and best.mask == everything:
            best = Hint(None, best.preferred)
        return best, best.preferred or self.policy == BEST_EFFORT

    def _best(self, lists: Sequence[Sequence[Hint]], everything: int) -> Hint:
        enough = max([0, *(_narrowest(hints) for hints in lists)])
        best: Hint | None = None
        for candidate in _merged(lists, everything):
            best = self._better(best, candidate, enough)
        return best or Hint(everything, False)

    def _better(self, current: Hint | None, candidate: Hint, enough: float) -> Hint | None:
        if not candidate.mask:
            return current
        if current is None or current.preferred != candidate.preferred:
            return candidate if current is None or candidate.preferred else current
        if current.preferred:
            return self._compare(current, candidate)
        # Neither is preferred: as many nodes as one of the resources needs by itself are best, then fewer.
        now, then = (current.mask or 0).bit_count(), candidate.mask.bit_count()
        if now > enough:
            return self._compare(current, candidate)
        if now == enough:
            return self._compare(current, candidate) if then == enough else current
        if then > enough or then < now:
            return current
        return candidate if then > now else self._compare(current, candidate)

    def _compare(self, current: Hint, candidate: Hint) -> Hint:
        one, other = current.mask or 0, candidate.mask or 0
        if one == other:
            return current
        rank: Callable[[int], tuple[float, ...]] = lambda mask: (mask.bit_count(), mask)  # noqa: E731
        if self.distances is not None and self.policy != SINGLE:
            rank = lambda mask: (mask.bit_count(), self._distance(mask), mask)  # noqa: E731
        return current if rank(one) < rank(other) else candidate

    def _distance(self, mask: int) -> float:
        nodes, distances = nodes_of(mask), self.distances or {}
        return sum(distances[a][b] for a in nodes for b in nodes) / len(nodes) ** 2


def _lists(provider: Hints) -> Iterable[Sequence[Hint]]:
    if not provider:
        yield [ANY]
    for hints in provider.values():
        if hints is None:
            yield [ANY]
        else:
            yield hints or [NOWHERE]


def _narrowest(hints: Sequence[Hint]) -> float:
    return min((hint.mask.bit_count() for hint in hints if hint.mask is not None), default=float("inf"))


def _merged(lists: Sequence[Sequence[Hint]], everything: int) -> Iterable[Hint]:
    """One hint of each list, put together in every way: what they have in common; preferred if all agree and are."""
    # What is the same so far is gone on with once: with eight nodes and three resources it would be millions of ways.
    ways = {(everything, True, False): None}
    for hints in lists:
        following: dict[tuple[int, bool, bool], None] = {}
        for mask, preferred, begun in ways:
            for hint in hints:
                if hint.mask is None:
                    following[(mask, preferred and hint.preferred, begun)] = None
                else:
                    agrees = not begun or mask == hint.mask  # all before that are preferred were this mask
                    following[(mask & hint.mask, preferred and hint.preferred and agrees, True)] = None
        ways = following
    return [Hint(mask, preferred) for mask, preferred, _ in ways]
