"""Which images the nodes have: what ImageLocality weighs.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/imagelocality.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from machinery.api.meta import Object

_KEPT_SUMS = 256


class Images:
    """Image name → rows that have it, with its size in bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rows: dict[str, dict[int, int]] = {}
        self._names: dict[int, list[str]] = {}
        self._nodes = 0
        self._sums: dict[Sequence[str], NDArray[np.int64] | None] = {}

    def grow(self, capacity: int) -> None:
        """Make room for more rows."""
        self._capacity = capacity
        self._sums.clear()

    def set(self, row: int, node: Object | None) -> None:
        """Row `row` has the images of this node, or none."""
        self._sums.clear()
        known = self._names.pop(row, None)
        self._nodes += (node is not None) - (known is not None)
        for name in known or ():
            rows = self._rows[name]
            rows.pop(row, None)
            if not rows:
                del self._rows[name]
        if node is None:
            return
        names = self._names[row] = []
        for image in (node.get("status") or {}).get("images") or ():
            for name in image.get("names") or ():
                if row not in self._rows.setdefault(name, {}):
                    names.append(name)
                self._rows[name][row] = image.get("sizeBytes") or 0

    def sums(self, images: Sequence[str]) -> NDArray[np.int64] | None:
        """Bytes of these images on each row, weighed by how many nodes have them; None if no node has any."""
        if images not in self._sums:
            if len(self._sums) >= _KEPT_SUMS:
                self._sums.clear()
            self._sums[images] = self._sum(images)
        return self._sums[images]

    def _sum(self, images: Sequence[str]) -> NDArray[np.int64] | None:
        sums: NDArray[np.int64] | None = None
        for image in images:
            rows = self._rows.get(_normalized(image))
            if rows:
                if sums is None:
                    sums = np.zeros(self._capacity, np.int64)
                share = len(rows) / self._nodes
                sums[list(rows)] += [int(size * share) for size in rows.values()]
        return sums


def _normalized(image: str) -> str:
    """With the tag that is meant when none is given."""
    return image if image.rfind(":") > image.rfind("/") else f"{image}:latest"
