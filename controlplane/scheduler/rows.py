"""What a plugin sees of the nodes: arrays as long as the rows that are asked about, whether all or a few.

A plugin that is written against a view works for the whole cluster at once and for the three rows that have changed
since it was last asked, without knowing which.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from controlplane.scheduler.columns import EVERY, Index, Ints, Mask

if TYPE_CHECKING:
    from controlplane.scheduler.nodes import NodeTable

Amounts = NDArray[np.int64]


class Rows:
    """Some rows of the node table; arrays that it hands out are not to be changed."""

    __slots__ = ("index", "size", "table")

    def __init__(self, table: NodeTable, index: Index = EVERY) -> None:
        self.table = table
        self.index = index
        self.size = table.capacity if isinstance(index, slice) else len(index)

    def __len__(self) -> int:
        return self.size

    def none(self) -> Mask:
        """False for every row; the caller's own."""
        return np.zeros(self.size, np.bool_)

    @property
    def exists(self) -> Mask:
        """Rows that have a node."""
        found: Mask = self.table.exists[self.index]
        return found

    @property
    def unschedulable(self) -> Mask:
        """Rows whose node is cordoned."""
        found: Mask = self.table.unschedulable[self.index]
        return found

    def allocatable(self, column: int) -> Amounts:
        """What the nodes have for pods of a resource."""
        return self._amounts(self.table.allocatable, column)

    def requested(self, column: int) -> Amounts:
        """What the pods on the nodes ask for."""
        return self._amounts(self.table.requested, column)

    def _amounts(self, table: Amounts, column: int) -> Amounts:
        """A column of a table, which has none for a resource that no node and no pod on one has named yet."""
        found: Amounts = table[column, self.index] if column < len(table) else np.zeros(self.size, np.int64)
        return found

    def scored(self, column: int) -> Amounts:
        """The same of cpu (0) or memory (1), with a least amount for containers that ask for none."""
        found: Amounts = self.table.scored[column, self.index]
        return found

    def label(self, key: str) -> Ints:
        """The values of a label as small numbers; 0 where the node has no such label."""
        found: Ints = self.table.labels.column(key)[self.index]
        return found

    def matches(self, key: str, operator: str, values: Sequence[str]) -> Mask:
        """Rows that meet a node selector requirement."""
        return self.table.labels.matches(key, operator, values, self.index)

    def named(self, names: Iterable[str]) -> Mask:
        """Rows whose node has one of these names."""
        return self.table.labels.named(names, self.index)

    def not_named(self, names: Iterable[str]) -> Mask:
        """Rows whose node has none of these names."""
        return self.table.labels.not_named(names, self.index)

    def of(self, whole: NDArray[np.generic]) -> NDArray[np.generic]:
        """The part of a whole column (capacity long) that the view is about."""
        return whole[self.index]

    def marked(self, numbers: Iterable[int]) -> Mask:
        """True at these rows of the table."""
        whole = np.zeros(self.table.capacity, np.bool_)
        whole[list(numbers)] = True
        found: Mask = whole[self.index]
        return found
