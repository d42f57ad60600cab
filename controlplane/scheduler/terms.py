"""How many pods on each node match a selector: what affinity and spreading ask, kept as counts per node.

A *term* says which pods are meant: those of some namespaces whose labels match. Its column of counts is made when a
pod first asks for it and kept up to date as pods come and go; summing a column by a topology label gives the counts per
zone.

Source: core/v1 PodAffinityTerm; KEP-3633 (matchLabelKeys, mismatchLabelKeys), KEP-2249 (namespaceSelector).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from machinery.api import labels as label_selectors
from machinery.api.labels import IN, NOT_IN, Requirement, Selector
from machinery.api.meta import Object

Counts = NDArray[np.int64]

_KEPT_TERMS = 1024
_KEPT_MATCHES = 4096


@dataclass(frozen=True)
class Term:
    """Pods of `namespaces`, or of namespaces that `namespace_selector` matches, whose labels match all `selectors`.

    `living`: pods that are being deleted are not meant. `also`: they must match these terms as well.
    """

    selectors: tuple[Selector, ...]
    namespaces: frozenset[str] = frozenset()
    namespace_selector: Selector | None = None
    living: bool = False
    also: tuple[Term, ...] = ()

    def matches(self, namespace: str, labels: Mapping[str, str], namespace_labels: Mapping[str, str]) -> bool:
        """Whether a pod with these labels is meant."""
        if namespace not in self.namespaces and not (
            self.namespace_selector is not None and self.namespace_selector.matches(namespace_labels)
        ):
            return False
        return all(selector.matches(labels) for selector in self.selectors) and all(
            term.matches(namespace, labels, namespace_labels) for term in self.also
        )


WeightedTerm = tuple[Term, str, int]
"""(which pods, topology key, weight)"""

PodLabels = tuple[str, frozenset[tuple[str, str]], bool]
"""(namespace, labels, whether it is being deleted) of a pod."""


def weighted_terms(given: Iterable[Object] | None, namespace: str, labels: Mapping[str, str]) -> list[WeightedTerm]:
    """The PodAffinityTerms of a pod with these labels, each with weight 1."""
    return [(_term(term, namespace, labels), term["topologyKey"], 1) for term in given or ()]


def _term(term: Object, namespace: str, labels: Mapping[str, str]) -> Term:
    named = frozenset(term.get("namespaces") or ())
    chosen = term.get("namespaceSelector")
    if chosen is None and not named:
        named = frozenset((namespace,))
    selector = label_selectors.from_selector(term.get("labelSelector"))
    same = [Requirement(k, IN, (labels[k],)) for k in term.get("matchLabelKeys") or () if k in labels]
    other = [Requirement(k, NOT_IN, (labels[k],)) for k in term.get("mismatchLabelKeys") or () if k in labels]
    if (same or other) and not selector.nothing:
        # The API server has merged them into the selector of pods it admitted: the same requirement twice is one.
        selector = Selector(tuple(dict.fromkeys((*selector.requirements, *same, *other))))
    return Term(
        selectors=(selector,),
        namespaces=named,
        namespace_selector=None if chosen is None else label_selectors.from_selector(chosen),
    )


class TermCounts:
    """Counts of matching pods per row, for every term that has been asked for."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._columns: OrderedDict[Term, Counts] = OrderedDict()
        self._pods: dict[PodLabels, dict[int, int]] = {}  # row → how many pods with exactly these labels
        self._matching: dict[PodLabels, list[Counts]] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self.namespace_changes = 0

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
        self.namespace_changes += 1
        if labels is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = labels
        for term in [term for term in self._columns if _selects_namespaces(term)]:
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
        """Matching pods on each row (int64[capacity]); shared, not to be changed."""
        column = self._columns.get(term)
        if column is None:
            column = np.zeros(self._capacity, np.int64)
            for pod, rows in self._pods.items():
                if self._matches(term, pod):
                    column[list(rows)] += list(rows.values())
            self._columns[term] = column
            if len(self._columns) > _KEPT_TERMS:
                self._columns.popitem(last=False)
            self._matching.clear()
        self._columns.move_to_end(term)
        return column

    def _matches(self, term: Term, pod: PodLabels) -> bool:
        namespace, labels, deleting = pod
        if deleting and term.living:
            return False
        return term.matches(namespace, dict(labels), self.namespace_labels(namespace))


def _selects_namespaces(term: Term) -> bool:
    return term.namespace_selector is not None or any(_selects_namespaces(other) for other in term.also)


class OwnedTerms:
    """How many pods on each row *have* a term of a kind, such as a required anti-affinity, with its topology key."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._columns: dict[tuple[Term, str], Counts] = {}
        self._matching: dict[PodLabels, list[tuple[str, Counts]]] = {}

    def grow(self, capacity: int) -> None:
        """Make room for more rows."""
        extra = capacity - self._capacity
        self._columns = {key: np.pad(column, (0, extra)) for key, column in self._columns.items()}
        self._matching.clear()
        self._capacity = capacity

    def forget_matches(self) -> None:
        """What a term means has changed: the labels of a namespace have."""
        self._matching.clear()

    def change(self, terms: Iterable[WeightedTerm], row: int, by: int) -> None:
        """A pod with these (term, topology key, weight) came to `row` (by 1), or left it (by -1)."""
        for term, topology_key, weight in terms:
            column = self._columns.get((term, topology_key))
            if column is None:
                column = self._columns[term, topology_key] = np.zeros(self._capacity, np.int64)
                self._matching.clear()
            column[row] += by * weight
            if by < 0 and column[row] == 0 and not column.any():
                del self._columns[term, topology_key]
                self._matching.clear()

    def matching(self, pod: PodLabels, namespace_labels: Mapping[str, str]) -> list[tuple[str, Counts]]:
        """(topology key, weights per row) of the terms that mean such a pod."""
        found = self._matching.get(pod)
        if found is None:
            namespace, labels, _ = pod
            mine = dict(labels)
            found = [
                (topology_key, column)
                for (term, topology_key), column in self._columns.items()
                if term.matches(namespace, mine, namespace_labels)
            ]
            if len(self._matching) >= _KEPT_MATCHES:
                self._matching.clear()
            self._matching[pod] = found
        return found

    def __bool__(self) -> bool:
        return bool(self._columns)
