"""ReplicaSets, ReplicationControllers and DaemonSets against a real API server."""

from __future__ import annotations

from controllers_cluster import Cluster, pod_template, story, workload

from machinery.api.catalogue import (
    CONTROLLERREVISIONS,
    DAEMONSETS,
    NODES,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCEQUOTAS,
    SERVICEACCOUNTS,
)
from machinery.api.meta import (
    Object,
    annotations_of,
    condition,
    controller_of,
    labels_of,
    name_of,
    owner_reference,
    uid_of,
)
from machinery.api.resource import ResourceType
from machinery.client.rest import STRATEGIC


def failing(owner: Object) -> Object | None:
    return condition((owner.get("status") or {}).get("conditions"), "ReplicaFailure")


async def refused_by_quota(cluster: Cluster, kind: ResourceType) -> None:
    """Conformance: "should surface a failure condition on a common issue like exceeded quota"."""
    spec = {"hard": {"pods": "2"}}
    await cluster.admin.create(RESOURCEQUOTAS, {"metadata": {"name": "q"}, "spec": spec}, "default")
    await cluster.object(RESOURCEQUOTAS, "q", lambda q: (q.get("status") or {}).get("hard") == spec["hard"])
    owner = workload(kind, "web", replicas=3)
    if kind == REPLICATIONCONTROLLERS:
        owner["spec"]["selector"] = {"app": "web"}
    await cluster.admin.create(kind, owner)
    failed = await cluster.object(kind, "web", failing)
    told = failing(failed)
    assert told is not None
    assert (told["status"], told["reason"]) == ("True", "FailedCreate")
    assert "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2" in told["message"]
    event = await cluster.event("FailedCreate")
    assert event["message"].startswith('Error creating: pods "web-')
    await cluster.admin.patch(kind, "web", {"spec": {"replicas": 2}}, "default")
    await cluster.object(kind, "web", lambda o: not failing(o) and o["status"]["replicas"] == 2)


async def test_a_replicaset_tells_of_an_exceeded_quota() -> None:
    async with story("replicaset,resourcequota,serviceaccount") as cluster:
        await refused_by_quota(cluster, REPLICASETS)


async def test_a_replicationcontroller_tells_of_an_exceeded_quota() -> None:
    async with story("replicationcontroller,resourcequota,serviceaccount") as cluster:
        await refused_by_quota(cluster, REPLICATIONCONTROLLERS)


async def test_a_replicaset_adopts_releases_and_leaves_others_status_alone() -> None:
    async with story("replicaset,serviceaccount") as cluster:
        await cluster.object(SERVICEACCOUNTS, "default", bool)
        pod = {"metadata": {"name": "stray", "labels": {"app": "web"}}, "spec": pod_template()["spec"]}
        await cluster.admin.create(PODS, pod, "default")
        rs = await cluster.admin.create(REPLICASETS, workload(REPLICASETS, "web", replicas=1))
        stray = await cluster.object(PODS, "stray", controller_of)
        assert stray["metadata"]["ownerReferences"] == [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "web",
                "uid": uid_of(rs),
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
        await cluster.admin.patch(PODS, "stray", {"metadata": {"labels": {"app": "other"}}}, "default")
        await cluster.object(PODS, "stray", lambda p: controller_of(p) is None)
        await cluster.until(PODS, lambda found: len(found) == 2, "default")

        told = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
        await cluster.status(REPLICASETS, "web", {"conditions": [told]})
        await cluster.admin.patch(REPLICASETS, "web", {"spec": {"replicas": 2}}, "default")
        grown = await cluster.object(REPLICASETS, "web", lambda o: o["status"].get("readyReplicas") == 2)
        assert condition(grown["status"]["conditions"], "StatusUpdate") is not None, "another's condition stays"
        assert grown["status"]["observedGeneration"] == 2


def daemon(cluster_labels: dict[str, str] | None = None, **spec: object) -> Object:
    template = pod_template()
    if cluster_labels:
        template["spec"]["nodeSelector"] = cluster_labels
    return workload(DAEMONSETS, "d", template=template, **spec)


async def test_a_daemonset_follows_nodes_and_replaces_failed_pods() -> None:
    async with story("daemonset,serviceaccount,nodelifecycle") as cluster:
        await cluster.node("n1")
        await cluster.admin.create(DAEMONSETS, daemon({"color": "blue"}))
        await cluster.object(DAEMONSETS, "d", lambda d: (d.get("status") or {}).get("observedGeneration") == 1)
        assert (await cluster.admin.list(PODS)).items == []
        await cluster.admin.patch(NODES, "n1", {"metadata": {"labels": {"color": "blue"}}})
        ready = await cluster.object(DAEMONSETS, "d", lambda d: d["status"].get("numberAvailable") == 1)
        assert ready["status"]["desiredNumberScheduled"] == ready["status"]["updatedNumberScheduled"] == 1
        (pod,) = (await cluster.admin.list(PODS)).items
        assert labels_of(pod)["controller-revision-hash"]
        failed = {"status": {"phase": "Failed"}}
        await cluster.admin.patch(PODS, name_of(pod), failed, "default", content_type=STRATEGIC, subresource="status")
        await cluster.until(PODS, lambda found: found and name_of(found[0]) != name_of(pod), "default")
        await cluster.event("FailedDaemonPod")
        await cluster.admin.patch(NODES, "n1", {"metadata": {"labels": {"color": "green"}}})
        await cluster.until(PODS, lambda found: not found, "default")


async def test_controllerrevisions_live_as_conformance_has_them() -> None:
    """Conformance: "ControllerRevision should manage the lifecycle of a ControllerRevision"."""
    async with story("daemonset,serviceaccount,nodelifecycle") as cluster:
        await cluster.node("n1")
        made = daemon()
        made["metadata"]["annotations"] = {"kubernetes.io/change-cause": "first"}
        owner = await cluster.admin.create(DAEMONSETS, made)
        await cluster.object(DAEMONSETS, "d", lambda d: (d.get("status") or {}).get("numberAvailable") == 1)
        (first,) = (await cluster.admin.list(CONTROLLERREVISIONS, "default")).items
        (pod,) = (await cluster.admin.list(PODS)).items
        digest = labels_of(first)["controller-revision-hash"]
        assert name_of(first) == f"d-{digest}"
        assert labels_of(pod)["controller-revision-hash"] == digest
        assert annotations_of(first)["kubernetes.io/change-cause"] == "first"
        second = {
            "metadata": {
                "name": "d-other",
                "labels": {"app": "web", "controller-revision-hash": "other"},
                "ownerReferences": [owner_reference(owner, DAEMONSETS)],
            },
            "data": first["data"],
            "revision": first["revision"] + 1,
        }
        await cluster.admin.create(CONTROLLERREVISIONS, second, "default")
        await cluster.admin.delete(CONTROLLERREVISIONS, name_of(first), "default")
        template = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}
        await cluster.admin.patch(DAEMONSETS, "d", template, "default", content_type=STRATEGIC)
        both = await cluster.until(CONTROLLERREVISIONS, lambda found: len(found) == 2, "default")
        assert sorted(r["revision"] for r in both) == [2, 3]
        await cluster.admin.delete(CONTROLLERREVISIONS, "d-other", "default")
        await cluster.until(CONTROLLERREVISIONS, lambda found: [r["revision"] for r in found] == [3], "default")
        await cluster.until(
            PODS, lambda found: [p["spec"]["terminationGracePeriodSeconds"] for p in found] == [1], "default"
        )


async def test_revisions_of_the_same_content_become_one() -> None:
    async with story("daemonset,serviceaccount,nodelifecycle") as cluster:
        await cluster.node("n1")
        owner = await cluster.admin.create(DAEMONSETS, daemon())
        await cluster.object(DAEMONSETS, "d", lambda d: (d.get("status") or {}).get("numberAvailable") == 1)
        (first,) = (await cluster.admin.list(CONTROLLERREVISIONS, "default")).items
        (pod,) = (await cluster.admin.list(PODS)).items
        twin = {
            "metadata": {
                "name": "d-twin",
                "labels": {"app": "web"},
                "ownerReferences": [owner_reference(owner, DAEMONSETS)],
            },
            "data": first["data"],
            "revision": first["revision"] + 1,
        }
        await cluster.admin.create(CONTROLLERREVISIONS, twin, "default")
        # The next look at the DaemonSet, whatever leads to it, finds the twin.
        await cluster.admin.patch(DAEMONSETS, "d", {"metadata": {"labels": {"looked": "at"}}}, "default")
        (kept,) = await cluster.until(CONTROLLERREVISIONS, lambda found: len(found) == 1, "default")
        assert name_of(kept) == labels_of(kept)["controller-revision-hash"] == "d-twin"
        same = await cluster.object(PODS, name_of(pod), lambda p: labels_of(p)["controller-revision-hash"] == "d-twin")
        assert same["metadata"]["uid"] == pod["metadata"]["uid"]
        status = (await cluster.admin.get(DAEMONSETS, "d", "default"))["status"]
        assert status["updatedNumberScheduled"] == 1
