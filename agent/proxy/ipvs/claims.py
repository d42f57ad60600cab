"""What several service ports may want together: a thing is there for as long as one of them wants it."""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Mapping
from typing import Generic, TypeVar

from agent.proxy.model import ServicePortName

K = TypeVar("K")
V = TypeVar("V")


class Mark(Generic[K, V]):
    """What has changed since the mark was set."""

    def __init__(self, claims: Claims[K, V]) -> None:
        self._claims = claims
        self._before: dict[K, V | None] = {}
        self._was_there: dict[K, bool] = {}

    def note(self, key: K) -> None:
        """This one is about to change."""
        if key not in self._was_there:
            self._was_there[key] = key in self._claims.wanted
            self._before[key] = self._claims.get(key)

    def before(self, key: K) -> V | None:
        """What it was."""
        return self._before.get(key)

    def touched(self) -> Iterator[K]:
        """Those that are not as they were."""
        for key, before in self._before.items():
            if self._was_there[key] != (key in self._claims.wanted) or before != self._claims.get(key):
                yield key

    def difference(self) -> tuple[set[K], set[K]]:
        """Those that are new, and those that are gone."""
        there = self._claims.wanted
        added = {key for key, was in self._was_there.items() if not was and key in there}
        return added, {key for key, was in self._was_there.items() if was and key not in there}


class Claims(Generic[K, V]):
    """Key -> value, of the first claimant by name."""

    def __init__(self) -> None:
        self._claims: dict[K, dict[ServicePortName, V]] = {}
        self._mark: Mark[K, V] | None = None

    @property
    def wanted(self) -> KeysView[K]:
        """Everything that somebody wants."""
        return self._claims.keys()

    def get(self, key: K) -> V | None:
        """What it should be."""
        claims = self._claims.get(key)
        return claims[min(claims)] if claims else None

    def mark(self) -> Mark[K, V]:
        """Begin to take notice of changes, in place of any earlier mark."""
        self._mark = Mark(self)
        return self._mark

    def change(self, name: ServicePortName, was: Mapping[K, V], now: Mapping[K, V]) -> None:
        """One service port wants other things than it did."""
        for key in was.keys() | now.keys():
            if self._mark is not None:
                self._mark.note(key)
            if key in now:
                self._claims.setdefault(key, {})[name] = now[key]
                continue
            claims = self._claims.get(key, {})
            claims.pop(name, None)
            if not claims:
                self._claims.pop(key, None)
