"""DaemonSets: where pods belong, how they are replaced."""

from __future__ import annotations

from typing import Any

import pytest
from controller_objects import ago, metadata, pod, template

from controlplane.controllers.daemonset.controller import FailureBackoff, retired
from controlplane.controllers.daemonset.nodes import make_pod, should_run, target_node
from controlplane.controllers.daemonset.plan import DaemonPlan, plan_daemons
from machinery.api.meta import Object
from machinery.testing.clock import EPOCH, FakeClock


def ds(*, image: str = "v1", rolling: Object | None = None, pod_spec: Object | None = None, **spec: Any) -> Object:
    described = template(image)
    described["spec"] |= pod_spec or {}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": metadata("agent", generation=1),
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": described,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling or {"maxUnavailable": 1}},
            **spec,
        },
        "status": {},
    }


def node(name: str, *taints: tuple[str, str], **labels: str) -> Object:
    spec = {"taints": [{"key": key, "effect": effect} for key, effect in taints]}
    return {"metadata": metadata(name, "", labels=labels), "spec": spec}


def daemon(on: str, digest: str = "new", **more: Any) -> Object:
    labels = {"app": "web", "controller-revision-hash": digest}
    return pod(f"agent-{on}-{digest}", node=on, labels=labels, **more)


def plan(owner: Object, nodes: list[Object], *pods: Object, **more: Any) -> DaemonPlan:
    return plan_daemons(owner, nodes, list(pods), "new", 0, EPOCH, settled=True, **more)


def names(pods: list[Object]) -> list[str]:
    return [p["metadata"]["name"] for p in pods]


N = [node("n1"), node("n2"), node("n3")]


@pytest.mark.parametrize(
    ("where", "pod_spec", "run", "stay"),
    [
        (node("n"), {}, True, True),
        (node("n", ("x", "NoSchedule")), {}, False, True),
        (node("n", ("x", "NoExecute")), {}, False, False),
        (node("n", ("x", "PreferNoSchedule")), {}, True, True),
        (node("n", ("x", "NoExecute")), {"tolerations": [{"operator": "Exists"}]}, True, True),
        (node("n", ("node.kubernetes.io/unschedulable", "NoSchedule")), {}, True, True),
        (node("n", ("node.kubernetes.io/not-ready", "NoExecute")), {}, True, True),
        (node("n", ("node.kubernetes.io/network-unavailable", "NoSchedule")), {}, False, True),
        (node("n", ("node.kubernetes.io/network-unavailable", "NoSchedule")), {"hostNetwork": True}, True, True),
        (node("n"), {"nodeSelector": {"disk": "ssd"}}, False, False),
        (node("n", disk="ssd"), {"nodeSelector": {"disk": "ssd"}}, True, True),
        (node("n"), {"nodeName": "other"}, False, False),
    ],
)
def test_where_daemons_belong(where: Object, pod_spec: Object, run: bool, stay: bool) -> None:
    assert should_run(ds(pod_spec=pod_spec), where) == (run, stay)


def affinity(*terms: Object) -> Object:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": required}}


def test_node_affinity_is_any_of_its_terms() -> None:
    terms = (
        {"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["4"]}]},
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]},
    )
    owner = ds(pod_spec=affinity(*terms))
    assert should_run(owner, node("n1", cores="8"))[0]
    assert should_run(owner, node("n2", cores="2"))[0]
    assert not should_run(owner, node("n3", cores="2"))[0]
    assert not should_run(ds(pod_spec=affinity({})), node("n1"))[0]


def test_a_daemon_is_bound_to_its_node_by_affinity() -> None:
    made = make_pod(ds(pod_spec=affinity({"matchExpressions": [{"key": "a", "operator": "Exists"}]})), "n2", "new")
    assert target_node(made) == "n2"
    required = made["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"] == [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}
    ]
    assert made["metadata"]["labels"]["controller-revision-hash"] == "new"


def test_one_on_each_node() -> None:
    made = plan(ds(), N, daemon("n2"))
    assert made.create == ["n1", "n3"]


def test_what_does_not_belong_goes() -> None:
    made = plan(ds(pod_spec={"nodeSelector": {"a": "b"}}), [node("n1"), node("n2", a="b")], daemon("n1"))
    assert names(made.delete) == ["agent-n1-new"]
    assert made.create == ["n2"]


def test_a_second_daemon_on_a_node_goes() -> None:
    young = daemon("n1", "old", creationTimestamp=ago(1))
    assert plan(ds(), N[:1], daemon("n1", creationTimestamp=ago(50)), young).delete == [young]


def test_failed_daemons_are_replaced_with_a_pause() -> None:
    failed = daemon("n1", phase="Failed")
    made = plan(ds(), N[:1], failed)
    assert made.delete == [failed]
    assert made.events[0][1] == "FailedDaemonPod"
    assert plan(ds(), N[:1], failed, may_kill_failed=lambda _: False).delete == []


async def test_the_pause_doubles() -> None:
    clock = FakeClock()
    backoff = FailureBackoff(clock)
    assert backoff.wait("u", 1, "n1") == 0.0
    assert backoff.wait("u", 1, "n1") == 1.0
    await clock.advance(1)
    assert backoff.wait("u", 1, "n1") == 0.0
    assert backoff.wait("u", 1, "n1") == 2.0
    assert backoff.wait("u", 1, "n2") == 0.0
    assert backoff.wait("u", 2, "n1") == 0.0  # another template may be better
    backoff.forget("u")
    assert backoff.wait("u", 1, "n1") == 0.0


def test_a_daemon_that_has_ended_and_only_waits_for_finalizers_is_replaced() -> None:
    gone = daemon("n1", phase="Failed", deletionTimestamp=ago(5), finalizers=["example.com/keep"])
    made = plan(ds(), N[:1], gone)
    assert made.create == ["n1"]
    assert made.status["currentNumberScheduled"] == 0
    running = daemon("n1", deletionTimestamp=ago(5))
    assert plan(ds(), N[:1], running).create == []


def test_the_generation_counts_as_observed_once_it_is_acted_upon() -> None:
    owner = ds()
    assert "observedGeneration" not in plan_daemons(owner, N, [], "new", 0, EPOCH, settled=False).status
    owner["metadata"]["generation"] = 7
    owner["status"] = {"observedGeneration": 6}
    assert plan_daemons(owner, N, [], "new", 0, EPOCH, settled=False).status["observedGeneration"] == 6
    assert plan(owner, N).status["observedGeneration"] == 7


def test_pods_waiting_for_a_node_that_is_gone_go() -> None:
    waiting = make_pod(ds(), "gone", "new")
    waiting["metadata"] |= metadata("waiting")
    assert plan(ds(), [], waiting).delete == [waiting]


@pytest.mark.parametrize(
    ("rolling", "pods", "deleted"),
    [
        ({"maxUnavailable": 1}, [("n1", "old", True), ("n2", "old", True), ("n3", "old", True)], 1),
        ({"maxUnavailable": "67%"}, [("n1", "old", True), ("n2", "old", True), ("n3", "old", True)], 3),
        ({"maxUnavailable": 1}, [("n1", "new", False), ("n2", "old", True), ("n3", "old", True)], 0),
        ({"maxUnavailable": 1}, [("n1", "old", False), ("n2", "old", False), ("n3", "old", True)], 2),
        ({"maxUnavailable": 1}, [("n1", "new", True), ("n2", "new", True), ("n3", "old", True)], 1),
        # a node that is hostile by now: what may stay there is updated like any other
        (
            {"maxUnavailable": 2},
            [("n1", "new", True), ("n2", "new", True), ("n3", "old", True), ("n4", "old", True)],
            2,
        ),
    ],
)
def test_rolling_in_place(rolling: Object, pods: list[tuple[str, str, bool]], deleted: int) -> None:
    nodes = [*N, node("n4", ("x", "NoSchedule"))]
    made = plan(ds(rolling=rolling), nodes, *(daemon(n, d, ready=r) for n, d, r in pods))
    assert len(made.delete) == deleted
    assert made.create == []


def test_rolling_with_surge() -> None:
    owner = ds(rolling={"maxSurge": 1, "maxUnavailable": 0})
    olds = [daemon(n, "old") for n in ("n1", "n2", "n3")]
    assert plan(owner, N, *olds).create == ["n1"]
    starting = daemon("n1", ready=False)
    waiting = plan(owner, N, *olds, starting)
    assert (waiting.create, waiting.delete) == ([], [])
    ready = plan(owner, N, *olds, daemon("n1"))
    assert names(ready.delete) == ["agent-n1-old"]


SURGE = {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize(
    ("pods", "created", "deleted"),
    [
        # neither serves: only the new one stays
        ([daemon("n1", "old", ready=False), daemon("n1", ready=False)], [], ["agent-n1-old"]),
        # a node whose daemon is being deleted gets another at once
        ([daemon("n1", deletionTimestamp=ago(1))], ["n1"], []),
        # an old daemon that does not serve is replaced beyond the surge
        ([daemon("n1", "old", ready=False)], ["n1"], []),
    ],
)
def test_surge_on_one_node(pods: list[Object], created: list[str], deleted: list[str]) -> None:
    made = plan(ds(rolling=SURGE), N[:1], *pods)
    assert (made.create, names(made.delete)) == (created, deleted)


def test_surge_leaves_a_node_only_when_enough_others_serve() -> None:
    """The daemon of a node that got a taint serves until the others do; one that does not serve goes."""
    owner, nodes = ds(rolling=SURGE), [node("n1"), node("n2", ("x", "NoSchedule"))]
    starting = plan(owner, nodes, daemon("n1", ready=False), daemon("n2", "old"))
    assert names(starting.delete) == []
    serving = plan(owner, nodes, daemon("n1"), daemon("n2", "old"))
    assert names(serving.delete) == ["agent-n2-old"]
    useless = plan(owner, nodes, daemon("n1", ready=False), daemon("n2", "old", ready=False))
    assert names(useless.delete) == ["agent-n2-old"]


def test_former_revisions_are_kept_up_to_the_limit_and_while_pods_are_of_them() -> None:
    former = [
        {"metadata": metadata(f"r{n}", labels={"controller-revision-hash": f"h{n}"}), "revision": n} for n in range(4)
    ]
    assert names(retired(former, set(), 2)) == ["r0", "r1"]
    assert names(retired(former, {"h0"}, 2)) == ["r1", "r2"]
    assert names(retired(former, {"h0", "h1", "h2", "h3"}, 0)) == []


def test_on_delete_waits_for_the_user() -> None:
    owner = ds(updateStrategy={"type": "OnDelete"})
    assert plan(owner, N[:1], daemon("n1", "old")).delete == []


def test_the_status() -> None:
    nodes = [*N, node("n4", ("x", "NoSchedule"))]
    status = plan(ds(), nodes, daemon("n1"), daemon("n2", "old", ready=False), daemon("n4")).status
    assert status == {
        "currentNumberScheduled": 2,
        "numberMisscheduled": 1,
        "desiredNumberScheduled": 3,
        "numberReady": 1,
        "observedGeneration": 1,
        "updatedNumberScheduled": 1,
        "numberAvailable": 1,
        "numberUnavailable": 2,
    }


def test_pods_of_the_same_generation_of_the_template_are_not_replaced() -> None:
    """The revision was deleted and made anew under another hash: that is no reason to start pods again."""
    owner = ds()
    owner["metadata"]["annotations"] = {"deprecated.daemonset.template.generation": "3"}
    pods = [daemon("n1", "old"), daemon("n2", "old")]
    for each, generation in zip(pods, ("3", "2"), strict=True):
        each["metadata"]["labels"]["pod-template-generation"] = generation
    planned = plan(owner, N[:2], *pods)
    assert names(planned.delete) == ["agent-n2-old"]
    assert planned.status["updatedNumberScheduled"] == 1
