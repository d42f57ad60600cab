"""Storage whose values are encrypted on their way in and decrypted on their way out.

Source: k8s.io/apiserver/pkg/server/options/encryptionconfig/controller (reload).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from controlplane.apiserver.encryption import configuration
from controlplane.apiserver.encryption.configuration import Encryption
from controlplane.apiserver.encryption.providers import Transformer, Undecipherable
from controlplane.apiserver.storage.contract import Batch, Change, Storage, Stored
from controlplane.apiserver.storage.keys import resource_of
from machinery.clock import Clock
from machinery.errors import SettingsError, StorageUnavailable
from machinery.log import get_logger

log = get_logger(__name__)

RELOAD_SECONDS = 60.0


class EncryptedStorage:
    """Fulfils the storage contract on another storage. Values that can't be read are told as empty."""

    def __init__(self, inner: Storage, encryption: Encryption, prefix: str = "/registry/") -> None:
        self._inner = inner
        self._prefix = prefix
        self.encryption = encryption
        """In force; may be replaced at any time."""

    @property
    def progress_requests(self) -> bool:
        """See the contract."""
        return self._inner.progress_requests

    def _transformer(self, key: str) -> Transformer | None:
        if not key.startswith(self._prefix):
            return None
        named = resource_of(key[len(self._prefix) :])
        return self.encryption.of(*named) if named is not None else None

    def _open(self, stored: Stored) -> Stored:
        transformer = self._transformer(stored.key)
        if transformer is None:
            return stored
        try:
            value, stale = transformer.open(stored.value, stored.key.encode())
        except Undecipherable as exc:
            log.error("value in storage can't be decrypted", key=stored.key, error=exc)
            return replace(stored, value=b"")
        return replace(stored, value=value, stale=stale)

    async def get(self, key: str) -> tuple[Stored | None, int]:
        """See the contract. A value that can't be decrypted is an error, not an absence."""
        stored, revision = await self._inner.get(key)
        if stored is None:
            return None, revision
        opened = self._open(stored)
        if stored.value and not opened.value:
            raise StorageUnavailable(f"unable to transform key {key!r}: no configured key decrypts it")
        return opened, revision

    async def list(
        self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0
    ) -> tuple[Sequence[Stored], int, bool]:
        """See the contract."""
        found, at, more = await self._inner.list(prefix, start=start, limit=limit, revision=revision)
        return [self._open(stored) for stored in found], at, more

    async def put(self, key: str, value: bytes, *, expected: int, ttl_seconds: int = 0) -> int:
        """See the contract."""
        transformer = self._transformer(key)
        if transformer is not None:
            value = transformer.seal(value, key.encode())
        return await self._inner.put(key, value, expected=expected, ttl_seconds=ttl_seconds)

    async def delete(self, key: str, *, expected: int) -> int:
        """See the contract."""
        return await self._inner.delete(key, expected=expected)

    async def watch(self, prefix: str, *, after: int) -> AsyncGenerator[Batch]:
        """See the contract."""
        async with aclosing(self._inner.watch(prefix, after=after)) as batches:
            async for batch in batches:
                yield replace(batch, changes=[self._open_change(change) for change in batch.changes])

    def _open_change(self, change: Change) -> Change:
        if change.value is None:
            return change
        opened = self._open(Stored(change.key, change.value, change.revision))
        return change if opened.value is change.value else replace(change, value=opened.value)

    async def compact(self, revision: int) -> None:
        """See the contract."""
        await self._inner.compact(revision)

    async def close(self) -> None:
        """See the contract."""
        await self._inner.close()


async def reload_regularly(storage: EncryptedStorage, path: str, clock: Clock) -> None:
    """Follow changes of the file until cancelled; a file that is wrong changes nothing."""
    last = _fingerprint(path)
    while True:
        await clock.sleep(RELOAD_SECONDS)
        now = _fingerprint(path)
        if now == last:
            continue
        last = now
        try:
            storage.encryption = configuration.load(path)
        except SettingsError as exc:
            log.error("encryption configuration not reloaded", error=exc)
        else:
            log.info("encryption configuration reloaded", path=path)


def _fingerprint(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""
