"""How the server's seats are divided among priority levels, and lent from one to another.

Source: KEP-1040 "Borrowing"; k8s.io/apiserver/pkg/util/flowcontrol/conc_alloc.go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.apiserver.flowcontrol.level import LevelSpec


@dataclass(frozen=True, slots=True)
class Limits:
    """Seats of a level: its nominal share, and between what bounds lending and borrowing move it."""

    nominal: int
    lower: int
    upper: int


def limits(specs: Sequence[LevelSpec], total: int) -> dict[str, Limits]:
    """The limits of all levels of a server with `total` seats."""
    shares = sum(spec.shares for spec in specs) or 1
    made = {}
    for spec in specs:
        nominal = math.ceil(total * spec.shares / shares)
        lower = nominal - _rounded(nominal * spec.lendable_percent / 100)
        borrowing = spec.borrowing_percent
        upper = total if spec.exempt or borrowing is None else nominal + _rounded(nominal * borrowing / 100)
        made[spec.name] = Limits(nominal, lower, max(upper, nominal))
    return made


def _rounded(value: float) -> int:
    """To the nearest, halves up, as Go does."""
    return math.floor(value + 0.5)


def allocate(bounds: Mapping[str, Limits], demand: Mapping[str, float], total: int) -> dict[str, int]:
    """Current seats: what each level needs, within its bounds; what is too little or too much is shared alike.

    `demand` is what each level wanted of late. A level gets what it wants of its nominal share at least.
    """
    least = {n: max(b.lower, min(b.nominal, math.ceil(demand.get(n, 0)))) for n, b in bounds.items()}
    target = {n: max(least[n], demand.get(n, 0.0), 1e-3) for n in bounds}

    def given(fraction: float) -> dict[str, float]:
        return {n: min(max(fraction * target[n], least[n]), b.upper) for n, b in bounds.items()}

    low, high = 0.0, max(total / min(target.values(), default=1), 1.0)
    for _ in range(60):
        middle = (low + high) / 2
        if sum(given(middle).values()) > total:
            high = middle
        else:
            low = middle
    return {name: max(1, round(seats)) for name, seats in given(low).items()}
