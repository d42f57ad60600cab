"""ReplicaSets: how many pods to make, which to delete, what the status says."""

from __future__ import annotations

from typing import Any

import pytest
from controller_objects import ago, deployment, pod, replica_set

from controlplane.controllers.adoption import plan_claims
from controlplane.controllers.expectations import LAPSE_SECONDS, Expectations
from controlplane.controllers.ownership import selector_of
from controlplane.controllers.pods import deletion_order, from_template, next_availability
from controlplane.controllers.replicas import plan_replicas, plan_status
from controlplane.controllers.slowstart import slow_start
from machinery.api.catalogue import REPLICASETS
from machinery.api.meta import Object
from machinery.testing.clock import EPOCH, FakeClock


def rs(replicas: int) -> Object:
    return replica_set(deployment(replicas), "v1", replicas)


@pytest.mark.parametrize(
    ("wanted", "present", "create", "delete"), [(3, 1, 2, 0), (2, 2, 0, 0), (1, 3, 0, 2), (900, 0, 500, 0)]
)
def test_the_difference_is_made_up(wanted: int, present: int, create: int, delete: int) -> None:
    pods = [pod(f"p{n}") for n in range(present)]
    plan = plan_replicas(rs(wanted), pods, pods, EPOCH)
    assert (plan.create, len(plan.delete)) == (create, delete)


# each pair: the first is deleted before the second
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"node": "", "phase": "Pending"}, {"phase": "Pending"}),
        ({"phase": "Pending"}, {"phase": "Running"}),
        ({"ready": False}, {}),
        ({"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1"}}, {}),
        ({"node": "crowded"}, {"node": "calm"}),
        ({"ready_for": 5}, {"ready_for": 5000}),
        ({"creationTimestamp": ago(5)}, {"creationTimestamp": ago(5000)}),
    ],
)
def test_who_goes_first(first: dict[str, Any], second: dict[str, Any]) -> None:
    a, b = pod("a", **first), pod("b", **second)
    crowding = {"crowded": 3, "calm": 1}
    assert deletion_order([b, a], EPOCH, crowding)[0] is a
    assert deletion_order([a, b], EPOCH, crowding)[0] is a


def test_more_restarts_go_first() -> None:
    calm, restless = pod("calm"), pod("restless")
    restless["status"]["containerStatuses"] = [{"name": "c", "restartCount": 4}]
    assert deletion_order([calm, restless], EPOCH)[0] is restless
    # those of a restartable init container break a tie alone
    sidecar = {"initContainers": [{"name": "s", "image": "i", "restartPolicy": "Always"}]}
    beside = pod("beside", spec=sidecar)
    beside["status"]["initContainerStatuses"] = [{"name": "s", "restartCount": 9}]
    assert deletion_order([calm, beside, restless], EPOCH) == [restless, beside, calm]


def test_the_status_counts_what_the_pods_are() -> None:
    owner = rs(3)
    owner["spec"]["minReadySeconds"] = 10
    pods = [
        pod("old", labels={"app": "web", "pod-template-hash": "v1"}),
        pod("new", ready_for=3),
        pod("starting", ready=False),
    ]
    status = plan_status(owner, pods, 1, None, EPOCH)
    assert status == {
        "replicas": 3,
        "fullyLabeledReplicas": 1,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "terminatingReplicas": 1,
        "observedGeneration": 1,
    }
    assert next_availability(pods, 10, EPOCH) == 7.0


def test_a_failure_is_a_condition_until_it_is_over() -> None:
    owner = rs(1)
    failed = plan_status(owner, [], 0, ("FailedCreate", "exceeded quota"), EPOCH)
    assert failed["conditions"][0]["reason"] == "FailedCreate"
    owner["status"] = failed
    assert plan_status(owner, [], 0, ("FailedCreate", "another message"), EPOCH)["conditions"] == failed["conditions"]
    assert "conditions" not in plan_status(owner, [], 0, None, EPOCH)


def _controlled_by(uid: str) -> list[Object]:
    return [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": uid, "controller": True}]


def test_claims() -> None:
    owner = rs(1)
    uid, matching = owner["metadata"]["uid"], {"app": "web", "pod-template-hash": "v1"}
    mine = pod("mine", labels=matching, ownerReferences=_controlled_by(uid))
    strayed = pod("strayed", labels={"app": "other"}, ownerReferences=_controlled_by(uid))
    orphan = pod("orphan", labels=matching)
    leaving = pod("leaving", labels=matching, deletionTimestamp=ago(1))
    others = pod("others", labels=matching, ownerReferences=_controlled_by("else"))
    unrelated = pod("unrelated", labels={"app": "other"})
    everything = [mine, strayed, orphan, leaving, others, unrelated]
    claims = plan_claims(owner, selector_of(owner), everything)
    assert (claims.owned, claims.adopt, claims.release) == ([mine], [orphan], [strayed])
    owner["metadata"]["deletionTimestamp"] = ago(1)
    claims = plan_claims(owner, selector_of(owner), everything)
    assert (claims.owned, claims.adopt, claims.release) == ([mine], [], [])


def test_a_pod_of_the_template() -> None:
    owner = rs(1)
    made = from_template(owner["spec"]["template"], owner, REPLICASETS)
    assert made["metadata"]["generateName"] == "web-v1-"
    assert made["metadata"]["labels"] == {"app": "web", "pod-template-hash": "v1"}
    assert made["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": "web-v1",
            "uid": owner["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    assert made["spec"] == owner["spec"]["template"]["spec"]


async def test_expectations_hold_until_the_cache_shows_the_writes_or_they_lapse() -> None:
    clock = FakeClock()
    expected = Expectations(clock)
    assert expected.settled("ns/a")
    expected.expect("ns/a", creations=2, deletions=["u1"])
    expected.created("ns/a")
    expected.deleted("ns/a", "u1")
    expected.deleted("ns/a", "never asked for")
    assert not expected.settled("ns/a")
    expected.created("ns/a")
    assert expected.settled("ns/a")
    expected.expect("ns/a", creations=1)
    await clock.advance(LAPSE_SECONDS + 1)
    assert expected.settled("ns/a")


async def test_slow_start_doubles_and_stops_at_the_first_failing_batch() -> None:
    tried: list[int] = []

    async def write(number: int) -> None:
        tried.append(number)
        if number == 4:
            raise ValueError("full")

    result = await slow_start(20, write)
    assert tried == list(range(7))
    assert (result.succeeded, result.skipped, str(result.error)) == (6, 13, "full")
