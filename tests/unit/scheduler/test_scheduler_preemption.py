"""Preemption: who is evicted, who is spared, and what is said when it would not help."""

from typing import Any

import numpy as np
import pytest
from scheduler_profiles import profile
from test_scheduler_plugins import PROFILE, RANDOM, Cluster, company, node, pod, spread, zones

from controlplane.scheduler.framework import Profile
from controlplane.scheduler.outoftree import Adapted
from controlplane.scheduler.preemption import Preemptor, best, ineligible


class Outcome:
    def __init__(self, victims: set[str], node_name: str, message: str) -> None:
        self.victims, self.node_name, self.message = victims, node_name, message


def preempting(cluster: Cluster, obj: dict[str, Any], *budgets: dict[str, Any], by: Profile = PROFILE) -> Outcome:
    compiled = cluster.nodes.shapes.pod(obj)
    _, diagnosis = cluster.algorithm.feasible(by, compiled)
    assert diagnosis is not None, "the pod fits somewhere without preemption"
    if told := ineligible(compiled, cluster.nodes, diagnosis):
        return Outcome(set(), "", told)
    before = cluster.nodes.requested.copy()
    preemptor = Preemptor(by, cluster.nodes, RANDOM)
    search = preemptor.search(compiled, diagnosis, budgets)
    assert np.array_equal(before, cluster.nodes.requested), "looking must not change anything"
    if not search.candidates:
        return Outcome(set(), "", preemptor.explain(search))
    chosen = best(search.candidates)
    return Outcome({victim.name for victim in chosen.victims}, cluster.nodes.name(chosen.row), "")


def victims(outcome: Outcome) -> set[str]:
    return outcome.victims


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
        "0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )


def test_nodes_that_no_eviction_can_make_fit_are_not_considered() -> None:
    cluster = Cluster(node("a", labels={"disk": "hdd"}))
    cluster.put(pod("low", cpu="4", priority=1), "a")
    assert preempting(cluster, pod("p", priority=10, nodeSelector={"disk": "ssd"})).message == (
        "0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )


def test_a_pod_that_never_preempts() -> None:
    cluster = Cluster(node("a"))
    cluster.put(pod("low", cpu="4", priority=1), "a")
    outcome = preempting(cluster, pod("p", priority=10, preemptionPolicy="Never"))
    assert outcome.message == "not eligible due to preemptionPolicy=Never."


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


def test_what_is_still_short_without_the_lesser_pods_is_named() -> None:
    cluster = Cluster(node("a"))
    cluster.put(pod("low", cpu="1", priority=1), "a")
    cluster.put(pod("peer", cpu="3", priority=10), "a")
    assert preempting(cluster, pod("p", cpu="2", priority=10)).message == (
        "0/1 nodes are available: 1 Insufficient cpu."
    )


def test_a_pod_waits_while_its_victims_are_leaving() -> None:
    cluster = Cluster(node("a"))
    leaving = pod("low", cpu="4", priority=1)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    leaving["status"] = {
        "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]
    }
    cluster.put(leaving, "a")
    waiting = pod("high", cpu="4", priority=10)
    waiting["status"] = {"nominatedNodeName": "a"}
    assert preempting(cluster, waiting).message == "not eligible due to a terminating pod on the nominated node."


@pytest.mark.parametrize("kind", ["arithmetic", "trial"])
def test_both_ways_of_looking_find_the_same(kind: str) -> None:
    class Harmless:
        def filter(self, pod: Any, nodes: Any) -> Any:
            return np.ones(len(nodes), np.bool_)

    by = PROFILE
    if kind == "trial":  # a plugin nobody knows: everything has to be asked
        by = Profile(PROFILE.name, PROFILE.pre_filters, [*PROFILE.filters, Adapted(Harmless(), "Harmless")])
    cluster = Cluster(node("a"), node("b", cpu="2"), profile=by)
    for name, cpu, priority, where in (("x", "1", 3, "a"), ("y", "1", 5, "a"), ("z", "2", 2, "a"), ("w", "2", 7, "b")):
        cluster.put(pod(name, cpu=cpu, priority=priority), where)
    outcome = preempting(cluster, pod("high", cpu="3", priority=10), by=by)
    assert (outcome.node_name, outcome.victims) == ("a", {"x", "z"})


def test_pods_in_the_way_of_anti_affinity_and_spreading_are_victims_too() -> None:
    cluster = zones("x")
    cluster.put(pod("db", labels={"app": "db"}, priority=1), "n0")
    shy = company("podAntiAffinity", "db")
    assert preempting(cluster, pod("p", priority=10, **shy)).victims == {"db"}
    cluster = zones("x", "y")
    cluster.nodes.remove_node("n1")
    cluster.put(pod("w1", priority=1, **spread()), "n0")
    cluster.nodes.set_node(node("n1", labels={"zone": "y"}, unschedulable=True))
    assert preempting(cluster, pod("w2", priority=10, **spread())).victims == {"w1"}


def test_a_profile_may_weigh_few_candidates() -> None:
    few = profile(
        pluginConfig=[
            {"name": "DefaultPreemption", "args": {"minCandidateNodesPercentage": 0, "minCandidateNodesAbsolute": 1}}
        ]
    )
    cluster = Cluster(*(node(f"n{i}") for i in range(5)), profile=few)
    for i in range(5):
        cluster.put(pod(f"p{i}", cpu="4", priority=1), f"n{i}")
    compiled = cluster.nodes.shapes.pod(pod("high", cpu="4", priority=10))
    _, diagnosis = cluster.algorithm.feasible(few, compiled)
    assert diagnosis is not None
    assert len(Preemptor(few, cluster.nodes, RANDOM).search(compiled, diagnosis, ()).candidates) == 1


def test_spreading_may_cost_more_victims_than_room_does() -> None:
    """Upstream's end-to-end test "validates proper pods are preempted"."""

    def wanting(name: str, amount: str, priority: int, **more: Any) -> dict[str, Any]:
        made = pod(name, priority=priority, labels={"app": "web"}, **more)
        made["spec"]["containers"][0]["resources"]["requests"] = {"example.com/fake": amount}
        return made

    nodes = [node(f"n{i}", labels={"zone": zone}) for i, zone in enumerate("xy")]
    for each in nodes:
        each["status"]["allocatable"]["example.com/fake"] = "10"
    cluster = Cluster(*nodes)
    cluster.put(wanting("high", "9", 1000), "n0")
    for i in range(3):
        cluster.put(wanting(f"low-{i}", "3", 1), "n1")
    constraints = spread()["topologySpreadConstraints"]
    outcome = preempting(cluster, wanting("medium", "3", 100, topologySpreadConstraints=constraints))
    assert outcome.node_name == "n1"
    assert len(outcome.victims) == 2
