"""In which order an informer tells of what is there already."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from machinery.api.catalogue import CONFIGMAPS
from machinery.api.meta import name_of
from machinery.cache.informer import Informers
from machinery.client.config import ClientConfig
from machinery.client.rest import Client

VERSIONS = {"a": "9", "b": "100", "c": "20"}
ITEMS = [{"metadata": {"name": name, "namespace": "ns", "resourceVersion": v}} for name, v in VERSIONS.items()]
LIST = orjson.dumps(
    {"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "100"}, "items": ITEMS}
)


@pytest.mark.parametrize(("newest_first", "expected"), [(False, ["a", "b", "c"]), (True, ["b", "c", "a"])])
async def test_the_list_as_it_is_or_the_last_change_first(newest_first: bool, expected: list[str]) -> None:
    async def serve(request: web.Request) -> web.Response:
        return web.Response(body=b"" if "watch" in request.query else LIST, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    told: list[str] = []
    async with (
        TestServer(app) as server,
        Client(ClientConfig(server=str(server.make_url("")).rstrip("/")), user_agent="test") as client,
    ):
        informers = Informers(client, newest_first=newest_first)
        informers.of(CONFIGMAPS).on_change(lambda old, new: told.append(name_of(new or {})))
        async with informers:
            await asyncio.wait_for(informers.synced(), 10)
    assert told == expected
