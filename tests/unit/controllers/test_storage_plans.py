"""Claims and volumes: what fits, what a binding writes, what is protected."""

from __future__ import annotations

from typing import Any

import pytest
from controller_objects import ago, metadata, pod

from controlplane.controllers.volumes.bindings import (
    awaited,
    bound_status,
    default_class,
    pointed,
    reserved,
    waits_for_consumer,
)
from controlplane.controllers.volumes.ephemeral import ephemeral_volumes, make_claim
from controlplane.controllers.volumes.expander import wants_growth
from controlplane.controllers.volumes.matching import BIND_COMPLETED, BOUND_BY_CONTROLLER, best_volume, mismatch
from controlplane.controllers.volumes.protection import claims_used, uses_claim
from machinery.api.meta import Object


def claim(size: str = "1Gi", **spec: Any) -> Object:
    made = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    return {"metadata": metadata("data"), "spec": made, "status": {"phase": "Pending"}}


def volume(name: str, size: str = "1Gi", phase: str = "Available", **spec: Any) -> Object:
    made = {"accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": {"storage": size}, **spec}
    return {"metadata": metadata(name, "", labels={"disk": name}), "spec": made, "status": {"phase": phase}}


def reference(c: Object, **more: str) -> Object:
    return {"namespace": c["metadata"]["namespace"], "name": c["metadata"]["name"], **more}


def test_the_smallest_volume_that_fits() -> None:
    volumes = [volume("big", "10Gi"), volume("fit", "2Gi"), volume("small", "500Mi")]
    assert best_volume(claim(), volumes) is volumes[1]
    assert best_volume(claim("20Gi"), volumes) is None


@pytest.mark.parametrize(
    ("asked", "offered"),
    [
        ({"storageClassName": "fast"}, {}),
        ({}, {"storageClassName": "fast"}),
        ({"volumeMode": "Block"}, {}),
        ({"accessModes": ["ReadWriteMany"]}, {}),
        ({"selector": {"matchLabels": {"disk": "other"}}}, {}),
        ({}, {"claimRef": {"namespace": "default", "name": "another"}}),
        ({}, {"claimRef": {"namespace": "default", "name": "data", "uid": "an earlier one"}}),
        ({}, {"phase": "Released"}),
    ],
)
def test_what_does_not_fit(asked: Object, offered: Object) -> None:
    assert best_volume(claim(**asked), [volume("v", **offered)]) is None


def test_a_volume_reserved_for_the_claim_comes_first() -> None:
    c = claim()
    kept = volume("kept", "5Gi", claimRef=reference(c))
    assert best_volume(c, [volume("v"), kept]) is kept
    assert best_volume(c, [volume("v")], only_reserved=True) is None
    assert best_volume(c, [volume("v"), kept], only_reserved=True) is kept


@pytest.mark.parametrize(
    ("c", "why"),
    [
        (claim(), ""),
        (claim("2Gi"), "requested PV is too small"),
        (claim(storageClassName="x"), "storageClassName does not match"),
        (claim(volumeAttributesClassName="gold"), "volumeAttributesClassName does not match"),
        (claim(volumeMode="Block"), "incompatible volumeMode"),
        (claim(accessModes=["ReadWriteMany"]), "incompatible accessMode"),
    ],
)
def test_why_a_chosen_volume_does_not_fit(c: Object, why: str) -> None:
    assert mismatch(volume("v"), c) == why


def test_the_writes_of_a_binding() -> None:
    c, v = claim(), volume("v", "5Gi")
    taken = reserved(v, c)
    assert taken["spec"]["claimRef"]["uid"] == c["metadata"]["uid"]
    assert taken["metadata"]["annotations"] == {BOUND_BY_CONTROLLER: "yes"}
    assert reserved(taken, c) is taken
    named = pointed(c, taken)
    assert named["spec"]["volumeName"] == "v"
    assert named["metadata"]["annotations"] == {BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes"}
    assert pointed(named, taken) is named
    status = bound_status(named, taken)
    assert status == {
        "phase": "Bound",
        "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
        "capacity": {"storage": "5Gi"},
    }
    by_user = volume("v", claimRef=reference(c))
    assert "annotations" not in reserved(by_user, c)["metadata"]


def test_waiting_for_the_first_consumer() -> None:
    late = {"metadata": metadata("late", ""), "volumeBindingMode": "WaitForFirstConsumer"}
    assert waits_for_consumer(claim(), late)
    assert not waits_for_consumer(claim(), None)
    chosen = claim()
    chosen["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": "n1"}
    assert not waits_for_consumer(chosen, late)


@pytest.mark.parametrize(
    ("pods", "told"),
    [
        ([], ("WaitForFirstConsumer", "waiting for first consumer to be created before binding")),
        ([pod("done", node="", phase="Failed"), pod("bound")], ("WaitForFirstConsumer", "")),
        ([pod("a", node="", phase="Pending")], ("WaitForPodScheduled", "waiting for pod a to be scheduled")),
        (
            [pod("b", node="", phase="Pending"), pod("a", node="", phase="Pending")],
            ("WaitForPodScheduled", "waiting for pods a,b to be scheduled"),
        ),
    ],
)
def test_what_a_claim_waits_for(pods: list[Object], told: tuple[str, str]) -> None:
    reason, message = awaited(pods)
    assert reason == told[0]
    assert told[1] in message


def test_the_youngest_default_class_counts() -> None:
    def storage_class(name: str, age: float, default: str) -> Object:
        marks = {"storageclass.kubernetes.io/is-default-class": default}
        return {"metadata": metadata(name, "", annotations=marks, creationTimestamp=ago(age))}

    classes = [storage_class("old", 90, "true"), storage_class("new", 5, "true"), storage_class("no", 1, "false")]
    assert default_class(classes) == "new"
    assert default_class(classes[2:]) == ""


def test_claims_in_use() -> None:
    spec = {
        "volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "b", "ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"x": "y"}}, "spec": {"s": 1}}}},
        ]
    }
    p = pod("p", spec=spec)
    assert claims_used(p) == {"data", "p-b"}
    assert uses_claim([p], "data")
    assert not uses_claim([pod("waiting", node="", spec=spec)], "data")
    (ephemeral,) = ephemeral_volumes(p)
    made = make_claim(p, ephemeral)
    assert made["metadata"]["name"] == "p-b"
    assert made["metadata"]["labels"] == {"x": "y"}
    assert made["metadata"]["ownerReferences"][0]["uid"] == p["metadata"]["uid"]
    assert made["spec"] == {"s": 1}


def test_claims_that_want_to_grow() -> None:
    c = claim("2Gi")
    c["status"] = {"phase": "Bound", "capacity": {"storage": "1Gi"}}
    assert wants_growth(c)
    c["status"]["capacity"]["storage"] = "2048Mi"
    assert not wants_growth(c)
