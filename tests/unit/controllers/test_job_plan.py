"""Jobs: what to start, what to count, how they end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from controller_objects import ago, metadata, pod, template

from controlplane.controllers.job.indexes import format_indexes, parse_indexes
from controlplane.controllers.job.plan import JobPlan, plan_job
from controlplane.controllers.job.pod import make_pod
from controlplane.controllers.job.status import count_up, finished, is_finished
from controlplane.controllers.job.tally import TRACKING, backoff_seconds, ended_at
from controlplane.controllers.ttlafterfinished import seconds_left
from machinery.api.meta import Object, condition
from machinery.testing.clock import EPOCH

INDEX = "batch.kubernetes.io/job-completion-index"


def job(status: Object | None = None, **spec: Any) -> Object:
    made: Object = {"parallelism": 2, "completions": 4, "backoffLimit": 6, "selector": {"matchLabels": {"app": "web"}}}
    made |= {"template": template(), "podReplacementPolicy": "TerminatingOrFailed", **spec}
    made["template"]["spec"]["restartPolicy"] = spec.pop("restart", "Never")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata("job", generation=1),
        "spec": made,
        "status": {"startTime": ago(60), **(status or {})},
    }


def worker(name: str, phase: str = "Running", index: int | None = None, *, ended: float = 1, **more: Any) -> Object:
    annotations = {} if index is None else {INDEX: str(index)}
    annotations |= more.pop("annotations", {})
    made = pod(name, phase=phase, annotations=annotations, finalizers=[TRACKING], **more)
    if phase in ("Succeeded", "Failed"):
        code = 0 if phase == "Succeeded" else 3
        state = {"terminated": {"exitCode": code, "finishedAt": ago(ended)}}
        made["status"]["containerStatuses"] = [{"name": "c", "state": state, "restartCount": 0}]
    return made


def uid(p: Object) -> str:
    return str(p["metadata"]["uid"])


def plan(j: Object, *pods: Object, after: float = 0, **more: Any) -> JobPlan:
    return plan_job(j, list(pods), EPOCH + timedelta(seconds=after), **more)


def reason(made: JobPlan, kind: str) -> str:
    found = condition(made.status.get("conditions"), kind)
    return str(found["reason"]) if found is not None else ""


@pytest.mark.parametrize(
    ("spec", "status", "running", "created"),
    [
        ({}, {}, 0, 2),
        ({}, {}, 1, 1),
        ({}, {"succeeded": 3}, 0, 1),
        ({"parallelism": 0}, {}, 0, 0),
        ({"parallelism": 3, "completions": None}, {}, 0, 3),
        ({"parallelism": 3, "completions": None}, {"succeeded": 1}, 1, 0),
        ({"suspend": True}, {}, 0, 0),
    ],
)
def test_how_many_are_started(spec: dict[str, Any], status: Object, running: int, created: int) -> None:
    made = plan(job(status, **spec), *(worker(f"p{n}") for n in range(running)))
    assert len(made.create) == created
    assert made.status.get("active", 0) == running + created


def test_nothing_is_started_while_earlier_writes_are_unseen() -> None:
    assert plan(job(), settled=False).create == ()


def test_an_end_is_noted_first_then_counted_once() -> None:
    j = job(completions=2)
    done, running = worker("a", "Succeeded"), worker("b")
    made = plan(j, done, running)
    assert made.status["uncountedTerminatedPods"] == {"succeeded": [uid(done)]}
    assert made.release == (done,)
    assert "succeeded" not in made.status
    counted = count_up(made.status, j, {uid(done)})
    assert counted["succeeded"] == 1
    assert counted["uncountedTerminatedPods"] == {}
    # the cache still shows the finalizer: it is not counted again
    again = plan({**j, "status": counted}, done, running, untracked=frozenset({uid(done)}))
    assert again.status["uncountedTerminatedPods"] == {}
    assert again.release == ()
    # nor when the manager died after noting
    resumed = plan({**j, "status": made.status}, done, running)
    assert resumed.status["uncountedTerminatedPods"] == {"succeeded": [uid(done)]}
    assert resumed.release == (done,)


def test_completion() -> None:
    j = job({"succeeded": 3})
    made = plan(j, worker("a", "Succeeded"))
    assert reason(made, "SuccessCriteriaMet") == "CompletionsReached"
    assert made.finish is not None
    assert made.finish["message"] == "Reached expected number of succeeded pods"
    ended = finished(count_up(made.status, j, {uid(made.release[0])}), made.finish, EPOCH)
    assert ended["succeeded"] == 4
    assert ended["completionTime"]
    assert [c["type"] for c in ended["conditions"]] == ["SuccessCriteriaMet", "Complete"]
    assert is_finished({**j, "status": ended})


def test_a_work_queue_job_ends_when_all_pods_have() -> None:
    j = job(completions=None, parallelism=2)
    assert plan(j, worker("a", "Succeeded"), worker("b")).finish is None
    assert plan(j, worker("a", "Succeeded"), worker("b", "Failed")).finish is not None


def test_failures_are_retried_with_growing_pauses() -> None:
    made = plan(job(completions=1), worker("a", "Failed", ended=4))
    assert made.create == ()
    assert made.wait_seconds == 6.0
    assert len(plan(job(completions=1), worker("a", "Failed", ended=10)).create) == 1
    twice = plan(job(completions=1), worker("a", "Failed", ended=30), worker("b", "Failed", ended=15))
    assert twice.wait_seconds == 5.0
    # a success in between starts anew
    three = [worker("a", "Failed", ended=30), worker("b", "Succeeded", ended=20), worker("c", "Failed", ended=11)]
    assert plan(job(), *three).create
    assert backoff_seconds(50, EPOCH, EPOCH) == 600.0


def test_too_many_failures_end_the_job_and_its_pods() -> None:
    made = plan(job({"failed": 2}, backoffLimit=2), worker("a", "Failed"), worker("b"))
    assert reason(made, "FailureTarget") == "BackoffLimitExceeded"
    assert [p["metadata"]["name"] for p in made.delete] == ["b"]
    assert not made.delete_uncounted
    # what the end of the Job cuts short counts as failed, whatever becomes of it
    assert len(made.status["uncountedTerminatedPods"]["failed"]) == len(made.release) == 2
    assert made.finish is None
    # once they are gone it has failed, with the same words
    gone = {"failed": 3, "conditions": made.status["conditions"]}
    ended = plan(job(gone, backoffLimit=2))
    assert ended.finish is not None
    assert (ended.finish["type"], ended.finish["reason"]) == ("Failed", "BackoffLimitExceeded")


def test_restarts_count_where_pods_are_restarted_in_place() -> None:
    j = job(backoffLimit=2, restart="OnFailure")
    j["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    p = worker("a")
    p["status"]["containerStatuses"] = [{"name": "c", "restartCount": 2}]
    assert reason(plan(j, p), "FailureTarget") == "BackoffLimitExceeded"


def test_the_deadline() -> None:
    j = job(activeDeadlineSeconds=100)
    assert plan(j).wait_seconds == 40.0
    assert reason(plan(j, after=41), "FailureTarget") == "DeadlineExceeded"


def test_suspending_deletes_without_counting_and_resuming_starts_the_clock_anew() -> None:
    made = plan(job(suspend=True), worker("a"), worker("b"))
    assert len(made.delete) == 2
    assert made.delete_uncounted
    assert reason(made, "Suspended") == "JobSuspended"
    assert "startTime" not in made.status
    assert made.events == (("Normal", "Suspended", "Job suspended"),)
    resumed = plan({**job(), "status": made.status})
    assert reason(resumed, "Suspended") == "JobResumed"
    assert resumed.status["startTime"]


def test_surplus_pods_go() -> None:
    made = plan(job(parallelism=1), worker("a"), worker("b", ready=False), worker("c"))
    assert made.delete[0]["metadata"]["name"] == "b"
    assert len(made.delete) == 2


def test_a_pod_being_deleted_counts_as_failed_unless_only_failed_ones_are_replaced() -> None:
    leaving = worker("a", deletionTimestamp=ago(1), ready_for=50)
    made = plan(job(completions=1), leaving)
    assert made.status["uncountedTerminatedPods"] == {"failed": [uid(leaving)]}
    patient = plan(job(completions=1, podReplacementPolicy="Failed"), leaving)
    assert patient.status["uncountedTerminatedPods"] == {}
    assert patient.create == ()
    assert patient.status["terminating"] == 1


# -- indexed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("indexes", "text"), [([], ""), ([0], "0"), ([1, 2], "1,2"), ([1, 3, 4, 5, 7], "1,3-5,7"), ([0, 1, 2], "0-2")]
)
def test_sets_of_indexes(indexes: list[int], text: str) -> None:
    assert format_indexes(indexes) == text
    assert parse_indexes(text, 100) == set(indexes)


def test_indexes_beyond_the_completions_are_not_read() -> None:
    assert parse_indexes("1,8-12,x", 10) == {1, 8, 9}


def indexed(status: Object | None = None, **spec: Any) -> Object:
    return job(status, completionMode="Indexed", **spec)


def test_the_lowest_free_indexes_are_started() -> None:
    j = indexed({"completedIndexes": "0", "succeeded": 1})
    assert plan(j, worker("a", index=2)).create == (1,)


def test_successes_of_one_index_count_once() -> None:
    j = indexed({"completedIndexes": "1", "succeeded": 1})
    again, fresh = worker("a", "Succeeded", 1), worker("b", "Succeeded", 3)
    made = plan(j, again, fresh)
    assert made.status["completedIndexes"] == "1,3"
    assert count_up(made.status, j, {uid(again), uid(fresh)})["succeeded"] == 2


def test_duplicates_and_strays_go() -> None:
    made = plan(indexed(), worker("a", index=0), worker("b", index=0, ready=False), worker("c", index=9))
    assert sorted(p["metadata"]["name"] for p in made.delete) == ["b", "c"]


def test_the_index_stays_in_a_long_name() -> None:
    j = indexed()
    j["metadata"]["name"] = "j" * 63
    assert make_pod(j, 12)["metadata"]["generateName"] == "j" * 54 + "-12-"


def test_an_indexed_pod() -> None:
    j = indexed()
    made = make_pod(j, 3)
    assert made["metadata"]["generateName"] == "job-3-"
    assert made["metadata"]["annotations"][INDEX] == made["metadata"]["labels"][INDEX] == "3"
    assert made["metadata"]["finalizers"] == [TRACKING]
    assert made["spec"]["hostname"] == "job-3"
    assert made["spec"]["containers"][0]["env"][0]["name"] == "JOB_COMPLETION_INDEX"


def test_a_limit_for_each_index() -> None:
    j = indexed(completions=2, backoffLimitPerIndex=1, backoffLimit=2**31 - 1)
    first = worker("a", "Failed", 0, ended=30)
    made = plan(j, first, worker("b", index=1))
    assert made.create == (0,)
    assert made.release == ()  # it alone knows of the failure
    successor = make_pod(j, 0, first)
    assert successor["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"] == "1"
    counts = {"batch.kubernetes.io/job-index-failure-count": "1"}
    second = worker("c", "Failed", 0, ended=30, annotations=counts)
    made = plan(j, first, second, worker("b", index=1))
    assert made.status["failedIndexes"] == "0"
    assert made.create == ()
    assert len(made.release) == 2
    ended = plan(j, first, second, worker("b", "Succeeded", 1))
    assert reason(ended, "FailureTarget") == "FailedIndexes"


def test_ignored_failures_of_an_index_are_told_to_the_next_pod() -> None:
    ignore = policy("Ignore", onExitCodes={"operator": "In", "values": [3]})
    j = indexed(completions=2, backoffLimitPerIndex=1, backoffLimit=2**31 - 1, podFailurePolicy=ignore)
    known = {"batch.kubernetes.io/job-index-ignored-failure-count": "1"}
    last = worker("a", "Failed", 0, ended=15, annotations=known)
    told = make_pod(j, 0, last)["metadata"]["annotations"]
    assert told["batch.kubernetes.io/job-index-failure-count"] == "0"
    assert told["batch.kubernetes.io/job-index-ignored-failure-count"] == "2"
    made = plan(j, worker("c", "Failed", 0, ended=40), last, worker("b", index=1))
    assert (made.create, made.wait_seconds) == ((), 5.0)


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        ({"containerStatuses": [{"state": {"terminated": {"finishedAt": ago(7)}}}]}, 7),
        # one container of two still runs: the loss of readiness tells more
        (
            {
                "containerStatuses": [{"state": {"terminated": {"finishedAt": ago(9)}}}, {"state": {"running": {}}}],
                "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": ago(4)}],
            },
            4,
        ),
        ({}, 100),
    ],
)
def test_when_a_pod_ended(change: Object, seconds: int) -> None:
    p = worker("a", "Failed")
    p["status"] = {"phase": "Failed", **change}
    assert ended_at(p) == EPOCH - timedelta(seconds=seconds)


def test_a_deletion_was_asked_for_before_its_grace() -> None:
    p = worker("a", phase="Pending", deletionTimestamp=ago(0), deletionGracePeriodSeconds=30)
    assert ended_at(p) == EPOCH - timedelta(seconds=30)


def test_success_policy() -> None:
    rules = {"rules": [{"succeededIndexes": "0,2-3", "succeededCount": 2}]}
    j = indexed(successPolicy=rules)
    assert reason(plan(j, worker("a", "Succeeded", 0), worker("b", "Succeeded", 1)), "SuccessCriteriaMet") == ""
    made = plan(j, worker("a", "Succeeded", 0), worker("b", "Succeeded", 2), worker("c", index=1))
    assert reason(made, "SuccessCriteriaMet") == "SuccessPolicy"
    assert [p["metadata"]["name"] for p in made.delete] == ["c"]
    # what is not needed any more is no failure
    assert len(made.release) == 3
    assert made.status["uncountedTerminatedPods"] == {}
    assert (made.status["completedIndexes"], made.status["succeeded"]) == ("0,2", 2)


def test_a_job_is_over_only_when_all_it_made_is_seen() -> None:
    made = plan(job({"failed": 2}, backoffLimit=2), worker("a", "Failed"), worker("b"), settled=False)
    assert [p["metadata"]["name"] for p in made.release] == ["a"]
    assert made.delete == ()


# -- podFailurePolicy ----------------------------------------------------------------------------------------------


def policy(action: str, **match: Any) -> Object:
    return {"rules": [{"action": action, **match}]}


CODE_3 = {"onExitCodes": {"operator": "In", "values": [3]}}


def test_fail_job() -> None:
    made = plan(job(podFailurePolicy=policy("FailJob", **CODE_3)), worker("a", "Failed"))
    found = condition(made.status["conditions"], "FailureTarget")
    assert found is not None
    assert found["reason"] == "PodFailurePolicy"
    assert found["message"] == (
        "Container c for pod default/a failed with exit code 3 matching FailJob rule at index 0"
    )


def test_ignored_failures_do_not_count() -> None:
    j = job({"failed": 6}, podFailurePolicy=policy("Ignore", **CODE_3))
    ignored = worker("a", "Failed", ended=1)
    made = plan(j, ignored)
    assert made.status["uncountedTerminatedPods"] == {}
    assert made.release == (ignored,)
    assert reason(made, "FailureTarget") == ""
    assert (made.create, made.wait_seconds) == ((), 9.0)  # but the next pod waits as after any failure


def test_conditions_of_pods_match_too() -> None:
    rule = policy("Ignore", onPodConditions=[{"type": "DisruptionTarget", "status": "True"}])
    p = worker("a", "Failed")
    p["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    assert plan(job(podFailurePolicy=rule), p).status["uncountedTerminatedPods"] == {}


def test_time_to_live() -> None:
    j = job({"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": ago(4)}]})
    assert seconds_left(j, EPOCH) is None
    j["spec"]["ttlSecondsAfterFinished"] = 10
    assert seconds_left(j, EPOCH) == 6.0
