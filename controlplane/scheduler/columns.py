"""Labels and taints of all nodes as arrays, so that one comparison asks every node (or some rows) at once.

A label key is a column of small integers: 0 where a node lacks the key, else the number of its value. A column comes
into being when somebody first asks for its key, and is kept up to date from then on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from machinery.api.meta import Object, labels_of, name_of

Mask = NDArray[np.bool_]
Ints = NDArray[np.int32]

Index = slice | NDArray[np.int64]
"""Which rows an array is wanted for: all of them (EVERY), or those with these numbers."""

EVERY = slice(None)

NAME_FIELD = "metadata.name"
_NAME_COLUMN = "\0name"  # no label key can look like this


class LabelColumns:
    """The labels of all rows. `changes` grows whenever a mask computed from labels may have become wrong."""

    def __init__(self, capacity: int) -> None:
        self.changes = 0
        self._capacity = capacity
        self._columns: dict[str, Ints] = {}
        self._values: dict[str, dict[str, int]] = {}
        self._nodes: dict[int, Object] = {}
        self._unique: dict[str, tuple[int, bool]] = {}

    def grow(self, capacity: int) -> None:
        """Make room for more rows."""
        extra = capacity - self._capacity
        self._columns = {key: np.pad(column, (0, extra)) for key, column in self._columns.items()}
        self._capacity = capacity

    def set(self, row: int, node: Object | None) -> None:
        """Row `row` has the labels of `node`, or none."""
        old = self._nodes.get(row)
        if old is not None and node is not None and labels_of(old) == labels_of(node) and name_of(old) == name_of(node):
            self._nodes[row] = node
            return
        self.changes += 1
        if node is None:
            self._nodes.pop(row, None)
        else:
            self._nodes[row] = node
        for key, column in self._columns.items():
            column[row] = 0 if node is None else self._number(key, node)

    def column(self, key: str) -> Ints:
        """The values of a label on all rows (capacity long), as numbers; 0: no such label."""
        column = self._columns.get(key)
        if column is None:
            column = self._columns[key] = np.zeros(self._capacity, np.int32)
            self._values[key] = {}
            for row, node in self._nodes.items():
                column[row] = self._number(key, node)
        return column

    def distinct(self, key: str) -> int:
        """One more than the largest number in the column: the size of an array indexed by it."""
        self.column(key)
        return len(self._values[key]) + 1

    def texts(self, key: str) -> NDArray[np.str_]:
        """The values by their numbers; "" at 0."""
        self.column(key)
        return np.array(["", *self._values[key]], np.str_)

    def unique(self, key: str) -> bool:
        """Whether no two rows share a value of the label."""
        known = self._unique.get(key)
        if known is None or known[0] != self.changes:
            column = self.column(key)
            numbers = column[column > 0]
            known = self._unique[key] = (self.changes, len(np.unique(numbers)) == len(numbers))
        return known[1]

    def matches(self, key: str, operator: str, values: Sequence[str], index: Index = EVERY) -> Mask:
        """Rows that meet a node selector requirement. An unknown operator, or a bad number, matches nothing."""
        column = self.column(key)[index]
        known = self._values[key]
        found: Mask
        if operator in ("Exists", "DoesNotExist"):
            found = column > 0
            return found if operator == "Exists" else ~found
        if operator in ("In", "NotIn"):
            wanted = [known[value] for value in values if value in known]
            found = column == wanted[0] if len(wanted) == 1 else np.isin(column, wanted)
            return found if operator == "In" else ~found
        if operator in ("Gt", "Lt") and len(values) == 1 and (bound := _integer(values[0])) is not None:
            ahead: Callable[[int], bool] = (lambda n: n > bound) if operator == "Gt" else (lambda n: n < bound)
            numbers = [n for text, n in known.items() if (value := _integer(text)) is not None and ahead(value)]
            return np.isin(column, numbers)
        return np.zeros(len(column), np.bool_)

    def named(self, names: Iterable[str], index: Index = EVERY) -> Mask:
        """Rows whose node has one of these names."""
        return self.matches(_NAME_COLUMN, "In", list(names), index)

    def not_named(self, names: Iterable[str], index: Index = EVERY) -> Mask:
        """Rows whose node has none of these names."""
        return self.matches(_NAME_COLUMN, "NotIn", list(names), index)

    def value(self, key: str, row: int) -> str | None:
        """The value of a label on one row."""
        node = self._nodes.get(row)
        return None if node is None else labels_of(node).get(key)

    def _number(self, key: str, node: Object) -> int:
        value = name_of(node) if key == _NAME_COLUMN else labels_of(node).get(key)
        if value is None:
            return 0
        values = self._values[key]
        return values.setdefault(value, len(values) + 1)


Taint = tuple[str, str, str]
"""(key, value, effect)"""


class TaintColumns:
    """Which rows have which taint, one row of booleans for each taint ever seen."""

    def __init__(self, capacity: int) -> None:
        self.changes = 0
        self.taints: list[Taint] = []
        self._index: dict[Taint, int] = {}
        self._rows: dict[int, set[int]] = {}
        self._has = np.zeros((8, capacity), np.bool_)

    def grow(self, capacity: int) -> None:
        """Make room for more rows."""
        self._has = np.pad(self._has, ((0, 0), (0, capacity - self._has.shape[1])))

    def set(self, row: int, taints: Iterable[Object]) -> None:
        """Row `row` has exactly these taints."""
        wanted = {self._number((t.get("key", ""), t.get("value", ""), t.get("effect", ""))) for t in taints}
        if wanted == self._rows.get(row, set()):
            return
        self.changes += 1
        self._rows[row] = wanted
        self._has[:, row] = False
        self._has[list(wanted), row] = True

    def having_any(self, numbers: Sequence[int], index: Index = EVERY) -> Mask:
        """Rows with at least one of the taints."""
        found: Mask = np.logical_or.reduce([self._has[number, index] for number in numbers])
        return found if numbers else np.zeros(len(self._has[0, index]), np.bool_)

    def counts(self, numbers: Sequence[int], index: Index = EVERY) -> NDArray[np.int64]:
        """How many of the taints each row has."""
        total: NDArray[np.int64] = np.zeros(len(self._has[0, index]), np.int64)
        for number in numbers:
            total += self._has[number, index]
        return total

    def untolerated(self, tolerations: Sequence[Object], effects: tuple[str, ...]) -> list[int]:
        """The taints with one of `effects` that none of the tolerations tolerates."""
        return [
            number
            for number, taint in enumerate(self.taints)
            if taint[2] in effects and not any(tolerates(t, taint) for t in tolerations)
        ]

    def _number(self, taint: Taint) -> int:
        number = self._index.get(taint)
        if number is None:
            number = self._index[taint] = len(self.taints)
            self.taints.append(taint)
            if number >= self._has.shape[0]:
                self._has = np.pad(self._has, ((0, self._has.shape[0]), (0, 0)))
        return number


def tolerates(toleration: Object, taint: Taint) -> bool:
    """Whether a toleration accepts a taint. Source: core/v1 Toleration.ToleratesTaint."""
    key, value, effect = taint
    if toleration.get("effect") and toleration["effect"] != effect:
        return False
    if toleration.get("key") and toleration["key"] != key:
        return False
    operator = toleration.get("operator") or "Equal"  # Lt and Gt are behind a gate that is off in v1.36
    return operator == "Exists" or (operator == "Equal" and (toleration.get("value") or "") == value)


_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


def _integer(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None
