"""Pods with volumes that wait for them: what the scheduler writes before it binds."""

from collections.abc import AsyncIterator

import pytest
from scheduler_lab import add_node, api_client, placement, pod, reason, scheduling, seen

from machinery.api import meta
from machinery.api.catalogue import (
    EVENTS_K8S_IO,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    STORAGECLASSES,
)
from machinery.api.meta import Object
from machinery.client.rest import Client


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with api_client() as client:
        for name in ("a", "b"):
            await add_node(client, name)
        yield client


async def storage_class(client: Client, provisioner: str) -> None:
    made = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "late"},
        "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    await client.create(STORAGECLASSES, made)


async def claim(client: Client, name: str, size: str) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "late", "resources": {"requests": {"storage": size}}}
    metadata = {"name": name, "namespace": "default"}
    made = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
    await client.create(PERSISTENTVOLUMECLAIMS, made)


async def volume(client: Client, name: str, size: str, node_name: str) -> None:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node_name]}]}
    spec = {
        "capacity": {"storage": size},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "late",
        "local": {"path": "/mnt"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
    }
    made = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
    await client.create(PERSISTENTVOLUMES, made)
    await client.patch(PERSISTENTVOLUMES, name, {"status": {"phase": "Available"}}, subresource="status")


async def bind_claim(client: Client, name: str, volume_name: str) -> None:
    """What the volume controller does."""
    change = {
        "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": volume_name},
    }
    await client.patch(PERSISTENTVOLUMECLAIMS, name, change, "default")


def with_claims(name: str, *claims: str) -> Object:
    volumes = [{"name": each, "persistentVolumeClaim": {"claimName": each}} for each in claims]
    return pod(name, volumes=volumes)


async def test_claims_are_given_volumes_that_one_node_reaches(client: Client) -> None:
    await storage_class(client, "kubernetes.io/no-provisioner")
    for name, size, node_name in (("a1", "5Gi", "a"), ("b1", "1Gi", "b"), ("b2", "2Gi", "b")):
        await volume(client, name, size, node_name)
    await claim(client, "small", "1Gi")
    await claim(client, "large", "2Gi")
    async with scheduling(client):
        await client.create(PODS, with_claims("p", "small", "large"))

        def held(volumes: list[Object]) -> dict[str, str]:
            found = {meta.name_of(v): (v["spec"].get("claimRef") or {}).get("name", "") for v in volumes}
            return {name: claim_name for name, claim_name in found.items() if claim_name}

        await seen(client, PERSISTENTVOLUMES, lambda volumes: held(volumes) == {"b1": "small", "b2": "large"})
        assert placement((await client.list(PODS)).items) == {"p": ""}, "not before the claims are bound"
        await bind_claim(client, "small", "b1")
        await bind_claim(client, "large", "b2")
        await seen(client, PODS, lambda pods: placement(pods) == {"p": "b"})
        await claim(client, "huge", "9Gi")
        await client.create(PODS, with_claims("q", "huge"))
        pods = await seen(client, PODS, lambda pods: bool(reason(pods, "q")))
        assert reason(pods, "q").startswith(
            "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."
        )


async def test_a_provisioner_is_told_the_node(client: Client) -> None:
    await storage_class(client, "example.com/disks")
    await claim(client, "data", "1Gi")
    async with scheduling(client):
        await client.create(PODS, {**with_claims("p", "data"), "spec": {**with_claims("p", "data")["spec"]}})
        selected = "volume.kubernetes.io/selected-node"
        claims = await seen(client, PERSISTENTVOLUMECLAIMS, lambda found: selected in meta.annotations_of(found[0]))
        node_name = meta.annotations_of(claims[0])[selected]
        await volume(client, "made", "1Gi", node_name)
        await bind_claim(client, "data", "made")
        await seen(client, PODS, lambda pods: placement(pods) == {"p": node_name})


async def test_a_pod_that_waits_for_its_volume_makes_room_without_an_end(client: Client) -> None:
    """Only what is bound already has to be deleted."""
    await storage_class(client, "example.com/disks")
    await claim(client, "data", "1Gi")
    async with scheduling(client):
        low = pod("low", cpu="2", volumes=with_claims("low", "data")["spec"]["volumes"])
        await client.create(PODS, low)
        selected = "volume.kubernetes.io/selected-node"
        claims = await seen(client, PERSISTENTVOLUMECLAIMS, lambda found: selected in meta.annotations_of(found[0]))
        node_name = meta.annotations_of(claims[0])[selected]
        chosen = {"kubernetes.io/hostname": node_name}
        await client.create(PODS, pod("high", cpu="2", priority=100, nodeSelector=chosen))
        pods = await seen(client, PODS, lambda pods: placement(pods).get("high") == node_name)
        assert placement(pods) == {"high": node_name, "low": ""}
        assert not any(meta.is_deleting(each) for each in pods)
        events = await seen(client, EVENTS_K8S_IO, lambda found: any(e["reason"] == "Preempted" for e in found))
        assert next(e for e in events if e["reason"] == "Preempted")["regarding"]["name"] == "low"
        other = "b" if node_name == "a" else "a"
        await volume(client, "made", "1Gi", other)
        await bind_claim(client, "data", "made")
        await seen(client, PODS, lambda pods: placement(pods) == {"high": node_name, "low": other})
