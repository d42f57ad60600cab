"""What the Deployment controller does next, situation by situation."""

from __future__ import annotations

from datetime import timedelta

import pytest
from controller_objects import ago, deployment, replica_set

from controlplane.controllers.deployment import conditions
from controlplane.controllers.deployment.plan import DeploymentPlan, plan_deployment
from controlplane.controllers.deployment.sets import sort_out
from machinery.api.meta import Object, condition
from machinery.testing.clock import EPOCH


def plan(d: Object, *sets: Object, old_pods_run: bool = False) -> DeploymentPlan:
    return plan_deployment(d, list(sets), EPOCH, old_pods_run=old_pods_run)


def sizes(made: DeploymentPlan) -> dict[str, int]:
    return {rs["metadata"]["name"]: rs["spec"]["replicas"] for rs in made.updates}


def progressing(made: DeploymentPlan) -> Object:
    found = condition(made.status["conditions"], "Progressing")
    assert found is not None
    return found


def test_a_new_deployment_gets_its_replica_set() -> None:
    made = plan(deployment(3))
    assert made.create is not None
    rs = made.create
    digest = rs["metadata"]["labels"]["pod-template-hash"]
    assert rs["metadata"]["name"] == f"web-{digest}"
    assert rs["spec"]["replicas"] == 3
    assert rs["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": digest}
    assert rs["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] == digest
    assert rs["metadata"]["annotations"] == {
        "deployment.kubernetes.io/revision": "1",
        "deployment.kubernetes.io/desired-replicas": "3",
        "deployment.kubernetes.io/max-replicas": "4",
    }
    assert made.revision == "1"
    assert made.events == (("ScalingReplicaSet", f"Scaled up replica set web-{digest} from 0 to 3"),)
    assert progressing(made)["reason"] == "NewReplicaSetCreated"
    assert progressing(made)["message"] == f'Created new replica set "web-{digest}"'
    available = condition(made.status["conditions"], "Available")
    assert available is not None
    assert (available["status"], available["reason"]) == ("False", "MinimumReplicasUnavailable")
    assert made.status["unavailableReplicas"] == 3


def test_the_hash_is_stable_and_moves_with_collisions() -> None:
    first, again = plan(deployment(3)).create, plan(deployment(1)).create
    collided = plan(deployment(3, status={"collisionCount": 1})).create
    assert first is not None
    assert again is not None
    assert collided is not None
    assert first["metadata"]["name"] == again["metadata"]["name"] != collided["metadata"]["name"]


@pytest.mark.parametrize(
    ("old", "old_available", "new", "new_available", "expected"),
    [
        # 4 replicas, surge 1, unavailable 1: at most 5 pods, at least 3 available
        (4, 4, 0, 0, {"web-v2": 1}),
        (4, 4, 1, 0, {"web-v1": 3}),
        (3, 3, 1, 0, {"web-v2": 2}),
        (3, 3, 2, 0, {}),  # nothing may go before something new is available
        (3, 3, 2, 2, {"web-v1": 1}),
        (1, 1, 2, 2, {"web-v2": 4}),
        (1, 1, 4, 3, {"web-v1": 0}),
        (0, 0, 4, 4, {}),
        (4, 1, 1, 0, {"web-v1": 3}),  # an unhealthy old pod goes first
        (4, 0, 1, 0, {"web-v1": 3}),  # and no more than may be missing
    ],
)
def test_rolling_update_keeps_its_bounds(
    old: int, old_available: int, new: int, new_available: int, expected: dict[str, int]
) -> None:
    d = deployment(4, image="v2")
    made = plan(
        d,
        replica_set(d, "v1", old, available=old_available, age=200),
        replica_set(d, "v2", new, available=new_available, revision=2),
    )
    assert made.create is None
    assert sizes(made) == expected


def test_scaling_one_replica_set_is_not_a_rollout() -> None:
    d = deployment(5)
    made = plan(d, replica_set(d, "v1", 3, desired=3, maximum=4))
    assert sizes(made) == {"web-v1": 5}
    assert made.updates[0]["metadata"]["annotations"]["deployment.kubernetes.io/desired-replicas"] == "5"
    assert made.updates[0]["metadata"]["annotations"]["deployment.kubernetes.io/max-replicas"] == "7"
    assert made.events == (("ScalingReplicaSet", "Scaled up replica set web-v1 from 3 to 5"),)


@pytest.mark.parametrize(
    ("replicas", "sets", "expected"),
    [
        # documented example: 10 → 15 with 8 old and 5 new of at most 13: 5 more, spread 3 and 2
        (15, {"v1": 8, "v2": 5}, {"web-v1": 11, "web-v2": 7}),
        (5, {"v1": 8, "v2": 5}, {"web-v1": 5, "web-v2": 3}),
        (0, {"v1": 8, "v2": 5}, {"web-v1": 0, "web-v2": 0}),
    ],
)
def test_scaling_in_mid_rollout_is_proportional(replicas: int, sets: dict[str, int], expected: dict[str, int]) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    d = deployment(replicas, image="v2", strategy=rolling)
    made = plan(
        d,
        *(
            replica_set(d, image, size, desired=10, maximum=13, age=200 if image == "v1" else 100)
            for image, size in sets.items()
        ),
    )
    assert sizes(made) == expected


def test_recreate_waits_for_the_last_old_pod() -> None:
    d = deployment(3, image="v2", strategy={"type": "Recreate"})
    first = plan(d, replica_set(d, "v1", 3))
    assert sizes(first) == {"web-v1": 0}
    assert first.create is None
    emptied = replica_set(d, "v1", 0, actual=0)
    assert plan(d, emptied, old_pods_run=True).create is None
    last = plan(d, emptied)
    assert last.create is not None
    assert last.create["spec"]["replicas"] == 3


def test_a_rollback_takes_the_old_set_up_again_with_a_new_revision() -> None:
    d = deployment(2, image="v1")
    made = plan(d, replica_set(d, "v1", 0, age=300, revision=1), replica_set(d, "v2", 2, revision=2))
    changed = {rs["metadata"]["name"]: rs for rs in made.updates}
    annotations = changed["web-v1"]["metadata"]["annotations"]
    assert annotations["deployment.kubernetes.io/revision"] == "3"
    assert annotations["deployment.kubernetes.io/revision-history"] == "1"
    assert changed["web-v1"]["spec"]["replicas"] == 1
    assert made.revision == "3"


def test_annotations_are_copied_but_for_kubectls_own() -> None:
    d = deployment(1)
    d["metadata"]["annotations"] = {
        "kubernetes.io/change-cause": "because",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    made = plan(d, replica_set(d, "v1", 1))
    annotations = made.updates[0]["metadata"]["annotations"]
    assert annotations["kubernetes.io/change-cause"] == "because"
    assert "kubectl.kubernetes.io/last-applied-configuration" not in annotations


def test_paused_scales_but_does_not_roll() -> None:
    d = deployment(4, image="v2", paused=True)
    made = plan(d, replica_set(d, "v1", 2, desired=2))
    assert sizes(made) == {"web-v1": 4}
    assert made.create is None
    assert progressing(made)["reason"] == "DeploymentPaused"
    resumed = deployment(4, status={"conditions": made.status["conditions"]})
    told = plan(resumed, replica_set(resumed, "v1", 4, available=2))
    assert condition(told.status["conditions"], "Progressing")


def _complete(d: Object) -> Object:
    d["status"] = {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
    }
    return d


def test_history_is_kept_to_its_limit() -> None:
    d = _complete(deployment(2, image="v4", revisionHistoryLimit=1))
    sets = [replica_set(d, f"v{n}", 0, revision=n, age=500 - n) for n in (1, 2, 3)]
    made = plan(d, *sets, replica_set(d, "v4", 2, revision=4))
    assert [rs["metadata"]["name"] for rs in made.deletes] == ["web-v1", "web-v2"]
    still_running = replica_set(d, "v1", 0, revision=1, age=499, actual=1)
    made = plan(d, still_running, *sets[1:], replica_set(d, "v4", 2, revision=4))
    assert [rs["metadata"]["name"] for rs in made.deletes] == ["web-v2"]


def test_completion_is_told_once_and_stands() -> None:
    d = _complete(deployment(2))
    d["status"]["conditions"] = [
        conditions.make("Progressing", "True", "ReplicaSetUpdated", "…", EPOCH - timedelta(seconds=5))
    ]
    made = plan(d, replica_set(d, "v1", 2))
    told = progressing(made)
    assert (told["reason"], told["message"]) == (
        "NewReplicaSetAvailable",
        'ReplicaSet "web-v1" has successfully progressed.',
    )
    # a pod that is lost later is no lack of progress
    d["status"]["conditions"] = made.status["conditions"]
    later = plan_deployment(
        d, [replica_set(d, "v1", 2, available=1)], EPOCH + timedelta(seconds=3600), old_pods_run=False
    )
    assert progressing(later)["reason"] == "NewReplicaSetAvailable"


def test_lack_of_progress_is_told_after_the_deadline() -> None:
    d = deployment(2, progressDeadlineSeconds=10, status={"replicas": 2, "updatedReplicas": 2, "readyReplicas": 1})
    d["status"]["availableReplicas"] = 1
    began = EPOCH - timedelta(seconds=9)
    d["status"]["conditions"] = [conditions.make("Progressing", "True", "ReplicaSetUpdated", "…", began)]
    stuck = replica_set(d, "v1", 2, available=1)
    made = plan(d, stuck)
    assert progressing(made)["status"] == "True"
    assert conditions.seconds_to_deadline(d, made.status, EPOCH) == 2.0
    late = plan_deployment(d, [stuck], EPOCH + timedelta(seconds=2), old_pods_run=False)
    told = progressing(late)
    assert (told["status"], told["reason"]) == ("False", "ProgressDeadlineExceeded")
    assert told["message"] == 'ReplicaSet "web-v1" has timed out progressing.'
    assert conditions.seconds_to_deadline(d, late.status, EPOCH) is None


def test_a_replica_sets_failure_shows_in_the_deployment() -> None:
    d = deployment(2)
    rs = replica_set(d, "v1", 2, available=0, actual=0)
    rs["status"]["conditions"] = [
        {
            "type": "ReplicaFailure",
            "status": "True",
            "reason": "FailedCreate",
            "message": "exceeded quota",
            "lastTransitionTime": ago(3),
        }
    ]
    found = condition(plan(d, rs).status["conditions"], "ReplicaFailure")
    assert found is not None
    assert (found["reason"], found["message"]) == ("FailedCreate", "exceeded quota")


def test_pods_that_go_are_summed_up_once_every_set_tells_of_its_own() -> None:
    d = deployment(3)
    new, old = replica_set(d, "v1", 2), replica_set(d, "v0", 1)
    assert "terminatingReplicas" not in plan(d, new, old).status
    new["status"]["terminatingReplicas"] = 2
    assert "terminatingReplicas" not in plan(d, new, old).status
    old["status"] = {"replicas": 0}  # one that its controller has not looked at yet has none
    assert plan(d, new, old).status["terminatingReplicas"] == 2
    assert plan(deployment(3)).status["terminatingReplicas"] == 0


def test_a_deployment_being_deleted_only_counts() -> None:
    d = deployment(5)
    d["metadata"]["deletionTimestamp"] = ago(1)
    made = plan(d, replica_set(d, "v1", 3))
    assert made.create is None
    assert made.deletes == ()
    assert sizes(made) == {}
    assert made.status["replicas"] == 3


def test_nothing_to_do_is_no_write() -> None:
    d = deployment(2)
    rs = replica_set(d, "v1", 2)
    first = plan(d, rs)
    settled = {**d, "status": first.status}
    settled["metadata"] = {**d["metadata"], "annotations": {"deployment.kubernetes.io/revision": "1"}}
    second = plan(settled, rs)
    third = plan({**settled, "status": second.status}, rs)
    assert (third.create, third.updates, third.deletes, third.revision) == (None, (), (), None)
    assert third.status == second.status


def test_the_oldest_of_equal_templates_is_the_new_set() -> None:
    d = deployment(1)
    older, younger = replica_set(d, "v1", 1, age=50), replica_set(d, "v1", 0, age=10)
    younger["metadata"]["name"] = "web-again"
    fleet = sort_out(d, [younger, older])
    assert fleet.new is older
    assert fleet.old == (younger,)
