"""What every storage must do, run against each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from uuid import uuid4

import pytest

from controlplane.apiserver.storage.contract import Change, Storage
from controlplane.apiserver.storage.etcd.storage import EtcdStorage
from controlplane.apiserver.storage.memory import MemoryStorage
from controlplane.apiserver.storage.sqlite import open_storage
from machinery.errors import RevisionCompacted, RevisionConflict
from machinery.testing.etcd import running_etcd


@pytest.fixture(params=["memory", "sqlite", "etcd"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    if request.param != "etcd":
        embedded = MemoryStorage() if request.param == "memory" else open_storage(tmp_path / "store.db")
        yield embedded
        await embedded.close()
        return
    async with running_etcd() as members:
        etcd = EtcdStorage([members[0].url])
        yield etcd
        await etcd.close()


@pytest.fixture
def prefix() -> str:
    return f"/registry/{uuid4().hex}/"


async def changes(storage: Storage, prefix: str, after: int, count: int) -> list[Change]:
    """The first `count` changes of a watch."""
    found: list[Change] = []
    async with asyncio.timeout(10), aclosing(storage.watch(prefix, after=after)) as batches:
        async for batch in batches:
            found.extend(batch.changes)
            assert all(change.revision <= batch.revision for change in batch.changes)
            if len(found) >= count:
                return found
    raise AssertionError("the watch ended")


async def test_a_key_is_created_read_changed_and_deleted(storage: Storage, prefix: str) -> None:
    absent, before = await storage.get(prefix + "a")
    assert absent is None
    first = await storage.put(prefix + "a", b"one", expected=0)
    assert first > before
    stored, revision = await storage.get(prefix + "a")
    assert stored is not None
    assert (stored.key, stored.value, stored.revision) == (prefix + "a", b"one", first)
    assert revision >= first
    second = await storage.put(prefix + "a", b"two", expected=first)
    third = await storage.delete(prefix + "a", expected=second)
    assert first < second < third
    assert (await storage.get(prefix + "a"))[0] is None


async def test_writes_hold_only_at_the_expected_revision(storage: Storage, prefix: str) -> None:
    first = await storage.put(prefix + "a", b"one", expected=0)
    attempts: list[Callable[[], Awaitable[int]]] = [
        lambda: storage.put(prefix + "a", b"again", expected=0),
        lambda: storage.put(prefix + "a", b"again", expected=first + 1),
        lambda: storage.put(prefix + "b", b"again", expected=first),
        lambda: storage.delete(prefix + "a", expected=first + 1),
        lambda: storage.delete(prefix + "a", expected=0),
        lambda: storage.delete(prefix + "b", expected=first),
    ]
    for attempt in attempts:
        with pytest.raises(RevisionConflict):
            await attempt()
    stored, _ = await storage.get(prefix + "a")
    assert stored is not None
    assert stored.value == b"one"


async def test_one_of_many_writers_wins(storage: Storage, prefix: str) -> None:
    async def write(i: int) -> int:
        try:
            return await storage.put(prefix + "a", str(i).encode(), expected=0)
        except RevisionConflict:
            return 0

    revisions = await asyncio.gather(*(write(i) for i in range(20)))
    winners = [i for i, revision in enumerate(revisions) if revision]
    assert len(winners) == 1
    stored, _ = await storage.get(prefix + "a")
    assert stored is not None
    assert stored.value == str(winners[0]).encode()


async def test_a_list_is_in_order_and_in_pages(storage: Storage, prefix: str) -> None:
    for name in ("b/2", "a/1", "b-x/1", "c", "b/1"):
        await storage.put(prefix + name, name.encode(), expected=0)
    await storage.put(prefix[:-1] + "0", b"not under the prefix", expected=0)
    everything, revision, more = await storage.list(prefix)
    names = ["a/1", "b-x/1", "b/1", "b/2", "c"]
    assert [s.key for s in everything] == [prefix + name for name in names]
    assert not more
    page, again, more = await storage.list(prefix, limit=2)
    assert ([s.value.decode() for s in page], again >= revision, more) == (names[:2], True, True)
    page, _, more = await storage.list(prefix, start=page[-1].key + "\0", limit=3)
    assert ([s.value.decode() for s in page], more) == (names[2:], False)
    assert [s.value for s in (await storage.list(prefix + "b/"))[0]] == [b"b/1", b"b/2"]


async def test_a_long_list_is_complete(storage: Storage, prefix: str) -> None:
    names = [f"{i:05}" for i in range(2_500)]
    for at in range(0, len(names), 100):
        await asyncio.gather(*(storage.put(prefix + name, b"x", expected=0) for name in names[at : at + 100]))
    found, _, more = await storage.list(prefix)
    assert [s.key for s in found] == [prefix + name for name in names]
    assert not more


async def test_the_past_can_be_listed_until_it_is_compacted(storage: Storage, prefix: str) -> None:
    first = await storage.put(prefix + "a", b"one", expected=0)
    second = await storage.put(prefix + "b", b"two", expected=0)
    third = await storage.put(prefix + "a", b"three", expected=first)
    fourth = await storage.delete(prefix + "b", expected=second)

    async def at(revision: int) -> dict[str, bytes]:
        found, told, _ = await storage.list(prefix, revision=revision)
        assert told == revision
        return {s.key.removeprefix(prefix): s.value for s in found}

    assert await at(first) == {"a": b"one"}
    assert await at(second) == {"a": b"one", "b": b"two"}
    assert await at(third) == {"a": b"three", "b": b"two"}
    assert await at(fourth) == {"a": b"three"}
    found, _, _ = await storage.list(prefix, revision=second)
    assert [s.revision for s in found] == [first, second]
    await storage.compact(third)
    assert await at(third) == {"a": b"three", "b": b"two"}
    with pytest.raises(RevisionCompacted):
        await storage.list(prefix, revision=second)
    await storage.compact(second)  # compacting again, or less, does no harm


async def test_a_watch_tells_every_change_once_in_order(storage: Storage, prefix: str) -> None:
    start = (await storage.get(prefix))[1]
    first = await storage.put(prefix + "a", b"one", expected=0)
    watching = asyncio.create_task(changes(storage, prefix, start, 4))
    second = await storage.put(prefix + "a", b"two", expected=first)
    await storage.put(prefix[:-1] + "0", b"elsewhere", expected=0)
    third = await storage.delete(prefix + "a", expected=second)
    fourth = await storage.put(prefix + "a", b"three", expected=0)
    assert await watching == [
        Change(prefix + "a", b"one", first, created=True),
        Change(prefix + "a", b"two", second),
        Change(prefix + "a", None, third),
        Change(prefix + "a", b"three", fourth, created=True),
    ]
    assert [c.revision for c in await changes(storage, prefix, second, 2)] == [third, fourth]


async def test_a_watch_follows_many_writers(storage: Storage, prefix: str) -> None:
    start = (await storage.get(prefix))[1]
    watching = asyncio.create_task(changes(storage, prefix, start, 200))
    written = await asyncio.gather(*(storage.put(f"{prefix}{i}", b"x", expected=0) for i in range(200)))
    assert [change.revision for change in await watching] == sorted(written)


async def test_a_watch_of_the_compacted_past_is_refused(storage: Storage, prefix: str) -> None:
    first = await storage.put(prefix + "a", b"one", expected=0)
    second = await storage.put(prefix + "a", b"two", expected=first)
    third = await storage.put(prefix + "a", b"three", expected=second)
    await storage.compact(third)
    with pytest.raises(RevisionCompacted):
        await changes(storage, prefix, first - 1, 1)
    assert [c.revision for c in await changes(storage, prefix, second, 1)] == [third]


async def test_progress_is_told_without_changes(storage: Storage, prefix: str) -> None:
    start = (await storage.get(prefix))[1]
    written = await storage.put(prefix[:-1] + "0", b"elsewhere", expected=0)
    async with asyncio.timeout(10), aclosing(storage.watch(prefix, after=start)) as batches:
        async for batch in batches:
            assert not batch.changes
            if batch.revision >= written:
                return


async def test_a_key_with_a_ttl_goes_by_itself(storage: Storage, prefix: str) -> None:
    first = await storage.put(prefix + "a", b"soon gone", expected=0, ttl_seconds=1)
    kept = await storage.put(prefix + "b", b"first soon gone, then kept", expected=0, ttl_seconds=1)
    kept = await storage.put(prefix + "b", b"kept", expected=kept)
    found = await changes(storage, prefix, first - 1, 4)
    assert [(c.key.removeprefix(prefix), c.value is None) for c in found] == [
        ("a", False),
        ("b", False),
        ("b", False),
        ("a", True),
    ]
    assert (await storage.get(prefix + "b"))[0] is not None
