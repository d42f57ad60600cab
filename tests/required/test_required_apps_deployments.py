"""Deployments."""

from __future__ import annotations

from typing import Any

import pytest
from cluster import Cluster, container, requirement, sleeper
from lab_images import BUSYBOX, ECHO
from objects import delete_collection, replace
from watching import watching
from workloads import NEVER_THERE, belongs_to, has_ready, is_complete, pods_of, pods_that, workload

from machinery.api.catalogue import DEPLOYMENTS, PODS, REPLICASETS
from machinery.api.meta import Object, name_of
from machinery.client.rest import STRATEGIC
from machinery.errors import Invalid

pytest_plugins = ["cluster_fixture"]

POD = {"name": "sample-pod"}
REVISION = "deployment.kubernetes.io/revision"
OLD = "test-old-controller"


def _serves() -> Object:
    return container(name="serve", image=ECHO)


async def _old_replica_set(cluster: Cluster, **annotations: str) -> Object:
    """A ReplicaSet with one ready pod that a Deployment of POD will adopt."""
    made = workload(OLD, POD | {"pod": "old"}, replicas=1)
    made["metadata"]["annotations"] = annotations
    await cluster.create(REPLICASETS, made)
    return await has_ready(cluster, REPLICASETS, OLD, 1)


async def _replica_sets(cluster: Cluster, deployment: str) -> list[Object]:
    """Those of a Deployment, the newest revision first."""
    owner = await cluster.get(DEPLOYMENTS, deployment)
    found = (await cluster.client.list(REPLICASETS, cluster.namespace)).items
    mine = [each for each in found if belongs_to(each, owner)]
    return sorted(mine, key=lambda each: int(each["metadata"].get("annotations", {}).get(REVISION, 0)), reverse=True)


def _is_of(revision: str, image: str) -> Any:
    def holds(found: Object) -> bool:
        containers = found["spec"]["template"]["spec"]["containers"]
        told = found["metadata"].get("annotations", {}).get(REVISION), containers[0]["image"]
        return told == (revision, image)

    return holds


def _runs(*containers: Object) -> Any:
    """A change of a Deployment to these containers."""
    return lambda found: found["spec"]["template"]["spec"].update(containers=list(containers))


@requirement("[sig-apps] Deployment RollingUpdateDeployment should delete old pods and create new ones [Conformance]")
async def test_rolling_update(cluster: Cluster) -> None:
    name, revision = "test-rolling-update-deployment", 3546343826724305832
    old = await _old_replica_set(cluster, **{REVISION: str(revision)})
    await cluster.create(DEPLOYMENTS, workload(name, POD, _serves(), replicas=1))
    await cluster.object_that(DEPLOYMENTS, name, _is_of(str(revision + 1), ECHO), "of the next revision")
    await is_complete(cluster, DEPLOYMENTS, name)
    new, *others = await _replica_sets(cluster, name)
    assert _is_of(str(revision + 1), ECHO)(new)
    assert [each["metadata"]["uid"] for each in others] == [old["metadata"]["uid"]]
    await pods_that(cluster, POD, lambda pods: [belongs_to(each, new) for each in pods] == [True], "only the new pod")


@requirement("[sig-apps] Deployment RecreateDeployment should delete old pods and create new ones [Conformance]")
async def test_recreate(cluster: Cluster) -> None:
    name = "test-recreate-deployment"
    await cluster.create(DEPLOYMENTS, workload(name, POD, _serves(), replicas=1, strategy={"type": "Recreate"}))
    await cluster.object_that(DEPLOYMENTS, name, _is_of("1", ECHO), "of the first revision")
    await is_complete(cluster, DEPLOYMENTS, name)
    [old] = await pods_of(cluster, POD)
    async with watching(cluster, DEPLOYMENTS) as watched, watching(cluster, PODS) as pods:
        updated = await replace(cluster, DEPLOYMENTS, name, _runs(sleeper(name="other")))
        event = await pods.until(
            lambda e: e.type == "DELETED" or (e.type == "ADDED" and name_of(e.object) != name_of(old)), "old or new"
        )
        assert event.type == "DELETED", "the new pod was there before the old one was gone"

        def rolled(found: Object) -> bool:
            status = found["status"]
            if status.get("observedGeneration", 0) < updated["metadata"]["generation"]:
                return False
            new = status.get("updatedReplicas", 0)
            assert not new or status["replicas"] == new, "old replicas beside new ones"
            return bool(status.get("availableReplicas", 0) == new == 1)

        await watched.modified(rolled, "recreated")


@requirement("[sig-apps] Deployment deployment should delete old replica sets [Conformance]")
async def test_history(cluster: Cluster) -> None:
    name = "test-cleanup-deployment"
    await _old_replica_set(cluster)
    async with watching(cluster, PODS) as watched:
        await cluster.create(DEPLOYMENTS, workload(name, POD, _serves(), replicas=1, revisionHistoryLimit=0))
        event = await watched.until(lambda e: e.type == "ADDED", "the new pod")
        assert [each["name"] for each in event.object["spec"]["containers"]] == ["serve"]
        await is_complete(cluster, DEPLOYMENTS, name)

        async with watching(cluster, REPLICASETS) as sets:
            if len(await _replica_sets(cluster, name)) > 1:
                await sets.deleted(OLD)
        assert [each["metadata"]["annotations"][REVISION] for each in await _replica_sets(cluster, name)] == ["1"]
        more = [watched.events.get_nowait().type for _ in range(watched.events.qsize())]
        assert "ADDED" not in more, "no second new pod"


@requirement("[sig-apps] Deployment deployment should support rollover [Conformance]")
async def test_rollover(cluster: Cluster) -> None:
    name = "test-rollover-deployment"
    await _old_replica_set(cluster)
    never = container(name="never", image=NEVER_THERE)
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    made = workload(name, POD, never, replicas=1, strategy=strategy, minReadySeconds=10)
    await cluster.create(DEPLOYMENTS, made)

    def stuck(found: Object) -> bool:
        status = found.get("status", {})
        return bool(status.get("observedGeneration", 0) >= 1 and status.get("updatedReplicas", 0) >= 1)

    assert _is_of("1", NEVER_THERE)(await cluster.object_that(DEPLOYMENTS, name, stuck, "scales"))
    new, old = await _replica_sets(cluster, name)
    assert (_is_of("1", NEVER_THERE)(new), name_of(old)) == (True, OLD)
    for each in (new, old):
        await cluster.object_that(
            REPLICASETS, name_of(each), lambda o: o.get("status", {}).get("replicas") == 1, "with a pod"
        )

    await replace(cluster, DEPLOYMENTS, name, _runs(_serves()))
    await cluster.object_that(DEPLOYMENTS, name, _is_of("2", ECHO), "of the second revision")
    await is_complete(cluster, DEPLOYMENTS, name)
    newest, *others = await _replica_sets(cluster, name)
    assert (newest["status"]["replicas"], _is_of("2", ECHO)(newest)) == (1, True)
    assert {name_of(each): each["status"]["replicas"] for each in others} == {name_of(new): 0, OLD: 0}


@requirement("[sig-apps] Deployment deployment should support proportional scaling [Conformance]")
@pytest.mark.timeout(240)
async def test_proportional_scaling(cluster: Cluster) -> None:
    name = "webserver-deployment"
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2, "maxSurge": 3}}
    await cluster.create(DEPLOYMENTS, workload(name, POD, _serves(), replicas=10, strategy=strategy))
    await is_complete(cluster, DEPLOYMENTS, name)
    updated = await replace(cluster, DEPLOYMENTS, name, _runs(container(name="serve", image=NEVER_THERE)))

    def surged(found: Object) -> bool:
        status = found["status"]
        seen = status.get("observedGeneration", 0) >= updated["metadata"]["generation"]
        return bool(seen and status["availableReplicas"] >= 8 and status["replicas"] == 13)

    await cluster.object_that(DEPLOYMENTS, name, surged, "with all it may have during the update")
    second, first = await _replica_sets(cluster, name)
    assert (first["spec"]["replicas"], second["spec"]["replicas"]) == (8, 5)
    assert second["status"].get("availableReplicas", 0) == 0
    await cluster.object_that(
        REPLICASETS, name_of(first), lambda o: o["status"].get("availableReplicas") == 8, "with 8 available"
    )

    await replace(cluster, DEPLOYMENTS, name, lambda o: o["spec"].update(replicas=30))
    for each, wanted in ((first, 20), (second, 13)):
        await cluster.object_that(
            REPLICASETS,
            name_of(each),
            lambda o, wanted=wanted: o["spec"]["replicas"] == wanted,  # type: ignore[misc]
            f"of {wanted}",
        )


@requirement("[sig-apps] Deployment should run the lifecycle of a Deployment [Conformance]")
async def test_lifecycle(cluster: Cluster) -> None:
    name, chosen = "test-deployment", "name=sample-pod"

    def labelled(value: str) -> Any:
        return lambda o: o["metadata"]["labels"].get("test-deployment") == value

    def counts(ready: int, value: str) -> Any:
        return lambda o: labelled(value)(o) and o["status"].get("readyReplicas") == ready == o["status"]["replicas"]

    async with watching(cluster, DEPLOYMENTS, chosen) as watched:
        await cluster.create(DEPLOYMENTS, workload(name, POD, _serves(), replicas=2))
        await watched.until(lambda e: e.type == "ADDED", "added")
        await watched.modified(lambda o: o["status"].get("readyReplicas") == 2, "two ready")
        everywhere = (await cluster.client.list(DEPLOYMENTS, label_selector=chosen)).items
        assert cluster.namespace in [each["metadata"]["namespace"] for each in everywhere]

        serve = {"name": "serve", "image": BUSYBOX, "command": ["/bin/sleep", "100000"]}
        pods = {"terminationGracePeriodSeconds": 0, "containers": [serve]}
        patch: Object = {"metadata": {"labels": {"test-deployment": "patched"}}}
        patch["spec"] = {"replicas": 1, "template": {"spec": pods}}
        patched = await cluster.patch(DEPLOYMENTS, name, patch, content_type=STRATEGIC)
        assert patched["spec"]["template"]["spec"]["containers"][0]["image"] == BUSYBOX
        await watched.modified(counts(1, "patched"), "one ready")

        status = await cluster.client.get(DEPLOYMENTS, name, cluster.namespace, subresource="status")
        assert status["metadata"]["uid"] == patched["metadata"]["uid"]
        patch = {"metadata": {"labels": {"test-deployment": "patched-status"}}, "status": {"readyReplicas": 0}}
        with pytest.raises(Invalid, match="availableReplicas: Invalid value: 1: cannot be greater than readyReplicas"):
            await cluster.patch(DEPLOYMENTS, name, patch, subresource="status")
        patch["status"]["availableReplicas"] = 0
        patched = await cluster.patch(DEPLOYMENTS, name, patch, subresource="status")
        assert patched["status"].get("readyReplicas", 0) == 0
        assert labelled("patched")(patched), "labels are not the status' to change"
        await watched.modified(lambda o: o["status"].get("readyReplicas", 0) == 0, "its status patched")
        await watched.modified(counts(1, "patched"), "its status corrected")

        def update(found: Object) -> None:
            found["metadata"]["labels"]["test-deployment"] = "updated"
            found["spec"]["replicas"] = 2
            _runs(_serves())(found)

        updated = await replace(cluster, DEPLOYMENTS, name, update)
        assert updated["spec"]["template"]["spec"]["containers"][0]["image"] == ECHO
        await watched.modified(counts(2, "updated"), "two ready again")

        condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set by e2e test"}
        updated = await replace(
            cluster, DEPLOYMENTS, name, lambda o: o["status"]["conditions"].append(condition), subresource="status"
        )
        assert "StatusUpdate" in [each["type"] for each in updated["status"]["conditions"]]
        await watched.modified(
            lambda o: "StatusUpdate" in [each["type"] for each in o["status"]["conditions"]], "its status updated"
        )
        await delete_collection(cluster, DEPLOYMENTS, chosen)
        await watched.deleted(name)
