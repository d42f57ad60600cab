"""Long bodies that are never put together in one place: made and sent piece by piece, each while it is in the caches.

Joining a list of 3 MB before it is encrypted costs as much as encrypting it, for it goes through main memory twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_PIECE_BYTES = 1 << 16


class Joined:
    """`head`, the items without their first `skip` bytes between separators, `tail`."""

    __slots__ = ("_head", "_items", "_separator", "_size", "_skip", "_tail")

    def __init__(self, head: bytes, items: Sequence[bytes], separator: bytes, tail: bytes, skip: int = 0) -> None:
        self._head, self._items, self._separator, self._tail, self._skip = head, items, separator, tail, skip
        between = len(separator) * (len(items) - 1) - skip * len(items) if items else 0
        self._size = len(head) + sum(map(len, items)) + between + len(tail)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        """The body in pieces."""
        items, separator, skip = self._items, self._separator, self._skip
        count = len(items)
        if not count:
            yield self._head + self._tail
            return
        step = max(1, _PIECE_BYTES * count // self._size)
        lead = self._head
        for start in range(0, count, step):
            taken = items[start : start + step]
            if skip:
                taken = [item[skip:] for item in taken]
            yield lead + separator.join(taken)
            lead = separator
        yield self._tail

    def __bytes__(self) -> bytes:
        return b"".join(self)
