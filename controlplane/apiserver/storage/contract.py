"""The contract of storage: five methods, and two to keep house.

etcd fulfils it for clusters, an embedded store for `navarch dev` and tests.

Keys are paths (`/registry/pods/default/web`), values are bytes.  A *revision* is one number for the whole store that
grows by each write; every key has the revision of its last write.  Every implementation passes
`tests/conformance/apiserver/test_apiserver_storage.py`.

Source: etcd API, "Revisions", "Transaction", "Watch".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stored:
    """A key with its value and the revision at which it was written."""

    key: str
    value: bytes
    revision: int
    stale: bool = False
    """The same value would be stored in another form now: with another key."""


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch. For a deletion `value` is None and `revision` is the deletion's."""

    key: str
    value: bytes | None
    revision: int
    created: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What a watch yields: changes in the order of revisions, complete up to `revision` (which may be beyond them)."""

    changes: Sequence[Change]
    revision: int


class Storage(Protocol):
    """A revisioned, watchable map. Methods raise StorageUnavailable when no answer could be had."""

    @property
    def progress_requests(self) -> bool:
        """Whether a watcher of this storage could ask for progress, which clients of upstream's servers notice."""
        ...

    async def get(self, key: str) -> tuple[Stored | None, int]:
        """The key (None if absent) and the store's revision, by a linearizable read."""
        ...

    async def list(
        self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0
    ) -> tuple[Sequence[Stored], int, bool]:
        """Keys under `prefix` from `start` on, in order; the revision they are of; whether there are more.

        `revision` 0 is now (linearizable); another revision gives the past, or raises RevisionCompacted.
        """
        ...

    async def put(self, key: str, value: bytes, *, expected: int, ttl_seconds: int = 0) -> int:
        """Write if the key is at revision `expected` (0: must not exist); returns the new revision.

        Raises RevisionConflict. With `ttl_seconds` the key goes by itself after that time (Events).
        """
        ...

    async def delete(self, key: str, *, expected: int) -> int:
        """Delete if the key is at revision `expected`; returns the deletion's revision. Raises RevisionConflict."""
        ...

    def watch(self, prefix: str, *, after: int) -> AsyncGenerator[Batch]:
        """Every change under `prefix` with a revision greater than `after`, none twice, none left out.

        Survives reconnection by itself. Empty batches tell progress. Raises RevisionCompacted.
        """
        ...

    async def compact(self, revision: int) -> None:
        """Forget what was before `revision`; reads and watches that need it raise RevisionCompacted from then on."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
