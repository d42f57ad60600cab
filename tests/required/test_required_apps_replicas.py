"""ReplicaSets and ReplicationControllers."""

from __future__ import annotations

from typing import Any

import pytest
from cluster import Cluster, container, eventually, has_condition, pod, requirement, shows, sleeper
from lab_images import ECHO
from objects import delete_collection, replace
from watching import watching
from workloads import belongs_to, has_ready, owners, pods_of, pods_that, replication_controller, workload

from machinery.api.catalogue import PODS, REPLICASETS, REPLICATIONCONTROLLERS, RESOURCEQUOTAS
from machinery.api.meta import Object, name_of
from machinery.api.resource import ResourceType
from machinery.client.rest import STRATEGIC

pytest_plugins = ["cluster_fixture"]

LABELS = {"name": "replicated"}


def _made(resource: ResourceType, name: str, *containers: Object, replicas: int = 1) -> Object:
    make: Any = replication_controller if resource is REPLICATIONCONTROLLERS else workload
    made: Object = make(name, LABELS, *containers, replicas=replicas)
    return made


@pytest.mark.parametrize(
    "resource",
    [
        shows(
            REPLICASETS,
            name="[sig-apps] ReplicaSet should serve a basic image on each replica with a public image [Conformance]",
        ),
        shows(
            REPLICATIONCONTROLLERS,
            name="[sig-apps] ReplicationController should serve a basic image on each replica with a public image [Conformance]",
        ),
    ],
)
async def test_serves(cluster: Cluster, resource: ResourceType) -> None:
    serve = container(name="serve", image=ECHO, ports=[{"containerPort": 8080}])
    await cluster.create(resource, _made(resource, "serves", serve, replicas=2))
    await has_ready(cluster, resource, "serves", 2)
    found = await pods_of(cluster, LABELS)
    assert len(found) == 2
    for each in found:
        name = name_of(each)
        told = await cluster.kubectl("get", "--raw", PODS.path(cluster.namespace, name, "proxy/"))
        assert f"hostname: {name}\n" in told


@pytest.mark.parametrize(
    ("resource", "release"),
    [
        shows(
            REPLICATIONCONTROLLERS,
            False,
            name="[sig-apps] ReplicationController should adopt matching pods on creation [Conformance]",
        ),
        shows(
            REPLICASETS,
            True,
            name="[sig-apps] ReplicaSet should adopt matching pods on creation and release no longer matching pods [Conformance]",
        ),
    ],
)
async def test_adopts(cluster: Cluster, resource: ResourceType, release: bool) -> None:
    orphan = "pod-adoption"
    await cluster.start(pod(orphan, sleeper(), labels=LABELS, restartPolicy="Always"))
    owner = await cluster.create(resource, _made(resource, "adopts"))
    await cluster.pod_that(orphan, lambda found: belongs_to(found, owner), "adopted")
    await has_ready(cluster, resource, "adopts", 1)
    assert [name_of(each) for each in await pods_of(cluster, LABELS)] == [orphan]
    if release:
        await _releases(cluster, owner, orphan)


@requirement("[sig-apps] ReplicationController should release no longer matching pods [Conformance]")
async def test_releases(cluster: Cluster) -> None:
    owner = await cluster.create(REPLICATIONCONTROLLERS, _made(REPLICATIONCONTROLLERS, "releases"))
    found = await pods_that(cluster, LABELS, bool, "a pod of its own")
    await _releases(cluster, owner, name_of(found[0]))


async def _releases(cluster: Cluster, owner: Object, name: str) -> None:
    labels = await replace(cluster, PODS, name, lambda o: o["metadata"]["labels"].update(name="not-matching-name"))
    assert labels["metadata"]["labels"]["name"] == "not-matching-name"
    await cluster.pod_that(name, lambda found: not owners(found), "released")
    await pods_that(
        cluster, LABELS, lambda pods: [belongs_to(each, owner) for each in pods] == [True], "another in its stead"
    )


@requirement(
    "[sig-apps] ReplicationController should surface a failure condition on a common issue like exceeded quota [Conformance]"
)
async def test_exceeds_quota(cluster: Cluster) -> None:
    name, resource = "condition-test", REPLICATIONCONTROLLERS
    await cluster.create(RESOURCEQUOTAS, {"metadata": {"name": name}, "spec": {"hard": {"pods": "2"}}})

    def counted(quota: Object) -> bool:
        return bool(quota.get("status", {}).get("hard") == {"pods": "2"} and quota["status"]["used"] == {"pods": "0"})

    await cluster.object_that(RESOURCEQUOTAS, name, counted, "counted")
    await cluster.create(resource, _made(resource, name, replicas=3))

    def seen(found: Object) -> bool:
        return bool(found["status"].get("observedGeneration", 0) >= found["metadata"]["generation"])

    failed = await cluster.object_that(
        resource, name, lambda o: seen(o) and has_condition(o, "ReplicaFailure"), "tells of its failure"
    )
    condition = failed["status"]["conditions"][0]
    assert condition["reason"] == "FailedCreate"
    assert "exceeded quota: condition-test, requested: pods=1, used: pods=2, limited: pods=2" in condition["message"]
    await replace(cluster, resource, name, lambda o: o["spec"].update(replicas=2))
    await cluster.object_that(
        resource, name, lambda o: seen(o) and not o["status"].get("conditions"), "tells of no failure any more"
    )


@requirement("[sig-apps] ReplicationController should test the lifecycle of a ReplicationController [Conformance]")
async def test_lifecycle(cluster: Cluster) -> None:
    resource, name, chosen = REPLICATIONCONTROLLERS, "rc-test", "name=replicated"

    def counts(replicas: int) -> Any:
        return lambda o: o["status"].get("replicas") == replicas == o["status"].get("readyReplicas")

    async with watching(cluster, resource, chosen) as watched:
        await cluster.create(resource, _made(resource, name))
        await watched.until(lambda e: e.type == "ADDED", "added")
        await watched.modified(counts(1), "one ready")
        patch: Object = {"metadata": {"labels": {"test-rc": "patched"}}}
        patched = await cluster.patch(resource, name, patch, content_type=STRATEGIC)
        assert patched["metadata"]["labels"]["test-rc"] == "patched"
        await watched.modified(lambda o: o["metadata"]["labels"].get("test-rc") == "patched", "patched")

        patch = {"status": {"readyReplicas": 0, "availableReplicas": 0}}
        patched = await cluster.patch(resource, name, patch, content_type=STRATEGIC, subresource="status")
        assert patched["status"].get("readyReplicas", 0) == 0
        await watched.modified(lambda o: o["status"].get("readyReplicas", 0) == 0, "its status patched")
        await watched.modified(counts(1), "its status corrected")
        status = await cluster.client.get(resource, name, cluster.namespace, subresource="status")
        assert status["status"]["replicas"] == 1

        patch = {"spec": {"replicas": 2}}
        await cluster.patch(resource, name, patch, content_type=STRATEGIC, subresource="scale")
        await watched.modified(lambda o: o["spec"]["replicas"] == 2, "scaled")
        await watched.modified(counts(2), "two ready")
        assert (await cluster.get(resource, name))["metadata"]["labels"]["test-rc"] == "patched"

        wanted = {"availableReplicas": 1, "readyReplicas": 1}
        updated = await replace(cluster, resource, name, lambda o: o["status"].update(wanted), subresource="status")
        assert updated["status"]["readyReplicas"] == 1
        await watched.modified(lambda o: o["status"].get("readyReplicas") == 1, "its status updated")
        everywhere = (await cluster.client.list(resource, label_selector=chosen)).items
        mine = [each for each in everywhere if each["metadata"]["namespace"] == cluster.namespace]
        assert [each["metadata"]["labels"] for each in mine] == [LABELS | {"test-rc": "patched"}]
        await delete_collection(cluster, resource, chosen)
        await watched.deleted(name)


@requirement("[sig-apps] ReplicaSet Replace and Patch tests [Conformance]")
async def test_replace_and_patch(cluster: Cluster) -> None:
    name = "test-rs"
    await cluster.create(REPLICASETS, _made(REPLICASETS, name))
    await has_ready(cluster, REPLICASETS, name, 1)
    async with watching(cluster, REPLICASETS, "name=replicated") as watched:
        await replace(cluster, REPLICASETS, name, lambda o: o["spec"].update(replicas=2))
        await watched.modified(lambda o: o["status"].get("readyReplicas") == 2, "two ready")
        pods = {"terminationGracePeriodSeconds": 0, "containers": [sleeper(command=["/bin/sleep", "100000"])]}
        patch = {"metadata": {"labels": {"test-rs": "patched"}}, "spec": {"replicas": 3, "template": {"spec": pods}}}
        await cluster.patch(REPLICASETS, name, patch, content_type=STRATEGIC)
        seen = await watched.modified(lambda o: o["status"].get("readyReplicas") == 3, "three ready")
    assert seen["metadata"]["labels"] == LABELS | {"test-rs": "patched"}
    assert seen["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 0

    async def all_run() -> bool:
        return [each["status"]["phase"] for each in await pods_of(cluster, LABELS)] == ["Running"] * 3

    await eventually(all_run, "three pods running")
