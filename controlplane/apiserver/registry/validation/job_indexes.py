"""Indexes of indexed Jobs, as their status and policies write them.

Source: pkg/apis/batch/validation/validation.go (validateIndexesFormat).
"""

from __future__ import annotations

from typing import Final

INDEXED: Final = "Indexed"


def intervals(indexes: str, completions: int) -> list[tuple[int, int]] | str:
    """The first and last indexes of the intervals that `1,3-5` names, or what is wrong with it."""
    if not indexes:
        return []
    found: list[tuple[int, int]] = []
    last = -1
    for part in indexes.split(","):
        bounds: list[int] = []
        limits = part.split("-")
        if len(limits) > 2:
            what = "violates the requirement that an index interval can have at most two parts separated by '-'"
            return f'the fragment "{part}" {what}'
        for limit in limits:
            if not (limit.isascii() and limit.isdigit()) or len(limit) > 10:
                return f'cannot convert string to integer for index: "{limit}"'
            bounds.append(int(limit))
        first, end = bounds[0], bounds[-1]
        for bound in bounds:
            if bound >= completions:
                return f'too large index: "{bound}"'
        if last >= first:
            return f"non-increasing order, previous: {last}, current: {first}"
        if len(bounds) == 2 and end <= first:
            return f"non-increasing order, previous: {first}, current: {end}"
        found.append((first, end))
        last = end
    return found


def common(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> int | None:
    """The least index that both have."""
    i = j = 0
    while i < len(one) and j < len(other):
        first, last = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if first <= last:
            return first
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return None
