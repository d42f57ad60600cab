"""Compaction: who of several servers does it, and what it does to lists that are still being read."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any
from urllib.parse import quote

import aiohttp

from controlplane.apiserver.storage.compaction import compact_regularly
from controlplane.apiserver.storage.memory import MemoryStorage
from controlplane.apiserver.testing import running_apiserver
from machinery.testing.clock import FakeClock

MAPS = "/api/v1/namespaces/default/configmaps"


async def test_what_was_there_at_the_round_before_is_the_oldest_on_every_server() -> None:
    storage, clock = MemoryStorage(), FakeClock()
    told: list[list[int]] = [[], []]
    servers = [
        asyncio.create_task(compact_regularly(storage, "/registry/", 300.0, clock, dropped.append)) for dropped in told
    ]
    await clock.settle()
    for number in range(3):
        await storage.put(f"/registry/things/{number}", b"{}", expected=0)
        await clock.advance(300.0)
    for server in servers:
        server.cancel()
    await asyncio.gather(*servers, return_exceptions=True)
    _, revision, _ = await storage.list("/registry/")
    assert [len(dropped) for dropped in told] == [2, 2]
    assert all(0 < dropped[0] < dropped[1] < revision for dropped in told)


async def test_pages_expire_with_what_is_compacted_although_memory_still_has_them() -> None:
    async with running_apiserver() as server:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=server.ca.decode()))
        headers = {"Authorization": f"Bearer {server.token}"}
        async with aiohttp.ClientSession(server.url, headers=headers, connector=connector) as client:

            async def page(token: str = "") -> tuple[int, dict[str, Any]]:
                async with client.get(f"{MAPS}?limit=2&continue={quote(token)}") as answer:
                    return answer.status, await answer.json()

            for name in "abcde":
                async with client.post(MAPS, json={"metadata": {"name": name}}) as made:
                    assert made.status == 201
            _, first = await page()
            token = first["metadata"]["continue"]
            async with client.post(MAPS.replace("configmaps", "secrets"), json={"metadata": {"name": "s"}}) as made:
                revision = int((await made.json())["metadata"]["resourceVersion"])
            assert (await page(token))[1]["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]

            await server.server.cacher.storage.compact(revision)
            server.server.cacher.forget_before(revision)
            status, expired = await page(token)
            assert (status, expired["reason"]) == (410, "Expired")
            status, second = await page(expired["metadata"]["continue"])
            assert [item["metadata"]["name"] for item in second["items"]] == ["c", "d"]
            assert second["metadata"]["remainingItemCount"] == 1
            assert int(second["metadata"]["resourceVersion"]) >= revision
            async with client.get(f"{MAPS}?resourceVersion={revision - 1}&resourceVersionMatch=Exact") as answer:
                assert answer.status == 410
