"""Jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cluster import Cluster, has_condition, pod, requirement, shell, shows
from objects import delete_collection, replace
from operations import contains
from watching import watching
from workloads import belongs_to, owners, pods_of, pods_that

from machinery.api.catalogue import JOBS, PODS
from machinery.api.meta import Object, name_of
from machinery.client.rest import STRATEGIC

pytest_plugins = ["cluster_fixture"]

NAME = "tried"
LABELS = {"job": NAME}
INDEX = "batch.kubernetes.io/job-completion-index"
FOR_EVER = "trap 'exit 143' TERM; while :; do sleep 1; done"


def _odd(code: int) -> str:
    return f"exit $((JOB_COMPLETION_INDEX % 2 ? {code} : 0))"


def _job(script: str, parallelism: int, completions: int, restart: str = "Never", **spec: Any) -> Object:
    pods: Object = pod(NAME, shell(script), restartPolicy=restart)["spec"]
    counts = {"parallelism": parallelism, "completions": completions}
    return {
        "metadata": {"name": NAME},
        "spec": counts | {"template": {"metadata": {"labels": LABELS}, "spec": pods}} | spec,
    }


def _indexed(script: str, parallelism: int, completions: int, **spec: Any) -> Object:
    return _job(script, parallelism, completions, completionMode="Indexed", **spec)


async def _has(cluster: Cluster, kind: str, reason: str = "") -> Object:
    """The job when it has the condition."""

    def holds(found: Object) -> bool:
        conditions = found.get("status", {}).get("conditions") or ()
        told = [each for each in conditions if each["type"] == kind and each["status"] == "True"]
        return bool(told) and (not reason or told[0]["reason"] == reason)

    return await cluster.object_that(JOBS, NAME, holds, f"{kind} {reason}")


async def _running(cluster: Cluster, count: int) -> list[Object]:
    return await pods_that(
        cluster,
        LABELS,
        lambda pods: [each["status"]["phase"] for each in pods] == ["Running"] * count,
        f"{count} running pods",
    )


FAILED, SUCCEEDED = "FailureTarget Failed", "SuccessCriteriaMet Complete"


@pytest.mark.parametrize(
    ("job", "conditions", "reason", "status"),
    [
        shows(
            _job(
                "exit 1",
                1,
                1,
                backoffLimit=1,
                podFailurePolicy={"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}]},
            ),
            FAILED,
            "PodFailurePolicy",
            {"failed": 1},
            name="[sig-apps] Job should allow to use the pod failure policy on exit code to fail the job early [Conformance]",
        ),
        shows(
            _indexed(_odd(1), 2, 4, backoffLimitPerIndex=1),
            FAILED,
            "FailedIndexes",
            {"failedIndexes": "1,3", "completedIndexes": "0,2", "failed": 4, "succeeded": 2},
            name="[sig-apps] Job should execute all indexes despite some failing when using backoffLimitPerIndex [Conformance]",
        ),
        shows(
            _indexed("exit 1", 1, 4, backoffLimitPerIndex=0, maxFailedIndexes=0),
            FAILED,
            "MaxFailedIndexesExceeded",
            {"failedIndexes": "0", "failed": 1},
            name="[sig-apps] Job should terminate job execution when the number of failed indexes exceeds maxFailedIndexes [Conformance]",
        ),
        shows(
            _indexed(
                _odd(42),
                2,
                2,
                backoffLimitPerIndex=1,
                podFailurePolicy={
                    "rules": [{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]
                },
            ),
            FAILED,
            "FailedIndexes",
            {"failedIndexes": "1", "completedIndexes": "0", "failed": 1, "succeeded": 1},
            name="[sig-apps] Job should mark indexes as failed when the FailIndex action is matched in podFailurePolicy [Conformance]",
        ),
        shows(
            _indexed("exit 0", 2, 5, successPolicy={"rules": [{"succeededIndexes": "0-4"}]}),
            SUCCEEDED,
            "SuccessPolicy",
            {"completedIndexes": "0-4", "succeeded": 5},
            name="[sig-apps] Job with successPolicy should succeeded when all indexes succeeded [Conformance]",
        ),
        shows(
            _indexed(
                f"[ $JOB_COMPLETION_INDEX = 0 ] && exit 0; {FOR_EVER}",
                2,
                5,
                successPolicy={"rules": [{"succeededIndexes": "0"}]},
            ),
            SUCCEEDED,
            "SuccessPolicy",
            {"completedIndexes": "0", "succeeded": 1},
            name="[sig-apps] Job with successPolicy succeededIndexes rule should succeeded even when some indexes remain pending [Conformance]",
        ),
        shows(
            _indexed(
                f"[ $JOB_COMPLETION_INDEX = 0 ] && exit 0; {FOR_EVER}",
                2,
                5,
                successPolicy={"rules": [{"succeededCount": 1}]},
            ),
            SUCCEEDED,
            "SuccessPolicy",
            {"completedIndexes": "0", "succeeded": 1},
            name="[sig-apps] Job with successPolicy succeededCount rule should succeeded even when some indexes remain pending [Conformance]",
        ),
    ],
)
async def test_policies(cluster: Cluster, job: Object, conditions: str, reason: str, status: Object) -> None:
    await cluster.create(JOBS, job)
    for each in conditions.split():
        found = await _has(cluster, each, reason)
    assert contains(found["status"], status), found["status"]
    assert not any(found["status"].get(count) for count in ("active", "ready", "terminating")), found["status"]
    for one, other in (("failedIndexes", "completedIndexes"), ("completedIndexes", "failedIndexes")):
        assert one in status or other not in status or not found["status"].get(one), found["status"]
    await pods_that(
        cluster, LABELS, lambda pods: all(p["status"]["phase"] in ("Succeeded", "Failed") for p in pods), "no more pods"
    )


@requirement(
    "[sig-apps] Job should create pods for an Indexed job with completion indexes and specified hostname [Conformance]"
)
async def test_indexed(cluster: Cluster) -> None:
    await cluster.create(JOBS, _indexed("echo $JOB_COMPLETION_INDEX $(hostname)", 2, 4))
    await _has(cluster, "Complete")
    found = {int(each["metadata"]["annotations"][INDEX]): each for each in await pods_of(cluster, LABELS)}
    assert sorted(found) == [0, 1, 2, 3]
    for index, each in found.items():
        assert each["status"]["phase"] == "Succeeded"
        assert each["metadata"]["labels"][INDEX] == str(index)
        assert each["spec"]["hostname"] == f"{NAME}-{index}"
        assert name_of(each).startswith(f"{NAME}-{index}-")
        assert await cluster.log(name_of(each)) == f"{index} {NAME}-{index}\n"


@requirement(
    "[sig-apps] Job should run a job to completion when tasks sometimes fail and are locally restarted [Conformance]"
)
async def test_restarts(cluster: Cluster) -> None:
    job = _job("[ -e /data/tried ] && exit 0; touch /data/tried; exit 1", 2, 4, "OnFailure")
    pods = job["spec"]["template"]["spec"]
    pods["volumes"] = [{"name": "data", "emptyDir": {}}]
    pods["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    await cluster.create(JOBS, job)
    found = await _has(cluster, "Complete")
    assert found["status"]["succeeded"] == 4
    done = await pods_of(cluster, LABELS)
    assert [each["status"]["phase"] for each in done] == ["Succeeded"] * 4
    assert [each["status"]["containerStatuses"][0]["restartCount"] for each in done] == [1] * 4


@requirement(
    "[sig-apps] Job should allow to use a pod failure policy to ignore failure matching on DisruptionTarget condition [Conformance]"
)
async def test_evicted(cluster: Cluster) -> None:
    folder = f"/tmp/{cluster.namespace}"
    marker = "/data/$JOB_COMPLETION_INDEX"
    policy = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}
    job = _indexed(
        f"[ -e {marker} ] && exit 0; touch {marker}; {FOR_EVER}", 3, 3, backoffLimit=0, podFailurePolicy=policy
    )
    pods = job["spec"]["template"]["spec"]
    pods["volumes"] = [{"name": "data", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}}]
    pods["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    first = await cluster.start(pod("finds-node", shell(FOR_EVER)))
    pods["nodeName"] = first["spec"]["nodeName"]
    try:
        await cluster.create(JOBS, job)
        running = await _running(cluster, 3)
        for index in range(3):
            each = next(p for p in running if p["metadata"]["annotations"][INDEX] == str(index))
            await cluster.exec(name_of(each), "sh", "-c", f"until [ -e /data/{index} ]; do sleep 0.1; done")
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name_of(each)}}
            await cluster.client.create_subresource(PODS, name_of(each), "eviction", eviction, cluster.namespace)
        found = await _has(cluster, "Complete")
        assert found["status"]["succeeded"] == 3
        assert not has_condition(found, "Failed")
    finally:
        volume = [{"name": "tmp", "hostPath": {"path": "/tmp"}}]
        clean = shell(f"rm -rf /host{folder[4:]}", volumeMounts=[{"name": "tmp", "mountPath": "/host"}])
        await cluster.run(pod("cleans", clean, nodeName=first["spec"]["nodeName"], volumes=volume))


@requirement("[sig-apps] Job should delete a job [Conformance]")
async def test_delete(cluster: Cluster) -> None:
    await cluster.create(JOBS, _job(FOR_EVER, 2, 4))
    await _running(cluster, 2)
    assert (await cluster.get(JOBS, NAME))["status"]["active"] == 2
    await cluster.delete(JOBS, NAME, propagation="Background")
    await pods_that(cluster, LABELS, lambda pods: not pods, "its pods gone")


@requirement("[sig-apps] Job should adopt matching orphans and release non-matching pods [Conformance]")
async def test_adopts_and_releases(cluster: Cluster) -> None:
    owner = await cluster.create(JOBS, _job(FOR_EVER, 2, 4))
    name = name_of((await _running(cluster, 2))[0])
    orphaned = await replace(cluster, PODS, name, lambda o: o["metadata"].pop("ownerReferences"))
    assert not owners(orphaned)
    adopted = await cluster.pod_that(name, owners, "adopted")
    assert belongs_to(adopted, owner)
    assert [(each["kind"], each["name"]) for each in owners(adopted)] == [("Job", NAME)]
    await replace(cluster, PODS, name, lambda o: o["metadata"].pop("labels"))
    await cluster.pod_that(name, lambda o: not owners(o), "released")


@requirement("[sig-apps] Job should apply changes to a job status [Conformance]")
async def test_status(cluster: Cluster) -> None:
    made = await cluster.create(JOBS, _job(FOR_EVER, 2, 4))
    await _running(cluster, 2)

    def condition(kind: str) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"type": kind, "status": "True", "lastTransitionTime": now}

    status = {
        "conditions": [condition("CustomConditionType")],
        "ready": 0,
        "terminating": 0,
        "uncountedTerminatedPods": {},
    }
    patch = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": status}
    patched = await cluster.patch(JOBS, NAME, patch, subresource="status")
    assert has_condition(patched, "CustomConditionType")
    assert patched["metadata"]["annotations"]["patchedstatus"] == "true"

    new = condition("CustomConditionUpdate")
    updated = await replace(cluster, JOBS, NAME, lambda o: o["status"].update(conditions=[new]), subresource="status")
    assert has_condition(updated, "CustomConditionUpdate")
    got = await cluster.client.get(JOBS, NAME, cluster.namespace, subresource="status")
    assert (got["kind"], got["metadata"]["uid"]) == ("Job", made["metadata"]["uid"])
    assert has_condition(got, "CustomConditionUpdate")


@requirement("[sig-apps] Job should manage the lifecycle of a job [Conformance]")
async def test_lifecycle(cluster: Cluster) -> None:
    marker, chosen = {"e2e-job-label": NAME}, f"e2e-job-label={NAME}"
    job = _job("exit 0", 2, 4, suspend=True)
    job["metadata"]["labels"] = marker
    async with watching(cluster, JOBS, chosen) as watched:
        await cluster.create(JOBS, job)
        patch = {"metadata": {"labels": {NAME: "patched"}}}
        patched = await cluster.patch(JOBS, NAME, patch, content_type=STRATEGIC)
        assert patched["metadata"]["labels"][NAME] == "patched"
        await watched.modified(lambda o: o["metadata"]["labels"].get(NAME) == "patched", "patched")
        assert patched["spec"]["suspend"] is True

        def change(found: Object) -> None:
            found["spec"]["suspend"] = False
            found["metadata"].setdefault("annotations", {})["updated"] = "true"

        await replace(cluster, JOBS, NAME, change)
        seen = await watched.modified(
            lambda o: o["metadata"].get("annotations", {}).get("updated") == "true", "updated"
        )
        assert seen["spec"]["suspend"] is False
        everywhere = (await cluster.client.list(JOBS, label_selector=chosen)).items
        assert cluster.namespace in [each["metadata"]["namespace"] for each in everywhere]
        await _has(cluster, "Complete")
        await delete_collection(cluster, JOBS, chosen, propagationPolicy="Background")
        await watched.deleted(NAME)
    assert (await cluster.client.list(JOBS, cluster.namespace, label_selector=chosen)).items == []
    await pods_that(cluster, LABELS, lambda pods: not pods, "its pods gone")
