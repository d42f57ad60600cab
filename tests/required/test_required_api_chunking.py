"""Lists in chunks, also of a revision that is no longer kept."""

from __future__ import annotations

import asyncio

import pytest
from cluster import Cluster, eventually, requirement
from connections import send

from machinery.api.catalogue import PODTEMPLATES
from machinery.api.meta import Object

pytest_plugins = ["cluster_fixture"]

_TOTAL = 400


async def _templates(cluster: Cluster) -> None:
    template = {"spec": {"containers": [{"name": "test", "image": "test2"}]}}

    async def make(number: int) -> None:
        await cluster.create(PODTEMPLATES, {"metadata": {"name": f"template-{number:04d}"}, "template": template})

    await asyncio.gather(*(make(number) for number in range(_TOTAL)))


async def _chunk(cluster: Cluster, limit: int, token: str = "") -> Object:
    query = {"limit": str(limit)} | ({"continue": token} if token else {})
    return await cluster.client.request("GET", PODTEMPLATES.path(cluster.namespace), query=query)


async def _rest(cluster: Cluster, chunk: Object, limit: int, found: int) -> None:
    """That a chunk and those that follow hold the rest of the templates in order, all of one revision."""
    revision = chunk["metadata"]["resourceVersion"]
    while True:
        assert chunk["metadata"]["resourceVersion"] == revision
        assert len(chunk["items"]) <= limit
        for item in chunk["items"]:
            assert item["metadata"]["name"] == f"template-{found:04d}"
            found += 1
        token = chunk["metadata"].get("continue", "")
        if not token:
            break
        assert chunk["metadata"]["remainingItemCount"] + found == _TOTAL
        chunk = await _chunk(cluster, limit, token)
    assert "remainingItemCount" not in chunk["metadata"]
    assert found == _TOTAL


@requirement(
    "[sig-api-machinery] Servers with support for API chunking should return chunks of results for list calls [Conformance]"
)
async def test_chunks(cluster: Cluster) -> None:
    await _templates(cluster)
    for limit in (17, 133, _TOTAL - 1, _TOTAL):
        await _rest(cluster, await _chunk(cluster, limit), limit, 0)
    assert len((await _chunk(cluster, _TOTAL + 1))["items"]) == _TOTAL


@requirement(
    "[sig-api-machinery] Servers with support for API chunking should support continue listing from the last key if the original version has been compacted away, though the list is inconsistent [Slow] [Conformance]"
)
@pytest.mark.timeout(720)
async def test_chunks_of_what_is_no_longer_kept(cluster: Cluster) -> None:
    await _templates(cluster)
    limit = _TOTAL // 10
    first = await _chunk(cluster, limit)
    assert first["metadata"]["remainingItemCount"] + len(first["items"]) == _TOTAL

    async def expired() -> str:
        query = {"limit": str(limit), "continue": first["metadata"]["continue"]}
        status, told = await send(cluster, "GET", PODTEMPLATES.path(cluster.namespace), query=query)
        if status == 200:
            await asyncio.sleep(2)
            return ""
        assert (status, told["reason"]) == (410, "Expired")
        return str(told["metadata"]["continue"])

    token = await eventually(expired, "the token has expired", 600)
    second = await _chunk(cluster, limit, token)
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    assert len(second["items"]) == limit
    await _rest(cluster, second, limit, limit)
