"""Which thresholds are met, who is evicted first, and what users are told."""

from __future__ import annotations

import pytest
from kubelet_values import container, pod, sized

from agent.kubelet.eviction import ranking, thresholds
from agent.kubelet.eviction.manager import refusal
from agent.kubelet.eviction.ranking import Use
from agent.kubelet.eviction.thresholds import Observation, Threshold
from agent.kubelet.node.conditions import DISK, MEMORY
from agent.kubelet.settings import Settings
from machinery.errors import SettingsError

MI = 1 << 20


def test_thresholds_come_from_the_configuration() -> None:
    settings = Settings(
        eviction_hard={"memory.available": "100Mi", "nodefs.available": "0%"},
        eviction_soft={"memory.available": "200Mi"},
        eviction_soft_grace={"memory.available": "1m30s"},
        eviction_minimum_reclaim={"memory.available": "50Mi"},
    )
    assert thresholds.configured(settings) == [
        Threshold("memory.available", "100Mi", 0.0, "50Mi"),
        Threshold("memory.available", "200Mi", 90.0, "50Mi"),
        Threshold("allocatableMemory.available", "100Mi", 0.0, "50Mi"),
    ]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (Settings(eviction_hard={"memory.free": "1Mi"}), "unsupported eviction signal memory.free"),
        (Settings(eviction_hard={"memory.available": "x"}), "eviction threshold 'x'"),
        (Settings(eviction_hard={"nodefs.available": "120%"}), "threshold nodefs.available must be <= 100%: 120%"),
        (Settings(eviction_hard={"nodefs.available": "-15%"}), "threshold nodefs.available must be >= 0%: -15%"),
        (Settings(eviction_hard={"memory.available": "0"}), "threshold memory.available must be positive: 0"),
        (Settings(eviction_hard={"memory.available": "-150Mi"}), "threshold memory.available must be positive: -150Mi"),
        (Settings(eviction_soft={"memory.available": "1Mi"}), "grace period must be specified"),
        (
            Settings(eviction_soft={"memory.available": "1Mi"}, eviction_soft_grace={"memory.available": "-30s"}),
            "invalid eviction grace period specified: memory.available, must be a positive value",
        ),
        (
            Settings(eviction_minimum_reclaim={"memory.available": "-300Mi"}),
            "negative eviction minimum reclaim specified for memory.available",
        ),
        (
            Settings(eviction_minimum_reclaim={"memory.available": "-15%"}),
            "eviction percentage minimum reclaim memory.available must be positive: -15%",
        ),
    ],
)
def test_wrong_thresholds_are_named(settings: Settings, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        thresholds.configured(settings)


def test_a_threshold_is_met_below_it_and_held_until_the_minimum_is_reclaimed() -> None:
    threshold = Threshold("memory.available", "10%", 0.0, "50Mi")
    low, better, good = (Observation(n * MI, 1000 * MI) for n in (99, 120, 151))
    assert thresholds.met([threshold], {"memory.available": low}) == [threshold]
    assert thresholds.met([threshold], {"memory.available": better}) == []
    assert thresholds.met([threshold], {"memory.available": better}, with_reclaim=True) == [threshold]
    assert thresholds.met([threshold], {"memory.available": good}, with_reclaim=True) == []
    assert thresholds.met([threshold], {}) == []


def test_memory_goes_from_those_over_their_requests_then_low_priority_then_greedy() -> None:
    modest = pod(sized(requests={"memory": "100Mi"}), name="modest")
    greedy = pod(container(), name="greedy")
    greedier = pod(container(), name="greedier")
    important = pod(container(), name="important", priority=100)
    uses = {
        f"uid-{n}": Use(memory=m * MI)
        for n, m in (("modest", 90), ("greedy", 10), ("greedier", 20), ("important", 500))
    }
    found = ranking.ranked("memory.available", [modest, important, greedy, greedier], uses)
    assert [p["metadata"]["name"] for p in found] == ["greedier", "greedy", "important", "modest"]
    del uses["uid-modest"]
    first = ranking.ranked("memory.available", [modest, important, greedy, greedier], uses)[0]
    assert first["metadata"]["name"] == "modest", "of whom nothing is known goes first"


def test_disk_inodes_and_processes_have_their_own_order() -> None:
    a, b = pod(name="a"), pod(name="b")
    uses = {"uid-a": Use(disk=1, inodes=9, processes=1), "uid-b": Use(disk=5, inodes=2, processes=7)}
    first = {
        s: ranking.ranked(s, [a, b], uses)[0]["metadata"]["name"]
        for s in ("nodefs.available", "nodefs.inodesFree", "pid.available")
    }
    assert first == {"nodefs.available": "b", "nodefs.inodesFree": "a", "pid.available": "b"}


def test_the_message_is_upstreams() -> None:
    threshold = Threshold("memory.available", "100Mi")
    evicted = pod(sized("c", requests={"memory": "10Mi"}), container("d"))
    use = Use(memory=60 * MI, container_memory={"c": 50 * MI, "d": 10 * MI})
    told = ranking.message(threshold, Observation(40 * MI, 1000 * MI), evicted, use)
    assert told == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 40Mi. "
        "Container c was using 50Mi, request is 10Mi, has larger consumption of memory. "
        "Container d was using 10Mi, request is 0, has larger consumption of memory. "
    )


def test_pods_over_their_own_limits_of_the_disk() -> None:
    bounded = pod(
        sized(limits={"ephemeral-storage": "10Mi"}), volumes=[{"name": "v", "emptyDir": {"sizeLimit": "5Mi"}}]
    )
    assert (
        ranking.over_own_limits(bounded, Use(), {"v": 6 * MI}, {})
        == 'Usage of EmptyDir volume "v" exceeds the limit "5Mi". '
    )
    assert ranking.over_own_limits(bounded, Use(disk=11 * MI), {}, {}) == (
        "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "
    )
    assert ranking.over_own_limits(bounded, Use(disk=1), {}, {"c": 11 * MI}) == (
        'Container c exceeded its local ephemeral storage limit "10Mi". '
    )
    assert ranking.over_own_limits(bounded, Use(disk=1), {"v": MI}, {"c": MI}) == ""


def test_a_node_under_pressure_refuses_what_would_make_it_worse() -> None:
    best_effort, burstable = pod(), pod(sized(requests={"cpu": "1m"}))
    critical = pod(priority=2_000_000_000)
    tolerating = pod(tolerations=[{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}])
    memory, disk = frozenset({MEMORY}), frozenset({DISK})
    told = refusal(best_effort, memory)
    assert told is not None
    assert (told.reason, told.message) == ("Evicted", "The node had condition: [MemoryPressure]. ")
    assert refusal(burstable, memory) is None
    assert refusal(tolerating, memory) is None
    assert refusal(burstable, disk) is not None
    assert refusal(critical, disk) is None
    assert refusal(best_effort, frozenset()) is None
