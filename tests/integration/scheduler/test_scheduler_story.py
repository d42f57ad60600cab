"""Pods find their nodes, on a real API server: bound, reported when they can't be, and important ones make room."""

from collections.abc import AsyncIterator

import pytest
from scheduler_lab import add_node, api_client, placement, pod, reason, scheduling, seen

from machinery.api import meta
from machinery.api.catalogue import EVENTS, EVENTS_K8S_IO, PODS, PRIORITYCLASSES
from machinery.client.rest import Client


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with api_client() as client:
        yield client


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
        events = await seen(client, EVENTS_K8S_IO, lambda events: len(events) == 4)
        assert {(e["reason"], e["action"], e["type"]) for e in events} == {("Scheduled", "Binding", "Normal")}
        assert {e["reportingController"] for e in events} == {"default-scheduler"}
        notes = {e["regarding"]["name"]: e["note"] for e in events}
        placed = placement(pods)
        old = (await client.list(EVENTS)).items  # as everybody who watches v1 Events sees them
        assert {(e["involvedObject"]["name"], e["message"]) for e in old} == set(notes.items())
        assert notes == {name: f"Successfully assigned default/{name} to {node}" for name, node in placed.items()}


async def test_a_pod_that_fits_nowhere_says_why_and_goes_when_a_node_comes(client: Client) -> None:
    await add_node(client, "small", cpu="100m")
    async with scheduling(client):
        await client.create(PODS, pod("p"))
        pods = await seen(client, PODS, lambda pods: bool(reason(pods, "p")))
        assert reason(pods, "p") == (
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, "
            "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        )
        condition = meta.condition(pods[0]["status"]["conditions"], "PodScheduled")
        assert condition is not None
        assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
        events = await seen(client, EVENTS_K8S_IO, lambda events: bool(events))
        assert (events[0]["reason"], events[0]["note"]) == ("FailedScheduling", reason(pods, "p"))
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
        events = await seen(client, EVENTS_K8S_IO, lambda found: any(e["reason"] == "Preempted" for e in found))
        preempted = next(e for e in events if e["reason"] == "Preempted")
        assert preempted["note"] == f"Preempted by pod {meta.uid_of(high)} on node only"
        assert preempted["related"]["name"] == "high"


async def test_what_a_missing_claim_sounds_like(client: Client) -> None:
    await add_node(client, "a")
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    async with scheduling(client):
        await client.create(PODS, pod("p", volumes=[volume]))
        pods = await seen(client, PODS, lambda pods: bool(reason(pods, "p")))
        assert reason(pods, "p") == '0/1 nodes are available: persistentvolumeclaim "data" not found. not found'


async def test_gates_profiles_and_pods_of_other_schedulers(client: Client) -> None:
    await add_node(client, "a")
    profiles = [{"schedulerName": "default-scheduler"}, {"schedulerName": "second"}]
    async with scheduling(client, profiles=profiles):
        await client.create(PODS, pod("gated", schedulingGates=[{"name": "example.com/wait"}]))
        await client.create(PODS, pod("other", schedulerName="somebody-else"))
        await client.create(PODS, pod("mine", schedulerName="second"))
        pods = await seen(client, PODS, lambda pods: bool(placement(pods).get("mine")))
        assert placement(pods) == {"gated": "", "other": "", "mine": "a"}
        gated = next(p for p in pods if meta.name_of(p) == "gated")
        await client.update(PODS, {**gated, "spec": {**gated["spec"], "schedulingGates": []}})
        await seen(client, PODS, lambda pods: placement(pods)["gated"] == "a")


async def test_a_successor_keeps_the_room_that_was_made(client: Client) -> None:
    await add_node(client, "only", cpu="1")
    async with scheduling(client):
        await client.create(PODS, pod("low", cpu="1"))
        await seen(client, PODS, lambda pods: placement(pods) == {"low": "only"})
        await client.create(PODS, pod("high", cpu="1", priority=100))
        await seen(client, PODS, lambda pods: any(p["status"].get("nominatedNodeName") for p in pods))
    await client.create(PODS, pod("late", cpu="1"))
    async with scheduling(client):
        await client.delete(PODS, "low", "default", grace_seconds=0)
        pods = await seen(client, PODS, lambda pods: placement(pods).get("high") == "only")
        assert placement(pods) == {"high": "only", "late": ""}
