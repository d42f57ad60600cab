"""What the SQLite file keeps from one process to the next. (What all storage does: tests/conformance.)"""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from controlplane.apiserver.storage.sqlite import open_storage
from machinery.errors import RevisionCompacted, SettingsError, StorageUnavailable

WRITER = """
import asyncio, sys
from pathlib import Path
from controlplane.apiserver.storage.sqlite import open_storage

async def main():
    storage = open_storage(Path(sys.argv[1]))
    for number in range(1, 1_000_000):
        slot = number % 50
        value = str(number).encode() * 100
        known[slot] = await storage.put(f"/registry/{slot:03}", value, expected=known.get(slot, 0))
        print(number, known[slot], flush=True)

known = {}
asyncio.run(main())
"""


async def test_objects_and_revision_outlive_the_process(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "store.db")
    first = await storage.put("/registry/a", b"one", expected=0)
    second = await storage.put("/registry/b", b"two", expected=0)
    third = await storage.put("/registry/a", b"three", expected=first)
    fourth = await storage.delete("/registry/b", expected=second)
    await storage.close()
    storage = open_storage(tmp_path / "store.db")
    found, revision, _ = await storage.list("/registry/")
    assert [(s.key, s.value, s.revision) for s in found] == [("/registry/a", b"three", third)]
    assert revision == fourth
    assert await storage.put("/registry/a", b"four", expected=third) > fourth
    with pytest.raises(RevisionCompacted):  # the history is gone: nobody is told half of it
        async with aclosing(storage.watch("/registry/", after=third)) as batches:
            await anext(batches)
    await storage.close()


async def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, path, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(200)]
    process.kill()
    lines += (await process.stdout.read()).splitlines(keepends=True)
    await process.wait()
    pairs = [line.split() for line in lines if line.endswith(b"\n")]
    told = {int(number) % 50: (int(number), int(at)) for number, at in pairs}
    storage = open_storage(path)
    found, _, _ = await storage.list("/registry/")
    kept = {int(s.key[-3:]): (int(s.value[: len(s.value) // 100]), s.revision) for s in found}
    assert kept.keys() == told.keys()
    later = [slot for slot in told if kept[slot] != told[slot]]
    assert len(later) <= 1  # one more write may have been kept before its acknowledgement was read
    assert all(kept[slot] > told[slot] for slot in later)
    await storage.close()


async def test_what_was_to_expire_does_so_after_a_restart(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "store.db")
    await storage.put("/registry/soon", b"x", expected=0, ttl_seconds=1)
    written = await storage.put("/registry/kept", b"x", expected=0, ttl_seconds=3600)
    await storage.close()
    storage = open_storage(tmp_path / "store.db")
    async with aclosing(storage.watch("/registry/", after=written)) as batches:
        batch = await anext(batches)
    assert [(change.key, change.value) for change in batch.changes] == [("/registry/soon", None)]
    await storage.close()
    storage = open_storage(tmp_path / "store.db")
    assert [s.key for s in (await storage.list("/registry/"))[0]] == ["/registry/kept"]
    await storage.close()


async def test_one_at_a_time(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "store.db")
    with pytest.raises(SettingsError, match="in use by another process"):
        open_storage(tmp_path / "store.db")
    await storage.close()


async def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "store.db")
    await storage.put("/registry/a", b"secret", expected=0)
    assert {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir() if path.stat().st_mode & 0o077} == {}
    await storage.close()


async def test_a_write_that_can_not_be_kept_does_not_happen(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "store.db")
    first = await storage.put("/registry/a", b"one", expected=0)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most))  # no file may grow beyond this: as on a full disk
    try:
        with pytest.raises(StorageUnavailable):
            await storage.put("/registry/a", b"x" * 1_000_000, expected=first)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    stored, revision = await storage.get("/registry/a")
    assert stored is not None
    assert (stored.value, revision) == (b"one", first)
    assert await storage.put("/registry/a", b"two", expected=first) == first + 1
    await storage.close()


def test_files_of_others_are_refused_and_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    db = sqlite3.connect(foreign)
    db.execute("CREATE TABLE songs (title TEXT)")
    db.close()
    before = foreign.read_bytes()
    with pytest.raises(SettingsError, match="a database of another program"):
        open_storage(foreign)
    assert foreign.read_bytes() == before
    text = tmp_path / "text.db"
    text.write_bytes(b"not a database at all, but long enough to look like one" * 50)
    with pytest.raises(SettingsError, match="not a store of Navarch's"):
        open_storage(text)
    with pytest.raises(SettingsError, match="Is a directory"):
        open_storage(tmp_path)
    with pytest.raises(SettingsError, match="No such file or directory"):
        open_storage(tmp_path / "none" / "store.db")
