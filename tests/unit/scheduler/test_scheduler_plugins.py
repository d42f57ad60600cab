"""Filters and scores, each as a small cluster and the answer users expect."""

from typing import Any

import numpy as np
import pytest
from scheduler_profiles import profile

from controlplane.scheduler.algorithm import Algorithm
from controlplane.scheduler.framework import Profile
from controlplane.scheduler.nodes import NodeTable

RANDOM = np.random.default_rng(1)

PROFILE: Profile = profile()


def node(name: str, *, cpu: str = "4", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": spec,
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}},
    }


def pod(name: str, *, cpu: str = "100m", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": labels or {}},
        "spec": {"containers": containers, **spec},
    }


class Cluster:
    """Nodes and pods, without an API server."""

    def __init__(self, *nodes: dict[str, Any], profile: Profile = PROFILE) -> None:
        self.nodes = NodeTable()
        self.profile = profile
        self.algorithm = Algorithm(self.nodes, RANDOM)
        for each in nodes:
            self.nodes.set_node(each)

    def put(self, obj: dict[str, Any], node_name: str) -> None:
        self.nodes.place(self.nodes.shapes.pod(obj), node_name)

    def where(self, obj: dict[str, Any]) -> set[str]:
        """The nodes a pod could go to."""
        left, diagnosis = self.algorithm.feasible(self.profile, self.nodes.shapes.pod(obj))
        return set() if diagnosis else {self.nodes.name(row) for row in np.flatnonzero(left).tolist()}

    def best(self, obj: dict[str, Any]) -> str:
        row, _ = self.algorithm.find(self.profile, self.nodes.shapes.pod(obj))
        assert row is not None
        return self.nodes.name(row)

    def why(self, obj: dict[str, Any]) -> str:
        _, diagnosis = self.algorithm.feasible(self.profile, self.nodes.shapes.pod(obj))
        assert diagnosis is not None
        return diagnosis.message()


def zones(*names: str) -> Cluster:
    return Cluster(*(node(f"n{i}", labels={"zone": zone}) for i, zone in enumerate(names)))


def test_a_pod_goes_where_there_is_room_and_is_told_what_is_short() -> None:
    cluster = Cluster(node("small", cpu="1"), node("large"))
    cluster.put(pod("first", cpu="3500m"), "large")
    assert cluster.where(pod("p", cpu="800m")) == {"small"}
    assert cluster.why(pod("p", cpu="2")) == "0/2 nodes are available: 2 Insufficient cpu."


@pytest.mark.parametrize(
    ("status", "left"),
    [
        ({}, 3000),
        ({"resources": {"requests": {"cpu": "3"}}, "allocatedResources": {"cpu": "2"}}, 1000),
        ({"resources": {"requests": {"cpu": "500m"}}, "allocatedResources": {"cpu": "500m"}}, 3000),
        (
            {
                "resources": {"requests": {"cpu": "500m"}},
                "conditions": [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}],
            },
            3500,
        ),
    ],
)
def test_a_pod_resized_as_a_whole_takes_what_it_has_or_wants(status: dict[str, Any], left: int) -> None:
    cluster = Cluster(node("a", cpu="4"))
    cluster.put({**pod("p", resources={"requests": {"cpu": "1"}}), "status": status}, "a")
    assert cluster.where(pod("fits", cpu=f"{left}m")) == {"a"}
    assert cluster.where(pod("does-not", cpu=f"{left + 1}m")) == set()


def test_room_comes_back_when_pods_and_nodes_go() -> None:
    cluster = Cluster(node("a"))
    cluster.put(pod("first", cpu="4"), "a")
    assert cluster.where(pod("p")) == set()
    cluster.nodes.forget("default/first")
    assert cluster.where(pod("p")) == {"a"}
    cluster.nodes.remove_node("a")
    assert cluster.why(pod("p")) == "no nodes available to schedule pods"


def test_pods_seen_before_their_node_count_once_it_comes() -> None:
    cluster = Cluster()
    cluster.put(pod("first", cpu="4"), "late")
    cluster.nodes.set_node(node("late"))
    assert cluster.where(pod("p")) == set()


def test_the_table_grows_with_the_cluster() -> None:
    cluster = Cluster(*(node(f"n{i}") for i in range(200)))
    assert len(cluster.where(pod("p"))) == 200


def test_cordoned_and_tainted_nodes() -> None:
    taint = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}
    cluster = Cluster(node("cordoned", unschedulable=True), node("tainted", taints=[taint]), node("free"))
    assert cluster.where(pod("p")) == {"free"}
    tolerant = pod("p", tolerations=[{"key": "dedicated", "operator": "Exists"}])
    assert cluster.where(tolerant) == {"free", "tainted"}
    daemon = pod("p", tolerations=[{"operator": "Exists"}])
    assert cluster.where(daemon) == {"cordoned", "free", "tainted"}
    cluster.nodes.remove_node("free")
    assert cluster.why(pod("p")) == (
        "0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable."
    )


def test_node_selectors_and_affinity_operators() -> None:
    cluster = Cluster(
        node("a", labels={"disk": "ssd", "gen": "3"}), node("b", labels={"disk": "hdd", "gen": "5"}), node("c")
    )

    def wants(key: str, operator: str, *values: str) -> set[str]:
        expression = {"key": key, "operator": operator, "values": list(values)}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
        affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
        return cluster.where(pod("p", affinity=affinity))

    assert cluster.where(pod("p", nodeSelector={"disk": "ssd"})) == {"a"}
    assert wants("disk", "In", "ssd", "nvme") == {"a"}
    assert wants("disk", "NotIn", "ssd") == {"b", "c"}
    assert wants("disk", "Exists") == {"a", "b"}
    assert wants("disk", "DoesNotExist") == {"c"}
    assert wants("gen", "Gt", "4") == {"b"}
    assert wants("gen", "Lt", "4") == {"a"}
    assert wants("gen", "Gt", "many") == set()


def test_host_ports_are_taken_once_per_address() -> None:
    def with_port(name: str, ip: str = "") -> dict[str, Any]:
        obj = pod(name)
        obj["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80, "hostIP": ip}]
        return obj

    cluster = Cluster(node("a"), node("b"))
    cluster.put(with_port("first", "127.0.0.1"), "a")
    assert cluster.where(with_port("p")) == {"b"}
    assert cluster.where(with_port("p", "127.0.0.2")) == {"a", "b"}
    cluster.put(with_port("second"), "b")
    assert cluster.why(with_port("p", "127.0.0.1")) == (
        "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports."
    )


def spread(max_skew: int = 1, **more: Any) -> dict[str, Any]:
    constraint = {
        "maxSkew": max_skew,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
        **more,
    }
    return {"labels": {"app": "web"}, "topologySpreadConstraints": [constraint]}


def test_topology_spread_keeps_zones_even() -> None:
    cluster = zones("x", "x", "y")
    cluster.put(pod("w1", **spread()), "n0")
    assert cluster.where(pod("w2", **spread())) == {"n2"}
    assert cluster.where(pod("w2", **spread(2))) == {"n0", "n1", "n2"}
    assert cluster.where(pod("other")) == {"n0", "n1", "n2"}


def test_topology_spread_counts_a_missing_zone_as_empty_when_min_domains_asks() -> None:
    cluster = zones("x", "y")
    cluster.put(pod("w1", **spread()), "n0")
    cluster.put(pod("w2", **spread()), "n1")
    assert cluster.where(pod("w3", **spread())) == {"n0", "n1"}
    assert cluster.where(pod("w3", **spread(minDomains=3))) == set()


def test_topology_spread_names_nodes_without_the_label() -> None:
    cluster = Cluster(node("a"))
    assert cluster.why(pod("w", **spread())) == (
        "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label)."
    )


def company(kind: str, app: str, topology_key: str = "zone") -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": topology_key}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def test_pod_affinity_and_its_first_pod() -> None:
    cluster = zones("x", "x", "y")
    alone = pod("first", labels={"app": "web"}, **company("podAffinity", "web"))
    assert cluster.where(alone) == {"n0", "n1", "n2"}, "the first of its kind may go anywhere"
    cluster.put(alone, "n0")
    assert cluster.where(pod("second", labels={"app": "web"}, **company("podAffinity", "web"))) == {"n0", "n1"}
    assert cluster.why(pod("p", **company("podAffinity", "none"))) == (
        "0/3 nodes are available: 3 node(s) didn't match pod affinity rules."
    )


def test_pod_anti_affinity_holds_in_both_directions() -> None:
    cluster = zones("x", "x", "y")
    cluster.put(pod("db", labels={"app": "db"}, **company("podAntiAffinity", "web")), "n0")
    assert cluster.where(pod("w", labels={"app": "web"})) == {"n2"}
    assert cluster.where(pod("p", **company("podAntiAffinity", "db"))) == {"n2"}
    assert cluster.where(pod("p", **company("podAntiAffinity", "db", "kubernetes.io/hostname"))) == {"n1", "n2"}
    cluster.nodes.forget("default/db")
    assert cluster.where(pod("w", labels={"app": "web"})) == {"n0", "n1", "n2"}


def test_anti_affinity_by_namespace_labels() -> None:
    cluster = zones("x", "y")
    cluster.nodes.set_namespace("default", {"team": "a"})
    term = {
        "labelSelector": {},
        "namespaceSelector": {"matchLabels": {"team": "a"}},
        "topologyKey": "zone",
    }
    shy = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    cluster.put(pod("there"), "n0")
    assert cluster.where(pod("p", affinity=shy)) == {"n1"}
    cluster.nodes.set_namespace("default", {"team": "b"})
    assert cluster.where(pod("p", affinity=shy)) == {"n0", "n1"}


def test_the_emptier_node_is_better_and_avoided_taints_are_worse() -> None:
    cluster = Cluster(node("a"), node("b"))
    cluster.put(pod("first", cpu="2"), "a")
    assert cluster.best(pod("p")) == "b"
    cluster = Cluster(node("a", taints=[{"key": "k", "effect": "PreferNoSchedule"}]), node("b"))
    assert cluster.best(pod("p")) == "b"


@pytest.mark.parametrize(("weight", "expected"), [(1, "b"), (100, "b")])
def test_preferred_node_affinity_chooses(weight: int, expected: str) -> None:
    preference = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
    affinity = {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "preference": preference}]
        }
    }
    assert Cluster(node("a"), node("b", labels={"disk": "ssd"})).best(pod("p", affinity=affinity)) == expected


def test_taking_pods_away_for_a_moment_leaves_no_trace() -> None:
    cluster = Cluster(node("a"))
    cluster.put(pod("first", cpu="4", **spread()), "a")
    requested = cluster.nodes.requested.copy()
    with cluster.nodes.without(["default/first"]):
        assert cluster.where(pod("p")) == {"a"}
    assert np.array_equal(requested, cluster.nodes.requested)
    assert cluster.where(pod("p")) == set()


def test_a_missing_claim_is_named() -> None:
    claim = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    assert Cluster(node("a")).why(pod("p", volumes=[claim])) == (
        '0/1 nodes are available: persistentvolumeclaim "data" not found.'
    )
