"""How fast the machine is just now: virtual ones vary by half, so a figure alone says little."""

from __future__ import annotations

import timeit


def loop_milliseconds() -> float:
    """How long this machine takes, just now, for a loop that only Python's speed matters to: the best of five."""
    words = {number: str(number) for number in range(1_000)}
    return min(timeit.repeat(lambda: sum(len(words[n % 1_000]) for n in range(100_000)), number=1, repeat=5)) * 1e3
