"""What selectors select of a collection, remembered: the same ones are asked for again, and few objects change."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from controlplane.apiserver.cacher.record import DELETED, Event, Record
from machinery.errors import Expired

if TYPE_CHECKING:
    from controlplane.apiserver.cacher.collection import Collection

Test = Callable[[Record], bool]

_MOST = 32  # selectors remembered for each collection; the one not asked for longest goes first


class Selectors:
    """The selectors of one collection that were asked for lately. What is remembered is brought up to date on use."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._by_text: dict[str, _Selected] = {}

    def keys(self, text: str, owner: object, test: Test) -> Sequence[str]:
        """The keys of all objects that pass the test, in order; not to be changed.

        Equal texts of the same owner mean equal tests.
        """
        found = self._by_text.pop(text, None)
        if found is None or found.owner is not owner:
            found = _Selected(owner, test)
            if len(self._by_text) >= _MOST:
                del self._by_text[next(iter(self._by_text))]
        self._by_text[text] = found
        found.refresh(self._collection)
        return found.keys

    def clear(self) -> None:
        """Forget all."""
        self._by_text.clear()


class _Selected:
    """The keys of one selector, as of a revision."""

    __slots__ = ("_members", "_revision", "_test", "keys", "owner")

    def __init__(self, owner: object, test: Test) -> None:
        self.owner = owner
        self.keys: list[str] = []
        self._test = test
        self._members: set[str] = set()
        self._revision = -1

    def refresh(self, collection: Collection) -> None:
        """Take in what has happened since."""
        if self._revision == collection.changed:
            return
        try:
            events = collection.since(self._revision)
        except Expired:
            self._begin(collection)
        else:
            if len(events) > len(collection.records):
                self._begin(collection)
            else:
                for event in events:
                    self._take(event)
        self._revision = collection.changed

    def _begin(self, collection: Collection) -> None:
        test = self._test
        self.keys = [record.key for record in collection.list() if test(record)]
        self._members = set(self.keys)

    def _take(self, event: Event) -> None:
        key = event.record.key
        selected = event.kind != DELETED and self._test(event.record)
        if selected is (key in self._members):
            return
        if selected:
            self._members.add(key)
            insort(self.keys, key)
        else:
            self._members.discard(key)
            del self.keys[bisect_left(self.keys, key)]
