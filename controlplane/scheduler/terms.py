"""How many pods on each node match a selector: what affinity and spreading ask, kept as counts per node.

A *term* says which pods are meant: those of some namespaces whose labels match. Its column of counts is made when a
pod first asks for it and kept up to date as pods come and go; summing a column by a topology label gives the counts per
zone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from machinery.api.labels import Selector

Counts = NDArray[np.int32]

_KEPT_TERMS = 1024


@dataclass(frozen=True)
class Term:
    """Pods of `namespaces`, or of namespaces that `namespace_selector` matches, whose labels match all `selectors`."""

    selectors: tuple[Selector, ...]
    namespaces: frozenset[str] = frozenset()
    namespace_selector: Selector | None = None

    def matches(self, namespace: str, labels: Mapping[str, str], namespace_labels: Mapping[str, str]) -> bool:
        """Whether a pod with these labels is meant."""
        if namespace not in self.namespaces and not (
            self.namespace_selector is not None and self.namespace_selector.matches(namespace_labels)
        ):
            return False
        return all(selector.matches(labels) for selector in self.selectors)


PodLabels = tuple[str, frozenset[tuple[str, str]]]
"""(namespace, labels) of a pod, as one hashable value: pods of one template share it, and their matches."""


class TermCounts:
    """Counts of matching pods per row, for every term that has been asked for."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._columns: OrderedDict[Term, Counts] = OrderedDict()
        self._pods: dict[PodLabels, dict[int, int]] = {}  # row → how many pods with exactly these labels
        self._matching: dict[PodLabels, list[Counts]] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}

    def grow(self, capacity: int) -> None:
        """Make room for more rows."""
        extra = capacity - self._capacity
        self._columns = OrderedDict((term, np.pad(column, (0, extra))) for term, column in self._columns.items())
        self._matching.clear()
        self._capacity = capacity

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        """A namespace has these labels, or is gone. Terms that select namespaces are counted anew."""
        if labels == self._namespaces.get(name):
            return
        if labels is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = labels
        for term in [term for term in self._columns if term.namespace_selector is not None]:
            del self._columns[term]
        self._matching.clear()

    def namespace_labels(self, name: str) -> Mapping[str, str]:
        """The labels of a namespace as last seen."""
        return self._namespaces.get(name, {})

    def change(self, pod: PodLabels, row: int, by: int) -> None:
        """`by` more pods with these labels are on `row`."""
        rows = self._pods.setdefault(pod, {})
        rows[row] = rows.get(row, 0) + by
        columns = self._matching.get(pod)
        if columns is None:
            columns = self._matching[pod] = [c for term, c in self._columns.items() if self._matches(term, pod)]
        for column in columns:
            column[row] += by
        if not rows[row]:
            del rows[row]
            if not rows:
                del self._pods[pod], self._matching[pod]

    def column(self, term: Term) -> Counts:
        """Matching pods on each row (capacity long); shared, not to be changed."""
        column = self._columns.get(term)
        if column is None:
            column = np.zeros(self._capacity, np.int32)
            for pod, rows in self._pods.items():
                if self._matches(term, pod):
                    for row, count in rows.items():
                        column[row] = column[row] + count
            self._columns[term] = column
            if len(self._columns) > _KEPT_TERMS:
                self._columns.popitem(last=False)
            self._matching.clear()
        self._columns.move_to_end(term)
        return column

    def _matches(self, term: Term, pod: PodLabels) -> bool:
        namespace, labels = pod
        return term.matches(namespace, dict(labels), self.namespace_labels(namespace))


class OwnedTerms:
    """How many pods on each row *have* a term of a kind, such as a required anti-affinity, with its topology key."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._columns: dict[tuple[Term, str], NDArray[np.int64]] = {}

    def grow(self, capacity: int) -> None:
        """Make room for more rows."""
        extra = capacity - self._capacity
        self._columns = {key: np.pad(column, (0, extra)) for key, column in self._columns.items()}
        self._capacity = capacity

    def change(self, terms: Iterable[tuple[Term, str, int]], row: int, by: int) -> None:
        """A pod with these (term, topology key, weight) came to `row` (by 1), or left it (by -1)."""
        for term, topology_key, weight in terms:
            column = self._columns.get((term, topology_key))
            if column is None:
                column = self._columns[term, topology_key] = np.zeros(self._capacity, np.int64)
            column[row] += by * weight
            if by < 0 and column[row] == 0 and not column.any():
                del self._columns[term, topology_key]

    def matching(
        self, namespace: str, labels: Mapping[str, str], namespace_labels: Mapping[str, str]
    ) -> list[tuple[str, NDArray[np.int64]]]:
        """(topology key, weights per row) of the terms that mean a pod with these labels."""
        return [
            (topology_key, column)
            for (term, topology_key), column in self._columns.items()
            if term.matches(namespace, labels, namespace_labels)
        ]

    def __bool__(self) -> bool:
        return bool(self._columns)
