"""Sets of processors (and of memory nodes) as the kernel writes them: `0-3,8`."""

from __future__ import annotations

from collections.abc import Iterable

CpuSet = frozenset[int]


def parse_set(text: str) -> CpuSet:
    """`0-3,8` as numbers. Raises ValueError."""
    found: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, dash, last = part.partition("-")
            found.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(found)


def show_set(numbers: Iterable[int]) -> str:
    """Numbers as `0-3,8`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
