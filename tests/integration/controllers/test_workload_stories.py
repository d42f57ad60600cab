"""Workload controllers against a real API server, each as one story."""

from __future__ import annotations

from controllers_cluster import pod_template, story, workload

from machinery.api.catalogue import DEPLOYMENTS, PODS, REPLICASETS
from machinery.api.meta import condition, labels_of, name_of


async def test_a_deployment_rolls_out_scales_and_rolls_back() -> None:
    async with story("deployment,replicaset,serviceaccount") as cluster:
        await cluster.admin.create(DEPLOYMENTS, workload(DEPLOYMENTS, "web", replicas=3))

        done = await cluster.object(DEPLOYMENTS, "web", lambda d: (d.get("status") or {}).get("availableReplicas") == 3)
        progressing = condition(done["status"]["conditions"], "Progressing")
        assert progressing is not None
        (rs,) = (await cluster.admin.list(REPLICASETS, "default")).items
        assert done["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
        assert rs["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
        event = await cluster.event("ScalingReplicaSet")
        assert event["message"] == f"Scaled up replica set {name_of(rs)} from 0 to 3"

        await cluster.admin.patch(DEPLOYMENTS, "web", {"spec": {"template": pod_template("web:2")}}, "default")
        done = await cluster.object(
            DEPLOYMENTS,
            "web",
            lambda d: (
                d["status"].get("updatedReplicas") == 3
                and d["status"]["replicas"] == 3
                and d["status"].get("availableReplicas") == 3
                and d["status"]["observedGeneration"] == 2
            ),
        )
        pods = await cluster.until(PODS, lambda found: len(found) == 3, "default")
        assert {p["spec"]["containers"][0]["image"] for p in pods} == {"web:2"}
        assert len({labels_of(p)["pod-template-hash"] for p in pods}) == 1

        await cluster.admin.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 5}}, "default")
        await cluster.until(PODS, lambda found: len(found) == 5, "default")

        await cluster.admin.patch(DEPLOYMENTS, "web", {"spec": {"template": pod_template("web:1")}}, "default")
        done = await cluster.object(
            DEPLOYMENTS, "web", lambda d: d["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
        )
        await cluster.until(
            PODS,
            lambda found: len(found) == 5 and all(p["spec"]["containers"][0]["image"] == "web:1" for p in found),
            "default",
        )
        assert len((await cluster.admin.list(REPLICASETS, "default")).items) == 2
