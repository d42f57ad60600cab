"""An extender has its say in filtering, scoring and binding."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from scheduler_lab import add_node, api_client, placement, pod, reason, scheduling, seen

from machinery.api.catalogue import EVENTS_K8S_IO, PODS
from machinery.client.rest import Client


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with api_client() as client:
        for name in ("a", "b", "c"):
            await add_node(client, name)
        yield client


class Program:
    """The extender: it likes `c`, can't stand `b`, and binds pods itself."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.bound: list[str] = []
        self.allowed = {"a", "c"}
        self.refusals: list[str] = []

    async def filter(self, request: web.Request) -> web.Response:
        names = (await request.json())["nodenames"]
        failed = {name: "node(s) displeased the extender" for name in names if name not in self.allowed}
        return web.json_response({"nodenames": [n for n in names if n in self.allowed], "failedNodes": failed})

    async def prioritize(self, request: web.Request) -> web.Response:
        names = (await request.json())["nodenames"]
        return web.json_response([{"host": name, "score": 10 if name == "c" else 0} for name in names])

    async def bind(self, request: web.Request) -> web.Response:
        asked: Any = await request.json()
        if self.refusals:
            return web.json_response({"error": self.refusals.pop()})
        self.bound.append(asked["podName"])
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": asked["podName"], "namespace": asked["podNamespace"]},
            "target": {"kind": "Node", "name": asked["node"]},
        }
        await self._client.create_subresource(PODS, asked["podName"], "binding", body, asked["podNamespace"])
        return web.json_response({})


@asynccontextmanager
async def running(program: Program) -> AsyncIterator[dict[str, Any]]:
    """The program listening; yields how a configuration names it."""
    app = web.Application()
    for verb in ("filter", "prioritize", "bind"):
        app.router.add_post(f"/{verb}", getattr(program, verb))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        verbs = {"filterVerb": "filter", "prioritizeVerb": "prioritize", "bindVerb": "bind"}
        yield {"urlPrefix": url, "weight": 100, "nodeCacheCapable": True, **verbs}
    finally:
        await runner.cleanup()


async def test_filter_prioritize_and_bind(client: Client) -> None:
    program = Program(client)
    async with running(program) as extender, scheduling(client, extenders=[extender]):
        await client.create(PODS, pod("p"))
        await seen(client, PODS, lambda pods: placement(pods) == {"p": "c"})
        assert program.bound == ["p"]
        program.allowed = set()
        await client.create(PODS, pod("q"))
        pods = await seen(client, PODS, lambda pods: bool(reason(pods, "q")))
        assert reason(pods, "q").startswith("0/3 nodes are available: 3 node(s) displeased the extender.")


async def test_a_binding_that_fails_is_told_and_tried_again(client: Client) -> None:
    program = Program(client)
    program.refusals = ["not today"]
    async with running(program) as extender, scheduling(client, extenders=[extender]):
        await client.create(PODS, pod("p"))
        told = 'running Bind plugin "DefaultBinder": not today'

        def failed(events: list[Any]) -> bool:
            return any((event["reason"], event["note"]) == ("FailedScheduling", told) for event in events)

        await seen(client, EVENTS_K8S_IO, failed)
        await seen(client, PODS, lambda pods: placement(pods) == {"p": "c"})
        assert program.bound == ["p"]


async def test_one_that_is_not_there_stops_scheduling_unless_it_may_be_ignored(client: Client) -> None:
    gone = {"urlPrefix": "http://127.0.0.1:9", "filterVerb": "filter"}
    async with scheduling(client, extenders=[gone]):
        await client.create(PODS, pod("p"))
        pods = await seen(client, PODS, lambda pods: bool(reason(pods, "p")))
        assert 'Post "http://127.0.0.1:9/filter"' in reason(pods, "p")
    async with scheduling(client, extenders=[{**gone, "ignorable": True}]):
        await seen(client, PODS, lambda pods: bool(placement(pods)["p"]))
