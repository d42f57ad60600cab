"""StatefulSets: names, order, updates, claims."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from controller_objects import ago, metadata, pod, template

from controlplane.controllers.revisions import make, plan_revision, surplus, template_of
from controlplane.controllers.statefulset.identity import claim_owners, claims_of, is_stale_claim, make_pod
from controlplane.controllers.statefulset.plan import SetPlan, plan_set
from machinery.api.catalogue import STATEFULSETS
from machinery.api.meta import Object
from machinery.testing.clock import EPOCH


def sts(replicas: int = 3, *, image: str = "v1", status: Object | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {**metadata("db", generation=1), "uid": "set"},
        "spec": {
            "replicas": replicas,
            "serviceName": "db",
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(image),
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            **spec,
        },
        "status": status or {},
    }


def revision(owner: Object, number: int = 1) -> Object:
    made = make(owner, STATEFULSETS, number, 0)
    return {**made, "metadata": {**made["metadata"], "uid": f"rev-{number}"}}


V1, V2 = revision(sts(image="v1"), 1), revision(sts(image="v2"), 2)


def member(ordinal: int, rev: Object = V1, **more: Any) -> Object:
    name = f"db-{ordinal}"
    labels = {
        "app": "web",
        "statefulset.kubernetes.io/pod-name": name,
        "apps.kubernetes.io/pod-index": str(ordinal),
        "controller-revision-hash": rev["metadata"]["name"],
    }
    return pod(name, labels=labels, **more)


def plan(owner: Object, *pods: Object, current: Object = V1, update: Object = V1) -> SetPlan:
    return plan_set(owner, current, update, 0, list(pods), EPOCH)


def names(pods: list[Object]) -> list[str]:
    return [p["metadata"]["name"] for p in pods]


def test_a_pod_has_its_name_its_labels_and_its_storage() -> None:
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    owner = sts(volumeClaimTemplates=[claim])
    made = make_pod(owner, V1, 2)
    assert made["metadata"]["name"] == made["spec"]["hostname"] == "db-2"
    assert made["spec"]["subdomain"] == "db"
    assert made["metadata"]["labels"] == {
        "app": "web",
        "statefulset.kubernetes.io/pod-name": "db-2",
        "apps.kubernetes.io/pod-index": "2",
        "controller-revision-hash": V1["metadata"]["name"],
    }
    assert made["spec"]["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-2"}}]
    (made_claim,) = claims_of(owner, 2)
    assert made_claim["metadata"] == {"name": "data-db-2", "namespace": "default", "labels": {"app": "web"}}


@pytest.mark.parametrize(
    ("pods", "created"),
    [
        ([], ["db-0"]),
        ([member(0)], ["db-1"]),
        ([member(0, ready=False)], []),
        ([member(0, phase="Pending")], []),
        ([member(1), member(2)], ["db-0"]),
        ([member(0), member(1), member(2)], []),
        ([member(0, deletionTimestamp=ago(1))], []),
    ],
)
def test_pods_are_made_one_after_the_other(pods: list[Object], created: list[str]) -> None:
    assert names(plan(sts(), *pods).create) == created


def test_parallel_makes_all_at_once() -> None:
    made = plan(sts(podManagementPolicy="Parallel"), member(1, ready=False))
    assert names(made.create) == ["db-0", "db-2"]


def test_other_first_ordinals() -> None:
    made = plan(sts(2, ordinals={"start": 5}, podManagementPolicy="Parallel"), member(0))
    assert names(made.create) == ["db-5", "db-6"]
    assert names(made.delete) == ["db-0"]


def test_scaling_down_takes_the_last_and_waits() -> None:
    four = [member(n) for n in range(4)]
    assert names(plan(sts(2), *four).delete) == ["db-3"]
    assert names(plan(sts(2), *four[:3], member(3, deletionTimestamp=ago(1))).delete) == []
    assert names(plan(sts(2), member(0), member(1, ready=False), *four[2:]).delete) == []
    assert names(plan(sts(2, podManagementPolicy="Parallel"), *four).delete) == ["db-3", "db-2"]


def test_ended_pods_are_replaced() -> None:
    made = plan(sts(), member(0), member(1, phase="Failed"), member(2))
    assert names(made.delete) == ["db-1"]
    assert made.create == []


def test_a_pod_counts_when_it_is_seen() -> None:
    """A quota may forbid what is planned."""
    assert plan(sts(podManagementPolicy="Parallel")).status["replicas"] == 0
    assert plan(sts(), member(0)).status["replicas"] == 1


def test_lost_labels_are_mended() -> None:
    bare = member(0)
    del bare["metadata"]["labels"]["apps.kubernetes.io/pod-index"]
    (mended,) = plan(sts(1), bare).update
    assert mended["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "0"


@pytest.mark.parametrize(
    ("pods", "spec", "deleted"),
    [
        ([member(0), member(1), member(2)], {}, ["db-2"]),
        ([member(0), member(1), member(2, V2)], {}, ["db-1"]),
        ([member(0), member(1), member(2, V2, ready=False)], {}, []),
        ([member(0), member(1), member(2, ready=False)], {}, []),
        ([member(0), member(1), member(2)], {"updateStrategy": {"type": "OnDelete"}}, []),
        (
            [member(0), member(1), member(2)],
            {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2, "maxUnavailable": 3}}},
            ["db-2"],
        ),
        (
            [member(0), member(1), member(2)],
            {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%"}}},
            ["db-2", "db-1"],
        ),
        # without maxUnavailable: one at a time, whatever is down below it
        ([member(0), member(1), member(2, ready=False)], {"podManagementPolicy": "Parallel"}, ["db-2"]),
        ([member(0), member(1, ready=False), member(2)], {"podManagementPolicy": "Parallel"}, ["db-2"]),
        ([member(0), member(1, ready=False), member(2, V2, ready=False)], {"podManagementPolicy": "Parallel"}, []),
        # with it: what is down anyway is replaced without waiting, where the order does not forbid it
        ([member(0), member(1), member(2, deletionTimestamp=ago(1))], {"podManagementPolicy": "Parallel"}, []),
        (
            [member(0, ready=False), member(1, ready=False), member(2), member(3), member(4)],
            {
                "replicas": 5,
                "podManagementPolicy": "Parallel",
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 3}},
            },
            ["db-4", "db-1", "db-0"],
        ),
        (
            [member(0), member(1, ready=False), member(2), member(3), member(4)],
            {
                "replicas": 5,
                "podManagementPolicy": "Parallel",
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2, "maxUnavailable": 1}},
            },
            [],
        ),
    ],
)
def test_updates_go_from_the_last_to_the_first(pods: list[Object], spec: dict[str, Any], deleted: list[str]) -> None:
    assert names(plan(sts(image="v2", **spec), *pods, update=V2).delete) == deleted


def test_a_partition_keeps_the_old_template_below_it() -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    owner = sts(2, image="v2", updateStrategy=rolling, podManagementPolicy="Parallel")
    made = plan(owner, update=V2)
    assert [p["spec"]["containers"][0]["image"] for p in made.create] == ["v1", "v2"]


def test_status_until_and_after_an_update() -> None:
    owner = sts(2, image="v2")
    during = plan(owner, member(0), member(1, V2), update=V2).status
    assert during["currentRevision"] == V1["metadata"]["name"]
    assert (during["replicas"], during["readyReplicas"], during["updatedReplicas"]) == (2, 2, 1)
    after = plan(owner, member(0, V2), member(1, V2), update=V2).status
    assert after["currentRevision"] == after["updateRevision"] == V2["metadata"]["name"]
    assert after["currentReplicas"] == after["availableReplicas"] == 2


def test_a_set_being_deleted_only_counts() -> None:
    owner = sts(5)
    owner["metadata"]["deletionTimestamp"] = ago(1)
    made = plan(owner, member(0))
    assert (made.create, made.delete) == ([], [])
    assert made.status["replicas"] == 1


# -- revisions -----------------------------------------------------------------------------------------------------


def test_revisions() -> None:
    first = plan_revision(sts(image="v1"), STATEFULSETS, [], 0)
    assert first.create
    assert first.update["revision"] == 1
    assert template_of(first.update)["spec"]["containers"][0]["image"] == "v1"
    same = plan_revision(sts(image="v2"), STATEFULSETS, [V1, V2], 0)
    assert (same.create, same.renumber, same.update) == (False, False, V2)
    back = plan_revision(sts(image="v1"), STATEFULSETS, [V1, V2], 0)
    assert back.renumber
    assert (back.update["metadata"]["name"], back.update["revision"]) == (V1["metadata"]["name"], 3)
    third = sts(image="v3")
    names_of_it = {plan_revision(third, STATEFULSETS, [], n).update["metadata"]["name"] for n in (0, 1)}
    assert len(names_of_it) == 2
    assert surplus([V1, V2], {V2["metadata"]["name"]}, 0) == [V1]


def test_a_revision_is_what_upstreams_controllers_would_write() -> None:
    owner = sts()
    owner["spec"]["template"] = {"spec": {"containers": [{"name": "c", "args": ["b", "a"]}]}, "metadata": {}}
    kept = orjson.dumps(revision(owner)["data"])
    containers = b'"containers":[{"args":["b","a"],"name":"c"}]'
    assert kept == b'{"spec":{"template":{"$patch":"replace","metadata":{},"spec":{%b}}}}' % containers


# -- claims --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deleted", "scaled", "ordinal", "owners"),
    [
        ("Retain", "Retain", 0, []),
        ("Delete", "Retain", 0, ["StatefulSet"]),
        ("Delete", "Retain", 9, ["StatefulSet"]),
        ("Retain", "Delete", 0, []),
        ("Retain", "Delete", 9, ["Pod"]),
        ("Delete", "Delete", 0, ["StatefulSet"]),
        ("Delete", "Delete", 9, ["Pod"]),
    ],
)
def test_what_claims_go_with(deleted: str, scaled: str, ordinal: int, owners: list[str]) -> None:
    owner = sts(persistentVolumeClaimRetentionPolicy={"whenDeleted": deleted, "whenScaled": scaled})
    p = member(ordinal)
    other = {"kind": "Other", "uid": "o", "name": "o", "apiVersion": "v1"}
    claim = {"metadata": metadata("data-db-0", ownerReferences=[other])}
    found = claim_owners(owner, p, claim)
    assert [r["kind"] for r in found] == ["Other", *owners]
    assert claim_owners(owner, p, {"metadata": {**claim["metadata"], "ownerReferences": found}}) == found


def test_a_claim_of_an_earlier_pod_is_stale() -> None:
    reference = {"kind": "Pod", "name": "db-0", "uid": "earlier", "apiVersion": "v1"}
    claim = {"metadata": metadata("data-db-0", ownerReferences=[reference])}
    assert is_stale_claim(make_pod(sts(), V1, 0), claim)
    reference["uid"] = "now"
    p = member(0)
    p["metadata"]["uid"] = "now"
    assert not is_stale_claim(p, claim)
