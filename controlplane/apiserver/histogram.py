"""Histograms that cost next to nothing to observe: no locks, for one event loop."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.core import HistogramMetricFamily

Labels = tuple[str, ...]


class Histograms:
    """Counts by bucket for each set of labels."""

    __slots__ = ("_buckets", "_found")

    def __init__(self, buckets: Sequence[float]) -> None:
        """`buckets` are upper bounds, rising."""
        self._buckets = tuple(buckets)
        self._found: dict[Labels, list[float]] = {}  # counts by bucket, the last beyond all; then the sum

    def observe(self, labels: Labels, value: float) -> None:
        """Count a value."""
        found = self._found.get(labels)
        if found is None:
            found = self._found[labels] = [0] * (len(self._buckets) + 2)
        found[bisect_left(self._buckets, value)] += 1
        found[-1] += value

    def labels(self) -> Iterator[Labels]:
        """Every set of labels that something was observed with."""
        return iter(self._found)

    def count(self, labels: Labels) -> int:
        """How many values were counted."""
        return int(sum(self._found.get(labels, [0])[:-1]))

    def family(self, name: str, help_: str, labels: Sequence[str]) -> HistogramMetricFamily:
        """For /metrics."""
        made = HistogramMetricFamily(name, help_, labels=labels)
        for values, found in self._found.items():
            made.add_metric(values, list(self._cumulated(found)), found[-1])
        return made

    def _cumulated(self, found: list[float]) -> Iterator[tuple[str, float]]:
        total = 0.0
        for bound, count in zip((*self._buckets, None), found[:-1], strict=True):
            total += count
            yield ("+Inf" if bound is None else f"{bound:g}"), total
