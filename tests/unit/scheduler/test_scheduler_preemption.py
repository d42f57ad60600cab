"""Preemption: who is evicted, who is spared, and what is said when it would not help."""

from typing import Any

import numpy as np
from test_scheduler_plugins import PROFILE, RANDOM, Cluster, node, pod

from controlplane.scheduler.framework import feasible_rows
from controlplane.scheduler.pod import compile_pod
from controlplane.scheduler.preemption import Outcome, preempt


def preempting(cluster: Cluster, obj: dict[str, Any], *budgets: dict[str, Any]) -> Outcome:
    compiled = compile_pod(obj, cluster.nodes.names)
    _, diagnosis = feasible_rows(PROFILE, compiled, cluster.nodes)
    assert diagnosis is not None, "the pod fits somewhere without preemption"
    before = cluster.nodes.requested.copy()
    outcome = preempt(PROFILE, compiled, cluster.nodes, diagnosis, budgets, RANDOM)
    assert np.array_equal(before, cluster.nodes.requested), "looking must not change anything"
    return outcome


def victims(outcome: Outcome) -> set[str]:
    assert outcome.candidate is not None, outcome.message
    return {victim.name for victim in outcome.candidate.victims}


def test_the_least_important_pods_go_and_no_more_than_needed() -> None:
    cluster = Cluster(node("a"))
    cluster.put(pod("low", cpu="2", priority=1), "a")
    cluster.put(pod("middle", cpu="2", priority=5), "a")
    assert victims(preempting(cluster, pod("high", cpu="2", priority=10))) == {"low"}
    assert victims(preempting(cluster, pod("high", cpu="4", priority=10))) == {"low", "middle"}


def test_the_node_with_the_less_important_victim_is_chosen() -> None:
    cluster = Cluster(node("a"), node("b"))
    cluster.put(pod("five", cpu="4", priority=5), "a")
    cluster.put(pod("one", cpu="4", priority=1), "b")
    assert victims(preempting(cluster, pod("high", cpu="1", priority=10))) == {"one"}


def test_pods_of_the_same_priority_are_left_alone() -> None:
    cluster = Cluster(node("a"))
    cluster.put(pod("there", cpu="4", priority=10), "a")
    assert preempting(cluster, pod("p", priority=10)).message == (
        "no new claims to deallocate, preemption: 0/1 nodes are available: "
        "1 No preemption victims found for incoming pod."
    )


def test_nodes_that_no_eviction_can_make_fit_are_not_considered() -> None:
    cluster = Cluster(node("a", labels={"disk": "hdd"}))
    cluster.put(pod("low", cpu="4", priority=1), "a")
    assert preempting(cluster, pod("p", priority=10, nodeSelector={"disk": "ssd"})).message == (
        "no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )


def test_a_pod_that_never_preempts() -> None:
    cluster = Cluster(node("a"))
    cluster.put(pod("low", cpu="4", priority=1), "a")
    outcome = preempting(cluster, pod("p", priority=10, preemptionPolicy="Never"))
    assert outcome.candidate is None
    assert "not eligible due to preemptionPolicy=Never." in outcome.message


def test_a_disruption_budget_is_kept_where_another_victim_will_do() -> None:
    budget = {
        "metadata": {"name": "keep", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {"disruptionsAllowed": 0},
    }
    cluster = Cluster(node("a"))
    cluster.put(pod("guarded", cpu="2", priority=1, labels={"app": "web"}), "a")
    cluster.put(pod("free", cpu="2", priority=5), "a")
    assert victims(preempting(cluster, pod("high", cpu="2", priority=10), budget)) == {"free"}
