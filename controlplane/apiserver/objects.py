"""Objects in storage: read consistently, changed optimistically.

A change is computed from what memory holds, and tried; if memory was out of date, storage is asked and the change is
computed anew.  A refusal that was computed from memory is not believed before storage has confirmed the state.

Source: k8s.io/apiserver/pkg/storage/etcd3 (GuaranteedUpdate).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson

from controlplane.apiserver import envelope
from controlplane.apiserver.cacher.cacher import Cacher
from controlplane.apiserver.cacher.collection import Collection
from controlplane.apiserver.cacher.record import Record
from machinery.api.meta import Object
from machinery.errors import RevisionConflict, StatusError


@dataclass(frozen=True, slots=True)
class Remove:
    """What a change says when the object is to go instead of being written; `last` is what the writer is told."""

    last: Object


Change = Callable[[Record | None], Awaitable["Object | Remove"]]
"""From the present state (None: absent) to the new one. May be called several times; raises a StatusError to refuse."""


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of a change."""

    record: Record
    created: bool = False
    removed: bool = False
    revision: int = 0
    """Of the removal, if there was one."""


class Objects:
    """The objects of all collections."""

    def __init__(self, cacher: Cacher) -> None:
        self.cacher = cacher

    def collection(self, prefix: str) -> Collection:
        """What memory holds under a prefix."""
        return self.cacher.collection(prefix)

    async def latest(self, prefix: str, key: str) -> Record | None:
        """The object as storage has it now."""
        stored, _ = await self.cacher.storage.get(f"{self.cacher.prefix}{prefix}{key}")
        return self.cacher.record(key, stored.value, stored.revision) if stored is not None else None

    async def fresh(self, prefix: str, key: str) -> Record | None:
        """The object as of now: from memory once that is up to date, from storage if that takes too long."""
        if await self.cacher.fresh():
            return self.cacher.collection(prefix).records.get(key)
        return await self.latest(prefix, key)

    async def create(
        self, prefix: str, key: str, obj: Object, *, ttl_seconds: int = 0, dry_run: bool = False
    ) -> Record | None:
        """Write a new object; None if there is one already."""
        value = envelope.encode(obj)
        if dry_run:
            if await self.latest(prefix, key) is not None:
                return None
            return Record(key, value, 0)
        try:
            revision = await self.cacher.storage.put(
                f"{self.cacher.prefix}{prefix}{key}", value, expected=0, ttl_seconds=ttl_seconds
            )
        except RevisionConflict:
            return None
        return Record(key, envelope.with_revision(value, revision), revision)

    async def change(
        self, prefix: str, key: str, change: Change, *, ttl_seconds: int = 0, dry_run: bool = False
    ) -> Written:
        """Change (or create, or remove) an object.

        Raises:
            StatusError: what `change` raised, of the state that storage confirmed.
        """
        current = self.cacher.collection(prefix).records.get(key)
        confirmed = False
        while True:
            try:
                made = await change(current)
            except StatusError:
                if confirmed:
                    raise
                latest = await self.latest(prefix, key)
                confirmed = True
                if _same(latest, current):
                    raise
                current = latest
                continue
            written = await self._write(prefix, key, current, made, ttl_seconds, dry_run, confirmed)
            if written is not None:
                return written
            current = await self.latest(prefix, key)
            confirmed = True

    async def _write(
        self,
        prefix: str,
        key: str,
        current: Record | None,
        made: Object | Remove,
        ttl_seconds: int,
        dry_run: bool,
        confirmed: bool,
    ) -> Written | None:
        """None: the state was another one."""
        storage, path = self.cacher.storage, f"{self.cacher.prefix}{prefix}{key}"
        expected = current.revision if current is not None else 0
        if isinstance(made, Remove):
            last = Record(key, envelope.with_revision(envelope.encode(made.last), expected), expected)
            revision = expected
            if not dry_run:
                try:
                    revision = await storage.delete(path, expected=expected)
                except RevisionConflict:
                    return None
            return Written(last, removed=True, revision=revision)
        value = envelope.encode(made)
        final = envelope.with_revision(value, expected) if current is not None else value
        if current is not None and _unchanged(final, current):
            stored, _ = await storage.get(path)
            if (stored.revision if stored is not None else 0) != current.revision:
                return None
            if stored is None or not stored.stale or dry_run:  # else it is written anew, with the present key
                return Written(current)
        if dry_run:
            if not confirmed and not _same(await self.latest(prefix, key), current):
                return None
            return Written(Record(key, final, expected), created=current is None)
        try:
            revision = await storage.put(path, value, expected=expected, ttl_seconds=ttl_seconds)
        except RevisionConflict:
            return None
        return Written(Record(key, envelope.with_revision(value, revision), revision), created=current is None)

    async def remove(self, prefix: str, record: Record) -> int | None:
        """Delete an object at its revision; the deletion's revision, or None if the state was another one."""
        path = f"{self.cacher.prefix}{prefix}{record.key}"
        try:
            return await self.cacher.storage.delete(path, expected=record.revision)
        except RevisionConflict:
            return None


def _unchanged(value: bytes, current: Record) -> bool:
    """Whether a value says the same as the record, if perhaps in another order of keys."""
    if value == current.value:
        return True
    return len(value) == len(current.value) and bool(orjson.loads(value) == current.object)


def _same(one: Record | None, other: Record | None) -> bool:
    return (one.revision if one is not None else 0) == (other.revision if other is not None else 0)
