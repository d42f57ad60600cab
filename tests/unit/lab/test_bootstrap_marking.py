"""Which patch makes a Node one of a control plane."""

from __future__ import annotations

from lab.bootstrap import marking
from lab.bootstrap.configuration import TAINT
from machinery.api.meta import Object

LABELS = {
    "node-role.kubernetes.io/control-plane": "",
    "node.kubernetes.io/exclude-from-external-load-balancers": "",
}


def node(labels: dict[str, str], *taints: dict[str, str]) -> Object:
    return {"metadata": {"name": "cp1", "resourceVersion": "7", "labels": labels}, "spec": {"taints": list(taints)}}


def test_a_new_node_gets_labels_and_keeps_the_taints_it_has() -> None:
    other = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    assert marking.plan(node({"a": "b"}, other), (TAINT,)) == {
        "metadata": {"resourceVersion": "7", "labels": LABELS},
        "spec": {"taints": [other, TAINT]},
    }


def test_one_that_is_marked_is_left_alone() -> None:
    assert marking.plan(node(LABELS, TAINT), (TAINT,)) is None


def test_without_taints_it_may_run_other_pods() -> None:
    assert marking.plan(node({}), ()) == {"metadata": {"resourceVersion": "7", "labels": LABELS}}
