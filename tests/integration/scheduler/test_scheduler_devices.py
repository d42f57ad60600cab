"""Pods with devices: what the scheduler writes before it binds them."""

from collections.abc import AsyncIterator

import pytest
from devices_lab import device_class, devices, resource_claim, using
from scheduler_lab import add_node, api_client, placement, pod, reason, scheduling, seen

from machinery.api import meta
from machinery.api.catalogue import PODS, RESOURCECLAIMS
from machinery.api.meta import Object
from machinery.client.rest import Client


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with api_client() as client:
        for name in ("a", "b"):
            await add_node(client, name)
        yield client


async def test_a_device_is_allocated_and_reserved_before_the_pod_is_bound(client: Client) -> None:
    await device_class(client)
    await devices(client, "b", "big1", "small1")
    expression = 'device.attributes["gpu.example.com"].model == "big"'
    chosen = {"selectors": [{"cel": {"expression": expression}}]}
    async with scheduling(client):
        await resource_claim(client, "one", **chosen)
        await client.create(PODS, using("p", "one"))
        pods = await seen(client, PODS, lambda pods: placement(pods) == {"p": "b"})
        status = (await client.get(RESOURCECLAIMS, "one", "default"))["status"]
        assert status["reservedFor"] == [{"resource": "pods", "name": "p", "uid": meta.uid_of(pods[0])}]
        result = {"request": "r", "driver": "gpu.example.com", "pool": "b", "device": "big1"}
        assert status["allocation"]["devices"]["results"] == [result]
        field = {"key": "metadata.name", "operator": "In", "values": ["b"]}
        assert status["allocation"]["nodeSelector"] == {"nodeSelectorTerms": [{"matchFields": [field]}]}
        held = (await client.get(RESOURCECLAIMS, "one", "default"))["metadata"]["finalizers"]
        assert "resource.kubernetes.io/delete-protection" in held
        await resource_claim(client, "two", **chosen)
        await client.create(PODS, using("q", "two"))
        pods = await seen(client, PODS, lambda pods: bool(reason(pods, "q")))
        assert reason(pods, "q").startswith("0/2 nodes are available: 2 cannot allocate all claims.")
        await devices(client, "a", "big2")
        await seen(client, PODS, lambda pods: placement(pods) == {"p": "b", "q": "a"})


async def test_the_node_with_the_better_alternative_is_chosen(client: Client) -> None:
    await device_class(client)
    await devices(client, "a", "small1")
    await devices(client, "b", "big1")

    def model(name: str) -> Object:
        expression = f'device.attributes["gpu.example.com"].model == "{name}"'
        return {"name": name, "deviceClassName": "gpu", "selectors": [{"cel": {"expression": expression}}]}

    async with scheduling(client):
        for number, first in enumerate(("big", "small"), 1):
            last = "small" if first == "big" else "big"
            body = {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceClaim",
                "metadata": {"name": f"c{number}", "namespace": "default"},
                "spec": {"devices": {"requests": [{"name": "r", "firstAvailable": [model(first), model(last)]}]}},
            }
            await client.create(RESOURCECLAIMS, body)
            await client.create(PODS, using(f"p{number}", f"c{number}"))
        await seen(client, PODS, lambda pods: placement(pods) == {"p1": "b", "p2": "a"})


async def test_a_pod_waits_for_its_claim_without_a_word(client: Client) -> None:
    await device_class(client)
    await devices(client, "a", "g1", "g2")
    async with scheduling(client):
        await client.create(PODS, using("p", "later"))
        await client.create(PODS, pod("plain"))
        await seen(client, PODS, lambda pods: bool(placement(pods).get("plain")))
        assert reason((await client.list(PODS)).items, "p") == ""
        await resource_claim(client, "later", count=2)
        await seen(client, PODS, lambda pods: placement(pods)["p"] == "a")


async def test_a_device_goes_to_one_claim_only_however_fast_pods_come(client: Client) -> None:
    await device_class(client)
    await devices(client, "a", "g1", "g2")
    await devices(client, "b", "g3")
    names = [f"p{number}" for number in range(6)]
    for name in names:
        await resource_claim(client, name)
        await client.create(PODS, using(name, name))

    def settled(pods: list[Object]) -> bool:
        return len(pods) == len(names) and all(p["spec"].get("nodeName") or reason(pods, meta.name_of(p)) for p in pods)

    async with scheduling(client):
        pods = await seen(client, PODS, settled)
        assert sum(bool(node) for node in placement(pods).values()) == 3
        claims = (await client.list(RESOURCECLAIMS)).items
        given = [each["status"]["allocation"]["devices"]["results"] for each in claims if each.get("status")]
        assert sorted(each[0]["device"] for each in given) == ["g1", "g2", "g3"]
