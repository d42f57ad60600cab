"""Scores, number for number as upstream's formulas give them."""

from typing import Any

import numpy as np
import pytest
from scheduler_profiles import profile
from test_scheduler_plugins import Cluster, node, pod

from controlplane.scheduler.framework import Score
from controlplane.scheduler.rows import Rows


def scores(cluster: Cluster, obj: dict[str, Any], plugin_name: str) -> dict[str, int]:
    """What one plugin gives each node; nothing if it has no preference."""
    plugin: Score = next(plugin for plugin, _ in cluster.profile.scores if plugin.name == plugin_name)
    numbers = np.flatnonzero(cluster.nodes.exists)
    found = plugin.score(cluster.nodes.shapes.pod(obj), Rows(cluster.nodes, numbers))
    if found is None:
        return {}
    return {cluster.nodes.name(row): int(score) for row, score in zip(numbers.tolist(), found.tolist(), strict=True)}


def fit(strategy: dict[str, Any]) -> Any:
    return profile(pluginConfig=[{"name": "NodeResourcesFit", "args": {"scoringStrategy": strategy}}])


def asking(cpu: str, memory: str) -> dict[str, Any]:
    made = pod("p")
    made["spec"]["containers"][0]["resources"]["requests"] = {"cpu": cpu, "memory": memory}
    return made


CPU_HALF_MEMORY_QUARTER = asking("2", "2Gi")  # of a node of 4 CPU and 8 GiB


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ({"type": "LeastAllocated"}, (50 + 75) // 2),
        ({"type": "MostAllocated"}, (50 + 25) // 2),
        ({"type": "LeastAllocated", "resources": [{"name": "cpu", "weight": 3}, {"name": "memory"}]}, (150 + 75) // 4),
        (
            {
                "type": "RequestedToCapacityRatio",
                "requestedToCapacityRatio": {
                    "shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]
                },
            },
            38,  # 37.5, rounded
        ),
        (
            {
                "type": "RequestedToCapacityRatio",
                "requestedToCapacityRatio": {
                    "shape": [{"utilization": 0, "score": 10}, {"utilization": 50, "score": 0}]
                },
            },
            50,  # cpu scores nothing, and then does not count
        ),
    ],
)
def test_the_strategies_of_the_fit_score(strategy: dict[str, Any], expected: int) -> None:
    cluster = Cluster(node("a"), profile=fit(strategy))
    assert scores(cluster, CPU_HALF_MEMORY_QUARTER, "NodeResourcesFit") == {"a": expected}


def test_containers_that_ask_for_nothing_count_as_if_they_asked_for_a_little() -> None:
    cluster = Cluster(node("a"))
    bare = pod("p")
    bare["spec"]["containers"][0]["resources"] = {}
    cpu, memory = (4000 - 100) * 100 // 4000, (8 * 1024 - 200) * 100 // (8 * 1024)
    assert scores(cluster, bare, "NodeResourcesFit") == {"a": (cpu + memory) // 2}


def test_extended_resources_count_for_pods_that_ask_for_them() -> None:
    strategy = {"type": "MostAllocated", "resources": [{"name": "example.com/gpu", "weight": 1}]}
    gpus = node("gpu")
    gpus["status"]["allocatable"]["example.com/gpu"] = "4"
    cluster = Cluster(gpus, node("none"), profile=fit(strategy))
    assert scores(cluster, pod("p"), "NodeResourcesFit") == {"gpu": 0, "none": 0}
    wants = pod("q")
    wants["spec"]["containers"][0]["resources"]["requests"]["example.com/gpu"] = "1"
    assert scores(cluster, wants, "NodeResourcesFit") == {"gpu": 25, "none": 0}
    assert cluster.where(wants) == {"gpu"}


def test_balance_counts_what_is_asked_for_and_leaves_pods_alone_that_ask_for_nothing() -> None:
    cluster = Cluster(node("a"))
    # a half of the CPU and a quarter of the memory: 87 after 100 before
    assert scores(cluster, asking("2", "2Gi"), "NodeResourcesBalancedAllocation") == {"a": 50 + (50 + 87 - 100) // 2}
    assert scores(cluster, asking("2", "4Gi"), "NodeResourcesBalancedAllocation") == {"a": 75}
    cluster.put(asking("3", "2Gi"), "a")
    # what makes the node evener is worth more than what leaves it as it is: 75 before
    assert scores(cluster, asking("0", "4Gi"), "NodeResourcesBalancedAllocation") == {"a": 50 + (50 + 100 - 75) // 2}
    bare = pod("p")
    bare["spec"]["containers"][0]["resources"] = {}
    assert scores(cluster, bare, "NodeResourcesBalancedAllocation") == {}


def test_images_that_are_there_already() -> None:
    size = 512 * 1024 * 1024
    with_image = node("a")
    with_image["status"]["images"] = [{"names": ["registry/i:latest"], "sizeBytes": size}]
    cluster = Cluster(with_image, node("b"))
    wants = pod("p")
    wants["spec"]["containers"][0]["image"] = "registry/i"
    low = 23 * 1024 * 1024
    expected = 100 * (size // 2 - low) // (1000 * 1024 * 1024 - low)
    assert scores(cluster, wants, "ImageLocality") == {"a": expected, "b": 0}
    assert scores(cluster, pod("other"), "ImageLocality") == {}
    # images that are volumes count as well
    mounts = pod("mounts", volumes=[{"name": "v", "image": {"reference": "registry/i"}}])
    expected = 100 * (size // 2 - low) // (2 * 1000 * 1024 * 1024 - low)
    assert scores(cluster, mounts, "ImageLocality") == {"a": expected, "b": 0}


def test_preferred_affinity_of_both_sides_and_the_weight_of_required_ones() -> None:
    def near(weight: int, app: str) -> dict[str, Any]:
        term = {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "zone"}
        return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "podAffinityTerm": term}]}

    cluster = Cluster(*(node(f"n{i}", labels={"zone": zone}) for i, zone in enumerate("xyz")))
    cluster.put(pod("db", labels={"app": "db"}), "n0")
    cluster.put(pod("fan", labels={"app": "fan"}, affinity={"podAffinity": near(50, "web")}), "n1")
    web = pod("web", labels={"app": "web"}, affinity={"podAffinity": near(100, "db")})
    assert scores(cluster, web, "InterPodAffinity") == {"n0": 100, "n1": 50, "n2": 0}
    assert scores(cluster, pod("none", labels={"app": "none"}), "InterPodAffinity") == {}
    hard = {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            near(1, "web")["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"]
        ]
    }
    cluster.put(pod("needy", labels={"app": "web"}, affinity={"podAffinity": hard}), "n2")
    assert scores(cluster, pod("web", labels={"app": "web"}), "InterPodAffinity") == {"n0": 0, "n1": 100, "n2": 2}


def test_wished_spreading_puts_rows_without_the_label_last() -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    cluster = Cluster(node("a", labels={"zone": "x"}), node("b", labels={"zone": "y"}), node("c"))
    for i in range(2):
        cluster.put(pod(f"w{i}", labels={"app": "web"}), "a")
    cluster.put(pod("w2", labels={"app": "web"}), "b")
    web = pod("w", labels={"app": "web"}, topologySpreadConstraints=[constraint])
    # 2 and 1 pods weigh log(4): rounded 3 and 1.
    assert scores(cluster, web, "PodTopologySpread") == {"a": 100 * (3 + 1 - 3) // 3, "b": 100, "c": 0}


def test_terminating_pods_do_not_count_for_spreading() -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    cluster = Cluster(node("a", labels={"zone": "x"}), node("b", labels={"zone": "y"}))
    leaving = pod("w0", labels={"app": "web"})
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster.put(leaving, "a")
    assert cluster.where(pod("w", labels={"app": "web"}, topologySpreadConstraints=[constraint])) == {"a", "b"}


@pytest.mark.parametrize(
    ("extra", "status", "expected"),
    [
        ({}, {}, 1000),
        ({"overhead": {"cpu": "250m"}}, {}, 1250),
        ({"initContainers": [("i", "3", "")]}, {}, 3000),
        ({"initContainers": [("s", "1", "Always"), ("i", "3", "")]}, {}, 4000),
        ({"initContainers": [("s", "2", "Always")]}, {}, 3000),
        ({"resources": {"requests": {"cpu": "5"}}}, {}, 5000),
        ({}, {"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}, 2000),
        ({}, {"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]}, 1000),
        (
            {},
            {
                "containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}],
                "conditions": [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}],
            },
            500,
        ),
    ],
)
def test_what_a_pod_asks_for_in_all(extra: dict[str, Any], status: dict[str, Any], expected: int) -> None:
    made = pod("p", cpu="1")
    for name, cpu, restart in extra.pop("initContainers", ()):
        container = {"name": name, "image": "i", "resources": {"requests": {"cpu": cpu}}}
        made["spec"].setdefault("initContainers", []).append(
            container | ({"restartPolicy": restart} if restart else {})
        )
    made["spec"] |= extra
    made["status"] = status
    cluster = Cluster(node("a"))
    assert cluster.nodes.shapes.pod(made).shape.asked[0] == expected


def test_nodes_named_in_affinity_and_the_rest() -> None:
    def to(*names: str) -> dict[str, Any]:
        field = {"key": "metadata.name", "operator": "In", "values": list(names)}
        terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
        return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}

    cluster = Cluster(node("a", cpu="1"), node("b"), node("c"))
    assert cluster.where(pod("d", **to("a"))) == {"a"}
    assert cluster.why(pod("d", cpu="2", **to("a"))) == (
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    )


def test_an_affinity_that_the_profile_adds() -> None:
    expression = {"key": "team", "operator": "In", "values": ["a"]}
    added = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    }
    ours = profile(pluginConfig=[{"name": "NodeAffinity", "args": {"addedAffinity": added}}])
    cluster = Cluster(node("a", labels={"team": "a"}), node("b"), profile=ours)
    assert cluster.where(pod("p")) == {"a"}
    cluster.nodes.remove_node("a")
    assert cluster.why(pod("p")) == "0/1 nodes are available: 1 node(s) didn't match scheduler-enforced node affinity."


def test_disks_that_pods_of_a_node_do_not_share() -> None:
    def with_disk(name: str, *, read_only: bool) -> dict[str, Any]:
        return pod(name, volumes=[{"name": "v", "gcePersistentDisk": {"pdName": "d", "readOnly": read_only}}])

    cluster = Cluster(node("a"), node("b"))
    cluster.put(with_disk("first", read_only=True), "a")
    assert cluster.where(with_disk("p", read_only=True)) == {"a", "b"}
    assert cluster.where(with_disk("p", read_only=False)) == {"b"}
    cluster.nodes.remove_node("b")
    assert cluster.why(with_disk("q", read_only=False)) == "0/1 nodes are available: 1 node(s) had no available disk."


def test_nodes_must_have_declared_what_a_pod_needs() -> None:
    able = node("able")
    able["status"]["declaredFeatures"] = ["RestartAllContainersOnContainerExits"]
    cluster = Cluster(able, node("plain"))
    needy = pod("p")
    needy["spec"]["containers"][0]["restartPolicyRules"] = [{"action": "RestartAllContainers"}]
    assert cluster.where(needy) == {"able"}
    assert cluster.where(pod("q")) == {"able", "plain"}
    cluster.nodes.set_node(node("able"))
    assert cluster.why(needy) == "0/2 nodes are available: 2 node(s) didn't match Pod's required features."
