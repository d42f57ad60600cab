"""Scale and status of what keeps pods running, and collections of it."""

from __future__ import annotations

from typing import Any

import pytest
from cluster import Cluster, shows, sleeper
from objects import delete_collection, replace
from operations import contains
from watching import watching
from workloads import has_ready, replication_controller, workload

from machinery.api.catalogue import DAEMONSETS, DEPLOYMENTS, REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS
from machinery.api.meta import Object, name_of
from machinery.api.resource import ResourceType
from machinery.client.rest import STRATEGIC

pytest_plugins = ["cluster_fixture"]

LABELS = {"app": "required"}
CHOSEN = "app=required"


def _made(resource: ResourceType, name: str, replicas: int) -> Object:
    if resource is REPLICATIONCONTROLLERS:
        return replication_controller(name, LABELS, replicas=replicas)
    if resource is DAEMONSETS:
        return workload(name, LABELS)
    more: dict[str, Any] = {"serviceName": "none"} if resource is STATEFULSETS else {}
    return workload(name, LABELS, replicas=replicas, **more)


async def _ready(cluster: Cluster, resource: ResourceType, name: str, replicas: int) -> Object:
    if resource is not DAEMONSETS:
        return await has_ready(cluster, resource, name, replicas)

    def holds(found: Object) -> bool:
        status = found.get("status", {})
        return bool(status.get("desiredNumberScheduled") and status["desiredNumberScheduled"] == status["numberReady"])

    return await cluster.object_that(resource, name, holds, "ready")


@pytest.mark.parametrize(
    "resource",
    [
        shows(
            DEPLOYMENTS, name="[sig-apps] Deployment Deployment should have a working scale subresource [Conformance]"
        ),
        shows(
            REPLICASETS, name="[sig-apps] ReplicaSet Replicaset should have a working scale subresource [Conformance]"
        ),
        shows(
            STATEFULSETS,
            name="[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should have a working scale subresource [Conformance]",
        ),
        shows(
            REPLICATIONCONTROLLERS,
            name="[sig-apps] ReplicationController should get and update a ReplicationController scale [Conformance]",
        ),
    ],
)
async def test_scale(cluster: Cluster, resource: ResourceType) -> None:
    name, namespace = "scaled", cluster.namespace
    await cluster.create(resource, _made(resource, name, 1))
    await _ready(cluster, resource, name, 1)
    scale = await cluster.client.get(resource, name, namespace, subresource="scale")
    assert (scale["apiVersion"], scale["kind"]) == ("autoscaling/v1", "Scale")
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (1, 1)
    assert scale["status"]["selector"] == CHOSEN

    del scale["metadata"]["resourceVersion"]  # whatever it is by now
    scale["spec"]["replicas"] = 2
    updated = await cluster.client.update(resource, scale, subresource="scale")
    assert updated["spec"]["replicas"] == 2
    assert (await cluster.get(resource, name))["spec"]["replicas"] == 2
    await _ready(cluster, resource, name, 2)

    patch = {"spec": {"replicas": 4}}
    patched = await cluster.patch(resource, name, patch, content_type=STRATEGIC, subresource="scale")
    assert patched["spec"]["replicas"] == 4
    assert (await cluster.get(resource, name))["spec"]["replicas"] == 4
    await _ready(cluster, resource, name, 4)


@pytest.mark.parametrize(
    "resource",
    [
        shows(DEPLOYMENTS, name="[sig-apps] Deployment should validate Deployment Status endpoints [Conformance]"),
        shows(
            DAEMONSETS, name="[sig-apps] Daemon set [Serial] should verify changes to a daemon set status [Conformance]"
        ),
        shows(REPLICASETS, name="[sig-apps] ReplicaSet should validate Replicaset Status endpoints [Conformance]"),
        shows(
            STATEFULSETS,
            name="[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should validate Statefulset Status endpoints [Conformance]",
        ),
    ],
)
async def test_status(cluster: Cluster, resource: ResourceType) -> None:
    name = "told"
    await cluster.create(resource, _made(resource, name, 1))
    made = await _ready(cluster, resource, name, 1)
    status = await cluster.client.get(resource, name, cluster.namespace, subresource="status")
    assert (status["kind"], status["metadata"]["uid"]) == (resource.kind, made["metadata"]["uid"])
    new = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}

    def conditions(found: Object) -> list[Object]:
        return list(found["status"].get("conditions") or ())

    def told(condition: Object) -> Any:
        return lambda found: any(contains(each, condition) for each in conditions(found))

    async with watching(cluster, resource, CHOSEN) as watched:
        updated = await replace(
            cluster,
            resource,
            name,
            lambda o: o["status"].update(conditions=[*conditions(o), new]),
            subresource="status",
        )
        assert told(new)(updated)
        await watched.modified(told(new), "the updated condition")
        patched = {"type": "StatusPatched", "status": "True"}
        after = await cluster.patch(resource, name, {"status": {"conditions": [patched]}}, subresource="status")
        assert told(patched)(after)
        await watched.modified(told(patched), "the patched condition")


@pytest.mark.parametrize(
    "resource",
    [
        shows(
            DAEMONSETS,
            name="[sig-apps] Daemon set [Serial] should list and delete a collection of DaemonSets [Conformance]",
        ),
        shows(
            REPLICASETS, name="[sig-apps] ReplicaSet should list and delete a collection of ReplicaSets [Conformance]"
        ),
        shows(
            STATEFULSETS,
            name="[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should list, patch and delete a collection of StatefulSets [Conformance]",
        ),
    ],
)
async def test_collection(cluster: Cluster, resource: ResourceType) -> None:
    name = "listed"
    await cluster.create(resource, _made(resource, name, 1))
    await _ready(cluster, resource, name, 1)
    everywhere = (await cluster.client.list(resource, label_selector=CHOSEN)).items
    assert (cluster.namespace, name) in [(each["metadata"]["namespace"], name_of(each)) for each in everywhere]
    if resource is STATEFULSETS:
        command = sleeper(command=["sleep", "100000"])
        pods = {"terminationGracePeriodSeconds": 0, "containers": [command]}
        patch = {"metadata": {"labels": {"patched": "yes"}}, "spec": {"replicas": 2, "template": {"spec": pods}}}
        patched = await cluster.patch(resource, name, patch, content_type=STRATEGIC)
        assert patched["metadata"]["labels"] == LABELS | {"patched": "yes"}
        assert patched["spec"]["replicas"] == 2
        assert patched["spec"]["template"]["spec"]["containers"][0]["command"] == ["sleep", "100000"]
        await _ready(cluster, resource, name, 2)
    async with watching(cluster, resource, CHOSEN) as watched:
        await delete_collection(cluster, resource, CHOSEN, gracePeriodSeconds=1)
        await watched.deleted(name)
    assert (await cluster.client.list(resource, cluster.namespace, label_selector=CHOSEN)).items == []
