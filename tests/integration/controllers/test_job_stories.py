"""Jobs and CronJobs against a real API server; after the conformance tests of the same words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from controllers_cluster import Cluster, HollowNode, LateClock, background, counted, running_cluster, running_manager

from machinery.api.catalogue import CRONJOBS, JOBS, PODS
from machinery.api.meta import Object, annotations_of, condition, controller_of, labels_of, name_of, uid_of
from machinery.client.rest import STRATEGIC

INDEX = "batch.kubernetes.io/job-completion-index"


@asynccontextmanager
async def jobs(phase_of: Callable[[Object], str], controllers: str = "job") -> AsyncIterator[Cluster]:
    """A cluster whose pods go on as `phase_of` tells."""
    async with (
        running_cluster() as cluster,
        running_manager(cluster, f"serviceaccount,ttl-after-finished,garbagecollector,{controllers}"),
        background(HollowNode(cluster.admin, phase_of=phase_of).run()),
    ):
        yield cluster


def job(**spec: Any) -> Object:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "work", "namespace": "default"},
        "spec": {"template": template, **spec},
    }


def ended(kind: str) -> Callable[[Object], Any]:
    """Whether the Job has this terminal condition."""
    return lambda job: (c := condition((job.get("status") or {}).get("conditions"), kind)) and c["status"] == "True"


def index_of(pod: Object) -> int:
    return int(annotations_of(pod).get(INDEX, "-1"))


def job_figures() -> list[float]:
    """Jobs that succeeded, their pods that did, pods made, Jobs deleted when their time was up."""
    mode = {"completion_mode": "NonIndexed", "result": "succeeded"}
    return [
        counted("job_controller_jobs_finished_total", reason="CompletionsReached", **mode),
        counted("job_controller_job_pods_finished_total", **mode),
        counted("job_controller_job_pods_creation_total", reason="new", status="succeeded"),
        counted("ttl_after_finished_controller_job_deletion_duration_seconds_count"),
    ]


async def test_a_job_runs_to_completion_and_is_removed_after_its_time() -> None:
    before = job_figures()
    async with jobs(lambda _: "Succeeded") as cluster:
        await cluster.admin.create(JOBS, job(completions=4, parallelism=2))
        done = await cluster.object(JOBS, "work", ended("Complete"))
        status = done["status"]
        assert (status["succeeded"], status["ready"], status["terminating"]) == (4, 0, 0)
        assert [c["type"] for c in status["conditions"]] == ["SuccessCriteriaMet", "Complete"]
        assert {c["reason"] for c in status["conditions"]} == {"CompletionsReached"}
        assert status["completionTime"]
        assert status["uncountedTerminatedPods"] == {}
        event = await cluster.event("Completed")
        assert event["message"] == "Job completed"
        pods = await cluster.until(
            PODS, lambda found: len(found) == 4 and not any(p["metadata"].get("finalizers") for p in found)
        )
        assert {labels_of(p)["batch.kubernetes.io/job-name"] for p in pods} == {"work"}
        await cluster.admin.patch(JOBS, "work", {"spec": {"ttlSecondsAfterFinished": 0}}, "default")
        await cluster.gone(JOBS, "work")
        await cluster.until(PODS, lambda found: not found)
    assert [after - start for start, after in zip(before, job_figures(), strict=True)] == [1, 4, 4, 1]


async def test_an_indexed_job_goes_on_despite_indexes_that_fail() -> None:
    async with jobs(lambda pod: "Failed" if index_of(pod) % 2 else "Succeeded") as cluster:
        spec = {"completions": 4, "parallelism": 4, "completionMode": "Indexed", "backoffLimitPerIndex": 0}
        await cluster.admin.create(JOBS, job(**spec))
        failed = (await cluster.object(JOBS, "work", ended("Failed")))["status"]
        assert failed["completedIndexes"] == "0,2"
        assert failed["failedIndexes"] == "1,3"
        assert (failed["succeeded"], failed["failed"]) == (2, 2)
        terminal = condition(failed["conditions"], "Failed")
        assert terminal is not None
        assert (terminal["reason"], terminal["message"]) == ("FailedIndexes", "Job has failed indexes")
        pods = (await cluster.admin.list(PODS)).items
        assert sorted(p["spec"]["hostname"] for p in pods) == [f"work-{n}" for n in range(4)]


async def test_too_many_failed_indexes_end_a_job_early() -> None:
    async with jobs(lambda pod: "Failed" if index_of(pod) < 1 else "Running") as cluster:
        spec = {"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 0}
        await cluster.admin.create(JOBS, job(**spec, maxFailedIndexes=0))
        failed = (await cluster.object(JOBS, "work", ended("Failed")))["status"]
        terminal = condition(failed["conditions"], "Failed")
        assert terminal is not None
        assert terminal["reason"] == "MaxFailedIndexesExceeded"
        assert failed.get("active", 0) == 0


async def test_a_failure_policy_fails_the_job_or_the_index() -> None:
    async with jobs(lambda _: "Failed") as cluster:
        rule = {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [1]}}
        await cluster.admin.create(JOBS, job(backoffLimit=5, podFailurePolicy={"rules": [rule]}))
        failed = (await cluster.object(JOBS, "work", ended("Failed")))["status"]
        terminal = condition(failed["conditions"], "Failed")
        assert terminal is not None
        assert terminal["reason"] == "PodFailurePolicy"
        assert terminal["message"].endswith("failed with exit code 1 matching FailJob rule at index 0")
        assert failed["failed"] == 1
        await cluster.admin.delete(JOBS, "work", "default", propagation="Foreground")
        await cluster.gone(JOBS, "work")
        rule = {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}}
        spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 3}
        await cluster.admin.create(JOBS, job(**spec, podFailurePolicy={"rules": [rule]}))
        failed = (await cluster.object(JOBS, "work", ended("Failed")))["status"]
        assert failed["failedIndexes"] == "0,1"
        assert failed["failed"] == 2, "a failed index is not tried again"


async def test_disruptions_do_not_count_where_the_policy_ignores_them() -> None:
    disrupted: set[str] = set()
    async with jobs(lambda pod: "Running" if uid_of(pod) not in disrupted else "Failed") as cluster:
        rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
        await cluster.admin.create(JOBS, job(backoffLimit=0, podFailurePolicy={"rules": [rule]}))
        (pod,) = await cluster.until(PODS, lambda found: found and found[0]["status"]["phase"] == "Running")
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name_of(pod)}}
        await cluster.admin.create_subresource(PODS, name_of(pod), "eviction", eviction, "default")
        await cluster.until(PODS, lambda found: found and uid_of(found[0]) != uid_of(pod))
        current = await cluster.object(JOBS, "work", lambda j: j["status"].get("active") == 1)
        assert current["status"].get("failed", 0) == 0


async def test_a_success_policy_ends_a_job_before_all_indexes() -> None:
    async with jobs(lambda pod: "Succeeded" if index_of(pod) == 0 else "Running") as cluster:
        policy = {"rules": [{"succeededIndexes": "0"}]}
        spec = {"completions": 3, "parallelism": 3, "completionMode": "Indexed", "successPolicy": policy}
        await cluster.admin.create(JOBS, job(**spec))
        done = (await cluster.object(JOBS, "work", ended("Complete")))["status"]
        assert [c["type"] for c in done["conditions"]] == ["SuccessCriteriaMet", "Complete"]
        assert {c["reason"] for c in done["conditions"]} == {"SuccessPolicy"}
        assert done["completedIndexes"] == "0"
        await cluster.until(PODS, lambda found: len(found) == 1)


async def test_a_job_is_suspended_resumed_and_keeps_its_pods_together() -> None:
    async with jobs(lambda _: "Running") as cluster:
        made = await cluster.admin.create(JOBS, job(parallelism=2, completions=2, suspend=True))
        await cluster.object(JOBS, "work", ended("Suspended"))
        patch = {"metadata": {"annotations": {"patched": "true"}}, "status": {"startTime": "2026-01-01T00:00:00Z"}}
        patched = await cluster.admin.patch(JOBS, "work", patch, "default", subresource="status")
        assert patched["status"]["startTime"] == "2026-01-01T00:00:00Z"
        await cluster.admin.patch(JOBS, "work", {"spec": {"suspend": False}}, "default")
        pods = await cluster.until(PODS, lambda found: len(found) == 2)
        await cluster.event("Resumed")
        # An orphan is taken back; a pod whose labels go is let go.
        first, second = map(name_of, pods)
        await cluster.admin.patch(PODS, first, {"metadata": {"ownerReferences": None}}, "default")
        await cluster.object(PODS, first, lambda p: (controller_of(p) or {}).get("uid") == uid_of(made))
        await cluster.admin.patch(
            PODS, second, {"metadata": {"labels": {"$patch": "replace"}}}, "default", content_type=STRATEGIC
        )
        released = await cluster.object(PODS, second, lambda p: controller_of(p) is None)
        assert not released["metadata"].get("finalizers")
        await cluster.admin.patch(JOBS, "work", {"spec": {"suspend": True}}, "default")
        held = await cluster.object(JOBS, "work", ended("Suspended"))
        assert held["status"].get("failed", 0) == 0


async def test_a_cronjob_starts_jobs_and_minds_its_concurrency_policy() -> None:
    clock = LateClock()
    clock.ahead = 120.0  # what is made now has missed a time already
    async with (
        running_cluster() as cluster,
        running_manager(cluster, "cronjob,job,serviceaccount,garbagecollector", clock),
        background(HollowNode(cluster.admin).run()),
    ):

        async def tick(name: str) -> None:
            """Time for the next Job."""
            clock.ahead += 60.0
            patch = {"metadata": {"annotations": {"late": str(clock.ahead)}}}
            await cluster.admin.patch(CRONJOBS, name, patch, "default")

        async def first_job(policy: str) -> Object:
            spec = {"schedule": "* * * * *", "concurrencyPolicy": policy, "jobTemplate": {"spec": job()["spec"]}}
            name = policy.lower()
            await cluster.admin.create(CRONJOBS, {"metadata": {"name": name}, "spec": spec}, "default")
            return (await of(name, lambda found: len(found) == 1))[0]

        async def of(name: str, fulfilled: Callable[[list[Object]], Any]) -> list[Object]:
            def mine(jobs: list[Object]) -> list[Object]:
                return [j for j in jobs if name_of(j).startswith(f"{name}-")]

            return mine(await cluster.until(JOBS, lambda jobs: fulfilled(mine(jobs)), "default"))

        first = await first_job("Forbid")
        cron = await cluster.object(CRONJOBS, "forbid", lambda c: c["status"].get("active"))
        assert [ref["uid"] for ref in cron["status"]["active"]] == [uid_of(first)]
        due = annotations_of(first)["batch.kubernetes.io/cronjob-scheduled-timestamp"]
        assert due == cron["status"]["lastScheduleTime"]
        await tick("forbid")
        await cluster.event("JobAlreadyActive")
        assert len((await cluster.admin.list(JOBS, "default")).items) == 1

        first = await first_job("Replace")
        await tick("replace")
        await of("replace", lambda found: len(found) == 1 and uid_of(found[0]) != uid_of(first))

        first = await first_job("Allow")
        await tick("allow")
        await of("allow", lambda found: len(found) == 2)
        cron = await cluster.object(CRONJOBS, "allow", lambda c: len(c["status"].get("active", ())) == 2)
        assert uid_of(first) in [ref["uid"] for ref in cron["status"]["active"]]
        await cluster.admin.patch(CRONJOBS, "allow", {"spec": {"suspend": True}}, "default")
