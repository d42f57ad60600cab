"""Which volumes are attached where, and whose devices drive pods out: what each decides."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from controller_objects import ago, metadata

from controlplane.controllers.devicetaints import eviction_due
from controlplane.controllers.resourceclaims import claim_keys, claim_names, make_claim, users_left
from controlplane.controllers.volumes.attachments import (
    MANAGED,
    Setting,
    Storage,
    attachment_name,
    make_attachment,
    plan_node,
)
from machinery.api.meta import Object, name_of
from machinery.testing.clock import EPOCH

VOLUME: Object = {
    "metadata": metadata("pv", namespace=""),
    "spec": {"csi": {"driver": "d", "volumeHandle": "h"}, "accessModes": ["ReadWriteOnce"]},
}
CLAIM: Object = {"metadata": metadata("c"), "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}}
POD: Object = {
    "metadata": metadata("p"),
    "spec": {"nodeName": "n1", "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
    "status": {"phase": "Running"},
}


def node(name: str = "n1", *, managed: str = "true", **status: Any) -> Object:
    return {"metadata": metadata(name, namespace="", annotations={MANAGED: managed}), "spec": {}, "status": status}


def setting(*attachments: Object, driver: Object | None = None, runs: bool = True, force: bool = True) -> Setting:
    storage = Storage(
        lambda key: CLAIM if key == "default/c" else None,
        lambda name: VOLUME if name == "pv" else None,
        lambda _: driver,
    )
    return Setting(storage, {name_of(a): a for a in attachments}, lambda *_: runs, lambda *_: ["default/other"], force)


def attached(where: str = "n1", **status: Any) -> Object:
    made = make_attachment(VOLUME, where)
    return {**made, "metadata": metadata(made["metadata"]["name"], namespace=""), "status": status}


def test_a_pod_has_its_volume_attached() -> None:
    plan = plan_node(node(), [POD], setting(), EPOCH)
    assert [a["metadata"]["name"] for a in plan.create] == [attachment_name(VOLUME, "n1")]
    plan = plan_node(node(), [POD], setting(attached(attached=True)), EPOCH)
    assert (plan.create, plan.delete) == ([], [])
    assert plan.attached == [{"name": "kubernetes.io/csi/d^h", "devicePath": ""}]


@pytest.mark.parametrize(
    ("owner", "pod", "seen"),
    [
        (node(managed="false"), POD, setting()),
        (node(), {**POD, "status": {"phase": "Succeeded"}}, setting()),
        (node(), POD, setting(driver={"spec": {"attachRequired": False}})),
    ],
)
def test_what_is_not_attached(owner: Object, pod: Object, seen: Setting) -> None:
    assert plan_node(owner, [pod], seen, EPOCH).create == []


def test_what_stands_in_the_way_is_told() -> None:
    plan = plan_node(node(), [POD], setting(attached("n2", attached=True)), EPOCH)
    assert plan.create == []
    assert plan.warnings[0][1] == 'Multi-Attach error for volume "pv" Volume is already used by pod(s) other'
    plan = plan_node(node(), [POD], setting(runs=False), EPOCH)
    assert plan.warnings[0][1] == ('AttachVolume.Attach failed for volume "pv" : CSINode n1 does not contain driver d')
    plan = plan_node(node(), [POD], setting(attached(attachError={"message": "no disk"})), EPOCH)
    assert plan.warnings[0][1] == 'AttachVolume.Attach failed for volume "pv" : no disk'


def test_a_volume_in_use_is_detached_by_force_alone() -> None:
    mine, in_use = attached(attached=True), ["kubernetes.io/csi/d^h"]
    assert plan_node(node(), [], setting(mine), EPOCH).delete == [mine]
    assert plan_node(node(volumesInUse=in_use), [], setting(mine), EPOCH).delete == []

    def silent(seconds: float) -> Object:
        told = {"type": "Ready", "status": "Unknown", "lastTransitionTime": ago(seconds)}
        return node(volumesInUse=in_use, conditions=[told])

    waiting = plan_node(silent(300), [], setting(mine), EPOCH)
    assert (waiting.delete, waiting.wait_seconds) == ([], 60.0)
    assert waiting.attached, "it is attached as long as nobody says otherwise"
    assert plan_node(silent(361), [], setting(mine), EPOCH).delete == [mine]
    assert plan_node(silent(361), [], setting(mine, force=False), EPOCH).delete == []
    lost = node(volumesInUse=in_use)
    lost["spec"] = {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]}
    assert plan_node(lost, [], setting(mine), EPOCH).delete == [mine]


# -- devices ---------------------------------------------------------------------------------------------------------


def test_the_claim_for_a_pods_extended_resources_is_one_of_its_claims() -> None:
    spec = {"resourceClaims": [{"name": "a", "resourceClaimName": "x"}]}
    pod = {"metadata": {"name": "p", "namespace": "d"}, "spec": spec}
    assert claim_keys(pod) == ["d/x"]
    told = {"extendedResourceClaimStatus": {"resourceClaimName": "made"}}
    assert claim_keys({**pod, "status": told}) == ["d/x", "d/made"]


def test_the_claims_of_a_pod() -> None:
    entries = [
        {"name": "named", "resourceClaimName": "shared"},
        {"name": "made", "resourceClaimTemplateName": "t"},
        {"name": "missing", "resourceClaimTemplateName": "t"},
        {"name": "needless", "resourceClaimTemplateName": "t"},
    ]
    statuses = [{"name": "made", "resourceClaimName": "p-made-x"}, {"name": "needless"}]
    pod = {
        "metadata": metadata("p"),
        "spec": {"resourceClaims": entries},
        "status": {"resourceClaimStatuses": statuses},
    }
    assert claim_names(pod) == {"named": "shared", "made": "p-made-x", "missing": ""}
    long = make_claim({**pod, "metadata": metadata("p" * 60)}, "c" * 60, {"spec": {}})
    assert long["metadata"]["generateName"] == "p" * 28 + "-" + "c" * 28 + "-"
    uneven = make_claim({**pod, "metadata": metadata("p" * 90)}, "c" * 9, {"spec": {}})
    assert uneven["metadata"]["generateName"] == "p" * 51 + "-" + "c" * 5 + "-"


def test_users_of_a_claim_that_are_gone_or_done() -> None:
    pods = {
        "runs": {"metadata": {"uid": "1"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}},
        "again": {"metadata": {"uid": "new"}, "spec": {}, "status": {}},
        "done": {"metadata": {"uid": "3"}, "spec": {}, "status": {"phase": "Failed"}},
    }
    users = [{"resource": "pods", "name": n, "uid": u} for n, u in (("runs", "1"), ("again", "2"), ("done", "3"))]
    foreign = {"apiGroup": "example.com", "resource": "things", "name": "x", "uid": "4"}
    claim = {"metadata": metadata("c"), "status": {"reservedFor": [*users, foreign]}}
    assert users_left(claim, pods) == [users[0], foreign]


def test_when_a_pod_must_leave_its_device() -> None:
    result: Object = {"driver": "d", "pool": "p", "device": "x"}
    claim: Object = {
        "metadata": metadata("c"),
        "status": {"reservedFor": [{"uid": POD["metadata"]["uid"]}], "allocation": {"devices": {"results": [result]}}},
    }
    taints = {"d/p/x": [{"key": "k", "effect": "NoExecute", "timeAdded": ago(10)}]}
    assert eviction_due(POD, [claim], {}, EPOCH) is None
    assert eviction_due(POD, [claim], taints, EPOCH) == EPOCH
    result["tolerations"] = [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}]
    assert eviction_due(POD, [claim], taints, EPOCH) == EPOCH + timedelta(seconds=20)
    result["tolerations"] = [{"operator": "Exists"}]
    assert eviction_due(POD, [claim], taints, EPOCH) is None
