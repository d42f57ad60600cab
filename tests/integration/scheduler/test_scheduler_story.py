"""Pods find their nodes, on a real API server: bound, reported when they can't be, and important ones make room."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from controlplane.apiserver.testing import running_apiserver
from controlplane.scheduler.flags import Options, defaults
from controlplane.scheduler.program import schedule
from machinery.api import meta
from machinery.api.catalogue import EVENTS, NODES, PODS, PRIORITYCLASSES
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.client.config import ClientConfig
from machinery.client.rest import Client


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with (
        running_apiserver() as server,
        Client(ClientConfig(server.url, ca_data=server.ca, token=server.token), user_agent="test") as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def scheduling(client: Client) -> AsyncIterator[None]:
    task = asyncio.create_task(schedule(client, Options({}, replace(defaults(), initial_backoff_seconds=0.05))))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def seen(client: Client, kind: ResourceType, until: Callable[[list[Object]], bool]) -> list[Object]:
    """Wait until the objects of a type fulfil a condition."""
    async with asyncio.timeout(20):
        while True:
            found = await client.list(kind)
            if until(found.items):
                return found.items
            async for _ in client.watch(kind, resource_version=found.resource_version, timeout_seconds=20):
                break


async def add_node(client: Client, name: str, cpu: str = "2", **spec: Any) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}
    await client.create(NODES, node)
    status = {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "10"}, "capacity": {"cpu": cpu}}
    await client.patch(NODES, name, {"status": status}, subresource="status")


def pod(name: str, cpu: str = "500m", **spec: Any) -> Object:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [container], **spec},
    }


def placement(pods: list[Object]) -> dict[str, str]:
    return {meta.name_of(p): p["spec"].get("nodeName", "") for p in pods}


async def test_pods_are_bound_evenly_and_the_event_says_so(client: Client) -> None:
    for name in ("a", "b"):
        await add_node(client, name)
    async with scheduling(client):
        for i in range(4):
            await client.create(PODS, pod(f"p{i}"))
        pods = await seen(client, PODS, lambda pods: len(pods) == 4 and all(p["spec"].get("nodeName") for p in pods))
        assert sorted(placement(pods).values()) == ["a", "a", "b", "b"]
        scheduled = meta.condition(pods[0]["status"]["conditions"], "PodScheduled")
        assert scheduled is not None
        assert scheduled["status"] == "True"
        events = await seen(client, EVENTS, lambda events: len(events) == 4)
        assert {e["reason"] for e in events} == {"Scheduled"}
        assert events[0]["message"].startswith("Successfully assigned default/p0 to ")


async def test_a_pod_that_fits_nowhere_says_why_and_goes_when_a_node_comes(client: Client) -> None:
    await add_node(client, "small", cpu="100m")
    async with scheduling(client):
        await client.create(PODS, pod("p"))
        pods = await seen(client, PODS, lambda pods: bool(pods[0].get("status", {}).get("conditions")))
        condition = meta.condition(pods[0]["status"]["conditions"], "PodScheduled")
        assert condition is not None
        assert condition["reason"] == "Unschedulable"
        assert condition["message"].startswith("0/1 nodes are available: 1 Insufficient cpu.")
        await add_node(client, "large")
        pods = await seen(client, PODS, lambda pods: bool(pods[0]["spec"].get("nodeName")))
        assert placement(pods) == {"p": "large"}


async def test_an_important_pod_makes_room_for_itself(client: Client) -> None:
    await add_node(client, "only", cpu="1")
    urgent = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "urgent"},
        "value": 100,
    }
    await client.create(PRIORITYCLASSES, urgent)
    async with scheduling(client):
        await client.create(PODS, pod("low", cpu="1"))
        await seen(client, PODS, lambda pods: bool(pods[0]["spec"].get("nodeName")))
        await client.create(PODS, pod("high", cpu="1", priority=100, priorityClassName="urgent"))
        pods = await seen(
            client,
            PODS,
            lambda pods: any(meta.name_of(p) == "low" and meta.is_deleting(p) for p in pods),
        )
        high = next(p for p in pods if meta.name_of(p) == "high")
        assert high["status"].get("nominatedNodeName") == "only"
        await client.delete(PODS, "low", "default", grace_seconds=0)  # what its kubelet would do
        pods = await seen(
            client, PODS, lambda pods: any(p["spec"].get("nodeName") for p in pods if meta.name_of(p) == "high")
        )
        assert placement(pods) == {"high": "only"}
