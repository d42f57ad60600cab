"""Reads of the most recent state are linearizable, whatever the watch of storage does, and share their quorum reads."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from controlplane.apiserver.storage.contract import Batch, Stored
from controlplane.apiserver.storage.memory import MemoryStorage
from controlplane.apiserver.testing import RunningServer, running_apiserver

MAPS = "/api/v1/namespaces/default/configmaps"
SLOW = "/registry/health"


class LaggingStorage(MemoryStorage):
    """Storage whose watch can be held back, and whose reads of the revision can be made to wait; counts those reads."""

    def __init__(self) -> None:
        super().__init__()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.readable = asyncio.Event()
        self.readable.set()
        self.reads = 0
        self.asked = asyncio.Event()

    async def watch(self, prefix: str, *, after: int) -> AsyncGenerator[Batch]:
        async with aclosing(super().watch(prefix, after=after)) as batches:
            async for batch in batches:
                await self.flowing.wait()
                yield batch

    async def get(self, key: str) -> tuple[Stored | None, int]:
        found = await super().get(key)
        if key == SLOW:
            self.reads += 1
            self.asked.set()
            await self.readable.wait()
        return found


@asynccontextmanager
async def lagging_server() -> AsyncIterator[tuple[LaggingStorage, aiohttp.ClientSession]]:
    storage = LaggingStorage()
    async with running_apiserver(storage=storage) as server, client_of(server) as client:
        yield storage, client
        storage.flowing.set()


@asynccontextmanager
async def client_of(server: RunningServer) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {server.token}"}
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=server.ca.decode()), limit=0)
    async with aiohttp.ClientSession(server.url, headers=headers, connector=connector) as client:
        yield client


async def told(client: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
    async with client.request(method, path, json=body) as response:
        assert response.status < 300, await response.text()
        return await response.json()


def numbered(n: int) -> dict[str, Any]:
    return {"metadata": {"name": "one"}, "data": {"n": str(n)}}


async def present(storage: LaggingStorage) -> Stored:
    stored, _ = await storage.get("/registry/configmaps/default/one")
    assert stored is not None
    return stored


async def written_behind_its_back(storage: LaggingStorage, n: int) -> None:
    """What a third server of the cluster does."""
    stored = await present(storage)
    await storage.put(stored.key, stored.value.replace(b'"%d"' % (n - 1), b'"%d"' % n), expected=stored.revision)


async def test_a_server_whose_watch_lags_answers_with_what_another_has_written() -> None:
    async with lagging_server() as (storage, reader):
        await told(reader, "POST", MAPS, numbered(0))
        assert (await told(reader, "GET", f"{MAPS}/one"))["data"] == {"n": "0"}
        storage.flowing.clear()
        for n in range(1, 4):
            await written_behind_its_back(storage, n)
            assert (await told(reader, "GET", f"{MAPS}/one"))["data"] == {"n": str(n)}
            listed = await told(reader, "GET", MAPS)
            assert [item["data"]["n"] for item in listed["items"] if item["metadata"]["name"] == "one"] == [str(n)]
            assert (await told(reader, "GET", f"{MAPS}/one?resourceVersion=0"))["data"] == {"n": "0"}
        changed = await told(reader, "PUT", f"{MAPS}/one", numbered(9))  # computed from a cache that is out of date
        assert changed["data"] == {"n": "9"}
        assert (await told(reader, "GET", f"{MAPS}/one"))["data"] == {"n": "9"}
        stored = await present(storage)
        await storage.delete(stored.key, expected=stored.revision)
        async with reader.get(f"{MAPS}/one") as response:
            assert response.status == 404
        storage.flowing.set()
        assert [item for item in (await told(reader, "GET", MAPS))["items"] if item["metadata"]["name"] == "one"] == []


@pytest.mark.parametrize("path", [f"{MAPS}/one", MAPS])
async def test_reads_that_wait_share_one_read_of_storage(path: str) -> None:
    storage = LaggingStorage()
    async with running_apiserver(storage=storage) as server, client_of(server) as client:
        await told(client, "POST", MAPS, numbered(0))
        storage.readable.clear()
        storage.asked.clear()
        first = asyncio.create_task(told(client, "GET", path))
        await storage.asked.wait()
        storage.reads = 0
        rest = [asyncio.create_task(told(client, "GET", path)) for _ in range(30)]
        await asyncio.wait(rest, timeout=0.5)  # none ends: the read under way began before they came
        storage.readable.set()
        await asyncio.gather(first, *rest)
        assert storage.reads == 1  # for thirty who came while another was under way
