"""Devices with a twist: shared by claims, had as extended resources, or to be made ready before pods are bound."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from devices_lab import device_class, devices, resource_claim, using
from scheduler_lab import add_node, placement, pod, reason, scheduling, seen

from controlplane.apiserver.authn import factory as authn
from controlplane.apiserver.authz import factory as authz
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.testing import running_apiserver
from machinery.api import meta
from machinery.api.catalogue import EVENTS_K8S_IO, NODES, PODS, RESOURCECLAIMS
from machinery.api.meta import Object
from machinery.client.config import ClientConfig
from machinery.client.rest import Client

CONDITIONS = {"bindsToNode": True, "bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]}


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[tuple[Client, Client]]:
    """An administrator's client and the scheduler's own, which may do what its role lets it and no more."""
    tokens = tmp_path / "tokens.csv"
    tokens.write_text("scheduler-token,system:kube-scheduler,scheduler\n")
    settings = Settings(authorization_modes=("RBAC",), token_auth_file=str(tokens))
    async with (
        running_apiserver(settings, factories=(authn.build, authz.build)) as server,
        Client(ClientConfig(server.url, ca_data=server.ca, token=server.token), user_agent="test") as admin,
        Client(ClientConfig(server.url, ca_data=server.ca, token="scheduler-token"), user_agent="test") as own,
    ):
        for name in ("a", "b"):
            await add_node(admin, name)
        yield admin, own


@pytest.fixture
def client(clients: tuple[Client, Client]) -> Client:
    return clients[0]


@pytest.fixture
def own(clients: tuple[Client, Client]) -> Client:
    return clients[1]


async def results(client: Client, name: str) -> list[Object]:
    claim = await client.get(RESOURCECLAIMS, name, "default")
    found: list[Object] = claim["status"]["allocation"]["devices"]["results"]
    return found


async def test_claims_share_a_device_until_its_capacity_is_taken(client: Client, own: Client) -> None:
    await device_class(client)
    policy = {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}}
    capacity = {"memory": {"value": "5Gi", "requestPolicy": policy}}
    await devices(client, "a", "big1", allowMultipleAllocations=True, capacity=capacity)
    async with scheduling(own):
        for name, amount in (("one", "1500Mi"), ("two", "2Gi"), ("three", "2Gi")):
            await resource_claim(client, name, capacity={"requests": {"memory": amount}})
            await client.create(PODS, using(name, name))
            await seen(client, PODS, lambda pods, n=name: bool(placement(pods)[n] or reason(pods, n)))  # type: ignore[misc]
        first, second = await results(client, "one"), await results(client, "two")
        assert [each["consumedCapacity"] for each in (*first, *second)] == [{"memory": "2Gi"}, {"memory": "2Gi"}]
        assert first[0]["device"] == second[0]["device"] == "big1"
        assert first[0]["shareID"] != second[0]["shareID"]
        pods = (await client.list(PODS)).items
        assert reason(pods, "three").startswith("0/2 nodes are available: 2 cannot allocate all claims.")


def wanting(name: str, amount: str, resource: str = "example.com/gpu", **more: Any) -> Object:
    made = pod(name, cpu="100m", **more)
    asked = {"cpu": "100m", resource: amount}
    made["spec"]["containers"][0]["resources"] = {"requests": asked, "limits": {resource: amount}}
    return made


async def test_an_extended_resource_is_had_of_devices(client: Client, own: Client) -> None:
    await devices(client, "b", "big1", "big2", "big3")
    async with scheduling(own):
        await client.create(PODS, wanting("p", "2"))
        pods = await seen(client, PODS, lambda pods: bool(reason(pods, "p")))
        assert "2 Insufficient example.com/gpu" in reason(pods, "p")
        await device_class(client, extendedResourceName="example.com/gpu")
        pods = await seen(client, PODS, lambda pods: placement(pods) == {"p": "b"})
        told = pods[0]["status"]["extendedResourceClaimStatus"]
        uses = {"containerName": "c", "resourceName": "example.com/gpu", "requestName": "container-0-request-1"}
        assert told["requestMappings"] == [uses]
        claim = await client.get(RESOURCECLAIMS, told["resourceClaimName"], "default")
        assert meta.name_of(claim).startswith("p-extended-resources-")
        assert claim["metadata"]["annotations"] == {"resource.kubernetes.io/extended-resource-claim": "true"}
        assert meta.controller_of(claim) == {
            "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": meta.uid_of(pods[0]), "controller": True,
        }  # fmt: skip
        assert [each["device"] for each in claim["status"]["allocation"]["devices"]["results"]] == ["big1", "big2"]
        assert claim["status"]["reservedFor"] == [{"resource": "pods", "name": "p", "uid": meta.uid_of(pods[0])}]
        # The class is an extended resource by its own name as well, and there is one device left.
        await client.create(PODS, wanting("q", "1", "deviceclass.resource.kubernetes.io/gpu"))
        await seen(client, PODS, lambda pods: placement(pods)["q"] == "b")
        await client.create(PODS, wanting("r", "1"))
        pods = await seen(client, PODS, lambda pods: bool(reason(pods, "r")))
        assert reason(pods, "r").startswith("0/2 nodes are available: 2 cannot allocate all claims.")
        # A node whose device plugin offers the resource needs no claim.
        await client.patch(NODES, "a", {"status": {"allocatable": {"example.com/gpu": "1"}}}, subresource="status")
        pods = await seen(client, PODS, lambda pods: placement(pods)["r"] == "a")
        assert not any("extendedResourceClaimStatus" in p["status"] for p in pods if meta.name_of(p) == "r")
        assert len((await client.list(RESOURCECLAIMS)).items) == 2


async def test_a_claim_of_an_earlier_attempt_goes_and_the_pod_is_tried_afresh(client: Client, own: Client) -> None:
    await devices(client, "a", "big1")
    await device_class(client, extendedResourceName="example.com/gpu")
    made = await client.create(PODS, wanting("p", "1"))
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": meta.uid_of(made), "controller": True}
    body = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "name": "old",
            "namespace": "default",
            "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
            "ownerReferences": [owner],
            "finalizers": ["resource.kubernetes.io/delete-protection"],
        },
        "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}},
    }
    await client.create(RESOURCECLAIMS, body)
    result = {"request": "r", "driver": "gpu.example.com", "pool": "a", "device": "big1"}
    status = {"status": {"allocation": {"devices": {"results": [result]}}}}
    await client.patch(RESOURCECLAIMS, "old", status, "default", subresource="status")
    async with scheduling(own):
        pods = await seen(client, PODS, lambda pods: placement(pods) == {"p": "a"})
        claims = (await client.list(RESOURCECLAIMS)).items
        assert [meta.name_of(each) for each in claims] == [
            pods[0]["status"]["extendedResourceClaimStatus"]["resourceClaimName"]
        ]
        told = "2 cannot schedule extended resource claim. deletion of ResourceClaim completed"
        await seen(client, EVENTS_K8S_IO, lambda events: any(told in event["note"] for event in events))


async def report(client: Client, name: str, kind: str, why: str = "Done") -> None:
    """What the driver says of the claim's device, once it is allocated."""

    def allocated(claims: list[Object]) -> bool:
        claim = next(each for each in claims if meta.name_of(each) == name)
        status = claim.get("status") or {}
        return bool(status.get("allocation")) and not status.get("devices")

    await seen(client, RESOURCECLAIMS, allocated)
    moment = "2026-01-01T00:00:00Z"
    condition = {"type": kind, "status": "True", "reason": why, "message": "m", "lastTransitionTime": moment}
    given = (await results(client, name))[0]
    device = {part: given[part] for part in ("driver", "pool", "device")} | {"conditions": [condition]}
    await client.patch(RESOURCECLAIMS, name, {"status": {"devices": [device]}}, "default", subresource="status")


async def test_a_pod_is_bound_once_its_device_is_ready(client: Client, own: Client) -> None:
    await device_class(client)
    await devices(client, "a", "big1", **CONDITIONS)
    async with scheduling(own):
        await resource_claim(client, "one")
        await client.create(PODS, using("p", "one"))
        events = await seen(client, EVENTS_K8S_IO, lambda found: bool(found))
        assert events[0]["reason"] == "BindingConditionsPending"
        assert events[0]["note"] == "waiting for binding conditions for device on node a"
        assert (await results(client, "one"))[0]["bindingConditions"] == ["Attached"]
        assert placement((await client.list(PODS)).items) == {"p": ""}
        await report(client, "one", "Broken", "Burnt")
        pods = await seen(client, PODS, lambda pods: "Burnt" in reason(pods, "p"))
        why = 'claim one binding failed: reason=Burnt, message="m"'
        assert reason(pods, "p") == f'running PreBind plugin "DynamicResources": {why}'
        # The devices have been taken back, and are given anew.
        await report(client, "one", "Attached")
        await seen(client, PODS, lambda pods: placement(pods) == {"p": "a"})


async def test_a_device_that_is_not_ready_in_time_is_taken_back(client: Client, own: Client) -> None:
    await device_class(client)
    await devices(client, "a", "big1", **CONDITIONS)
    args = [{"name": "DynamicResources", "args": {"bindingTimeout": "1s"}}]
    async with scheduling(own, profiles=[{"schedulerName": "default-scheduler", "pluginConfig": args}]):
        await resource_claim(client, "one")
        await client.create(PODS, using("p", "one"))

        def told(events: list[Object], *words: str) -> bool:
            return all(any(each in event["note"] for event in events) for each in words)

        late = 'running PreBind plugin "DynamicResources": device binding timeout'
        back = "2 resourceclaim not available on the node. deallocation of ResourceClaim completed"
        await seen(client, EVENTS_K8S_IO, lambda events: told(events, late, back))
        assert placement((await client.list(PODS)).items) == {"p": ""}
