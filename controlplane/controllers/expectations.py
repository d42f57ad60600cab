"""What a controller has written and not yet seen in its cache; until it has, it must not act on that cache again.

Raise an expectation before the write (the watch may be quicker than the answer), lower it when the write fails or the
informer shows its effect.  An expectation that is never met lapses after five minutes: a lost event must not stop a
controller for good.

Source: k8s.io/kubernetes/pkg/controller/controller_utils.go, "ControllerExpectations".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from machinery.clock import Clock

LAPSE_SECONDS = 300.0


@dataclass
class _Pending:
    creations: int = 0
    deletions: set[str] = field(default_factory=set)
    since: float = 0.0


class Expectations:
    """Writes under way, by the key of the object on whose behalf they are made."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pending: dict[str, _Pending] = {}

    def settled(self, key: str) -> bool:
        """Whether the cache shows all that was written for `key` (or the wait has lapsed)."""
        pending = self._pending.get(key)
        if pending is None or (pending.creations <= 0 and not pending.deletions):
            return True
        return self._clock.monotonic() - pending.since > LAPSE_SECONDS

    def expect(self, key: str, *, creations: int = 0, deletions: Iterable[str] = ()) -> None:
        """Before writing for `key`: so many objects will appear, and those with these uids will begin to go."""
        self._pending[key] = _Pending(creations, set(deletions), self._clock.monotonic())

    def created(self, key: str, count: int = 1) -> None:
        """An object made for `key` was seen, or will not come after all."""
        if pending := self._pending.get(key):
            pending.creations -= count

    def deleted(self, key: str, uid: str) -> None:
        """The object with `uid` was seen going, or will not go after all."""
        if pending := self._pending.get(key):
            pending.deletions.discard(uid)

    def forget(self, key: str) -> None:
        """The owner is gone."""
        self._pending.pop(key, None)
