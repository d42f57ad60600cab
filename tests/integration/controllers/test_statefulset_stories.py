"""StatefulSets against a real API server."""

from __future__ import annotations

from controllers_cluster import Cluster, pod_template, story, workload

from machinery.api.catalogue import CONTROLLERREVISIONS, PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS
from machinery.api.meta import Object, condition, labels_of, name_of, uid_of
from machinery.client.rest import STRATEGIC


def images(pods: list[Object]) -> dict[str, str]:
    return {name_of(p): p["spec"]["containers"][0]["image"] for p in pods}


def stateful(**spec: object) -> Object:
    return workload(STATEFULSETS, "db", serviceName="db", **spec)


async def ready(cluster: Cluster, count: int) -> Object:
    return await cluster.object(
        STATEFULSETS,
        "db",
        lambda s: (
            (s.get("status") or {}).get("readyReplicas", 0) == count
            and s["status"]["replicas"] == count
            and s["status"]["observedGeneration"] == s["metadata"]["generation"]
        ),
    )


async def test_a_statefulset_updates_in_phases_and_rolls_back() -> None:
    async with story("statefulset,serviceaccount") as cluster:
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}
        await cluster.admin.create(STATEFULSETS, stateful(replicas=3, updateStrategy=strategy))
        first = await ready(cluster, 3)
        assert first["status"]["currentRevision"] == first["status"]["updateRevision"]
        pods = (await cluster.admin.list(PODS)).items
        assert sorted(map(name_of, pods)) == ["db-0", "db-1", "db-2"]
        one = next(p for p in pods if name_of(p) == "db-1")
        assert labels_of(one)["apps.kubernetes.io/pod-index"] == "1"
        assert labels_of(one)["statefulset.kubernetes.io/pod-name"] == "db-1"
        assert (one["spec"]["hostname"], one["spec"]["subdomain"]) == ("db-1", "db")

        await cluster.admin.patch(STATEFULSETS, "db", {"spec": {"template": pod_template("web:2")}}, "default")
        held = await cluster.object(
            STATEFULSETS, "db", lambda s: s["status"]["updateRevision"] != s["status"]["currentRevision"]
        )
        assert set(images((await cluster.admin.list(PODS)).items).values()) == {"web:1"}, "the partition holds all back"

        for partition, new in ((2, {"db-2"}), (1, {"db-1", "db-2"})):
            patch = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": partition}}}}
            await cluster.admin.patch(STATEFULSETS, "db", patch, "default", content_type=STRATEGIC)

            def moved(pods: list[Object], new: set[str] = new) -> bool:
                return {n for n, image in images(pods).items() if image == "web:2"} == new and len(pods) == 3

            await cluster.until(PODS, moved, "default")
            await ready(cluster, 3)
        canary = await cluster.object(STATEFULSETS, "db", lambda s: s["status"].get("updatedReplicas") == 2)
        assert canary["status"]["currentReplicas"] == 1
        assert canary["status"]["currentRevision"] == held["status"]["currentRevision"]

        # A pod of the old part that is lost comes back as it was.
        await cluster.admin.delete(PODS, "db-0", "default", grace_seconds=0)
        await cluster.until(PODS, lambda pods: images(pods).get("db-0") == "web:1" and len(pods) == 3, "default")
        await ready(cluster, 3)
        patch = {"spec": {"template": pod_template("web:1"), "updateStrategy": {"rollingUpdate": {"partition": 0}}}}
        await cluster.admin.patch(STATEFULSETS, "db", patch, "default", content_type=STRATEGIC)
        await cluster.until(PODS, lambda pods: set(images(pods).values()) == {"web:1"} and len(pods) == 3, "default")
        back = await cluster.object(
            STATEFULSETS,
            "db",
            lambda s: (
                s["status"].get("readyReplicas") == 3
                and s["status"]["currentRevision"] == s["status"]["updateRevision"]
            ),
        )
        assert back["status"]["currentRevision"] == first["status"]["currentRevision"], "the first revision again"
        assert len((await cluster.admin.list(CONTROLLERREVISIONS)).items) == 2


async def test_a_statefulset_keeps_conditions_claims_and_identity() -> None:
    async with story("statefulset,serviceaccount,garbagecollector,pvc-protection") as cluster:
        template = {
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
        made = stateful(replicas=2, volumeClaimTemplates=[template], persistentVolumeClaimRetentionPolicy=policy)
        await cluster.admin.create(STATEFULSETS, made)
        await ready(cluster, 2)
        claims = (await cluster.admin.list(PERSISTENTVOLUMECLAIMS)).items
        assert sorted(map(name_of, claims)) == ["data-db-0", "data-db-1"]
        told = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
        await cluster.status(STATEFULSETS, "db", {"conditions": [told]})

        # An evicted pod is made again under its name.
        before = await cluster.admin.get(PODS, "db-0", "default")
        await cluster.admin.patch(
            PODS, "db-0", {"status": {"phase": "Failed"}}, "default", content_type=STRATEGIC, subresource="status"
        )
        await cluster.object(PODS, "db-0", lambda p: uid_of(p) != uid_of(before))

        await cluster.admin.patch(STATEFULSETS, "db", {"spec": {"replicas": 1}}, "default")
        await cluster.gone(PERSISTENTVOLUMECLAIMS, "data-db-1")
        smaller = await ready(cluster, 1)
        assert condition(smaller["status"]["conditions"], "StatusUpdate") is not None
        await cluster.admin.delete(STATEFULSETS, "db", "default", propagation="Foreground")
        await cluster.gone(STATEFULSETS, "db")
        await cluster.gone(PERSISTENTVOLUMECLAIMS, "data-db-0")
