"""The garbage collector: what is deleted with its owner, what is orphaned, and what the owner waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from cluster import Cluster, eventually, requirement, sleeper
from cluster import pod as a_pod

from machinery.api.catalogue import DEPLOYMENTS, PODS, REPLICASETS, REPLICATIONCONTROLLERS
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.client.rest import STRATEGIC

pytest_plugins = ["cluster_fixture"]

_SECONDS = 150.0
_REPLICAS = 10
_ORPHANED_SECONDS = 30
"""How long orphans are looked at: nothing else would tell that they are let be."""


def _controller(name: str, replicas: int, label: str = "x") -> Object:
    template = {"metadata": {"labels": {"gctest": label}}, "spec": _spec()}
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"gctest": label}, "template": template},
    }


def _spec() -> Object:
    spec: Object = a_pod("x", sleeper())["spec"] | {"restartPolicy": "Always"}
    return spec


def _deployment() -> Object:
    template = {"metadata": {"labels": {"gctest": "x"}}, "spec": _spec()}
    spec = {"replicas": 2, "selector": {"matchLabels": {"gctest": "x"}}, "template": template}
    return {"metadata": {"name": "simpletest.deployment"}, "spec": spec}


async def _all(cluster: Cluster, resource: ResourceType) -> list[Object]:
    return (await cluster.client.list(resource, cluster.namespace)).items


async def _that(cluster: Cluster, resource: ResourceType, holds: Callable[[list[Object]], Any], what: str) -> Any:
    async def as_wanted() -> Any:
        return holds(await _all(cluster, resource))

    return await eventually(as_wanted, what, _SECONDS)


async def _nothing(cluster: Cluster, *resources: ResourceType) -> None:
    for resource in resources:
        await _that(cluster, resource, lambda found: not found, f"no {resource.plural}")


async def _replicated(cluster: Cluster, resource: ResourceType, name: str) -> Object:
    """The controller once it has made its pods."""
    return await cluster.object_that(
        resource,
        name,
        lambda found: found.get("status", {}).get("replicas") == found["spec"]["replicas"],
        "has its pods",
        seconds=_SECONDS,
    )


async def _delete(cluster: Cluster, resource: ResourceType, obj: Object, propagation: str) -> None:
    meta = obj["metadata"]
    await cluster.client.delete(resource, meta["name"], cluster.namespace, uid=meta["uid"], propagation=propagation)


async def _stay(cluster: Cluster, resource: ResourceType, count: int) -> None:
    """So many objects are there and let be, for as long as upstream looks."""
    until = time.monotonic() + _ORPHANED_SECONDS
    while time.monotonic() < until:
        found = await _all(cluster, resource)
        assert [each["metadata"].get("deletionTimestamp") for each in found] == [None] * count
        await asyncio.sleep(1)


@requirement("[sig-api-machinery] Garbage collector should delete pods created by rc when not orphaning [Conformance]")
@pytest.mark.timeout(300)
async def test_pods_of_a_controller_go_with_it(cluster: Cluster) -> None:
    made = await cluster.create(REPLICATIONCONTROLLERS, _controller("simpletest.rc", 2))
    await _that(cluster, PODS, bool, "pods of the controller")
    await _delete(cluster, REPLICATIONCONTROLLERS, made, "Background")
    await _nothing(cluster, REPLICATIONCONTROLLERS, PODS)


@requirement(
    "[sig-api-machinery] Garbage collector should orphan pods created by rc if delete options say so [Serial] [Conformance]"
)
@pytest.mark.timeout(300)
async def test_pods_of_a_controller_are_orphaned(cluster: Cluster) -> None:
    made = await cluster.create(REPLICATIONCONTROLLERS, _controller("simpletest.rc", _REPLICAS))
    await _replicated(cluster, REPLICATIONCONTROLLERS, "simpletest.rc")
    await _delete(cluster, REPLICATIONCONTROLLERS, made, "Orphan")
    await _nothing(cluster, REPLICATIONCONTROLLERS)
    await _stay(cluster, PODS, _REPLICAS)
    assert all("ownerReferences" not in pod["metadata"] for pod in await _all(cluster, PODS))


@requirement(
    "[sig-api-machinery] Garbage collector should delete RS created by deployment when not orphaning [Conformance]"
)
@pytest.mark.timeout(300)
async def test_what_a_deployment_made_goes_with_it(cluster: Cluster) -> None:
    made = await cluster.create(DEPLOYMENTS, _deployment())
    await _that(cluster, REPLICASETS, bool, "a replica set of the deployment")
    await _delete(cluster, DEPLOYMENTS, made, "Background")
    await _nothing(cluster, DEPLOYMENTS, REPLICASETS, PODS)


@requirement(
    "[sig-api-machinery] Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan [Conformance]"
)
@pytest.mark.timeout(300)
async def test_what_a_deployment_made_is_orphaned(cluster: Cluster) -> None:
    made = await cluster.create(DEPLOYMENTS, _deployment())
    sets = await _that(cluster, REPLICASETS, lambda found: found, "a replica set of the deployment")
    name = sets[0]["metadata"]["name"]
    await _replicated(cluster, REPLICASETS, name)
    await _delete(cluster, DEPLOYMENTS, made, "Orphan")
    await _nothing(cluster, DEPLOYMENTS)
    assert len(await _all(cluster, PODS)) == 2
    left = await cluster.get(REPLICASETS, name)
    assert "deletionTimestamp" not in left["metadata"]
    assert not any(owner.get("controller") for owner in left["metadata"].get("ownerReferences", ()))


@requirement(
    "[sig-api-machinery] Garbage collector should keep the rc around until all its pods are deleted if the deleteOptions says so [Serial] [Conformance]"
)
@pytest.mark.timeout(300)
async def test_owner_waits_for_its_pods(cluster: Cluster) -> None:
    made = await cluster.create(REPLICATIONCONTROLLERS, _controller("simpletest.rc", _REPLICAS))
    await _replicated(cluster, REPLICATIONCONTROLLERS, "simpletest.rc")
    await _delete(cluster, REPLICATIONCONTROLLERS, made, "Foreground")

    async def gone() -> bool:
        """Pods are looked at after the controller: none may be there when that is gone."""
        controllers = await _all(cluster, REPLICATIONCONTROLLERS)
        for each in controllers:
            assert each["metadata"]["finalizers"] == ["foregroundDeletion"]
            assert each["metadata"]["deletionTimestamp"]
        pods = await _all(cluster, PODS)
        assert controllers or not pods
        return not controllers

    await eventually(gone, "the controller is gone", _SECONDS)


@requirement(
    "[sig-api-machinery] Garbage collector should not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted [Serial] [Conformance]"
)
@pytest.mark.timeout(300)
async def test_pods_with_another_owner_stay(cluster: Cluster) -> None:
    made = await cluster.create(REPLICATIONCONTROLLERS, _controller("to-be-deleted", _REPLICAS))
    stays = await cluster.create(REPLICATIONCONTROLLERS, _controller("to-stay", 0, "y"))
    await _replicated(cluster, REPLICATIONCONTROLLERS, "to-be-deleted")
    owner = {"apiVersion": "v1", "kind": "ReplicationController", "name": "to-stay", "uid": stays["metadata"]["uid"]}
    patch = {"metadata": {"ownerReferences": [owner]}}
    half = (await _all(cluster, PODS))[: _REPLICAS // 2]
    for pod in half:
        await cluster.patch(PODS, pod["metadata"]["name"], patch, content_type=STRATEGIC)
    await _delete(cluster, REPLICATIONCONTROLLERS, made, "Foreground")
    await _that(
        cluster,
        REPLICATIONCONTROLLERS,
        lambda found: [each["metadata"]["name"] for each in found] == ["to-stay"],
        "the controller is gone",
    )
    left = await _all(cluster, PODS)
    assert {pod["metadata"]["name"] for pod in left} == {pod["metadata"]["name"] for pod in half}
    for pod in left:
        assert "deletionTimestamp" not in pod["metadata"]
        assert [each["name"] for each in pod["metadata"]["ownerReferences"]] == ["to-stay"]


@requirement("[sig-api-machinery] Garbage collector should not be blocked by dependency circle [Conformance]")
@pytest.mark.timeout(300)
async def test_circle_of_owners(cluster: Cluster) -> None:
    made = [await cluster.create(PODS, a_pod(f"pod{number}", sleeper())) for number in range(3)]
    for pod, owner in zip(made, [made[2], *made[:2]], strict=True):
        meta = owner["metadata"]
        reference = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        patch = {"metadata": {"ownerReferences": [reference | {"controller": True, "blockOwnerDeletion": True}]}}
        await cluster.patch(PODS, pod["metadata"]["name"], patch, content_type=STRATEGIC)
    await _delete(cluster, PODS, made[0], "Foreground")
    await _nothing(cluster, PODS)
