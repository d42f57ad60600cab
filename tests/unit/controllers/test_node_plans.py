"""Nodes: their networks, their silence, their taints, and who must leave them."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from controller_objects import ago, metadata, pod

from controlplane.controllers.nodeipam import NetworkExhausted, NetworkPool, networks_of
from controlplane.controllers.nodelifecycle.eviction import eviction_time
from controlplane.controllers.nodelifecycle.monitor import Budget
from controlplane.controllers.nodelifecycle.plan import (
    EvictionRates,
    Heartbeat,
    ZoneState,
    counts_for_zone,
    no_execute_taints,
    no_schedule_taints,
    observe,
    older_labels,
    silent_conditions,
    stay_of,
    tolerates,
    zone_state,
)
from controlplane.controllers.nodettl import next_step
from controlplane.controllers.podgc import orphaned, out_of_service, surplus_finished, unscheduled_deleting
from machinery.api.meta import Object
from machinery.testing.clock import EPOCH


def node(ready: str = "True", *, beat: str = "", taints: tuple[Object, ...] = (), **conditions: str) -> Object:
    told = [{"type": kind, "status": status} for kind, status in conditions.items()]
    if ready:
        told.append({"type": "Ready", "status": ready, "lastHeartbeatTime": beat})
    return {"metadata": metadata("n1", ""), "spec": {"taints": list(taints)}, "status": {"conditions": told}}


def taint(key: str, effect: str, **more: str) -> Object:
    return {"key": key, "effect": effect, **more}


# -- networks --------------------------------------------------------------------------------------------------------


def test_every_node_gets_another_network_and_used_ones_last() -> None:
    pool = NetworkPool(ipaddress.ip_network("10.0.0.0/22"), 24)
    first, second = pool.take("a"), pool.take("b")
    assert (str(first), str(second)) == ("10.0.0.0/24", "10.0.1.0/24")
    pool.release(first, "a")
    assert str(pool.take("c")) == "10.0.2.0/24"
    pool.occupy(ipaddress.ip_network("10.0.3.0/24"), "d")
    assert str(pool.take("e")) == "10.0.0.0/24"
    with pytest.raises(NetworkExhausted):
        pool.take("f")


def test_networks_of_other_sizes_and_places() -> None:
    pool = NetworkPool(ipaddress.ip_network("fd00::/60"), 64)
    pool.occupy(ipaddress.ip_network("fd00::/62"), "wide")
    pool.occupy(ipaddress.ip_network("10.0.0.0/8"), "elsewhere")
    assert str(pool.take("a")) == "fd00:0:0:4::/64"
    assert [str(n) for n in networks_of({"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24", "x"]}})] == [
        "10.0.0.0/24"
    ]


# -- heartbeats ------------------------------------------------------------------------------------------------------


def lease(moment: str) -> Object:
    return {"spec": {"renewTime": moment}}


def test_a_node_is_heard_by_lease_or_status() -> None:
    beat = observe(None, node(beat=ago(900)), lease("1"), 100.0, 5.0)
    assert beat.seen_at == 100.0  # whatever the node's clock says
    assert observe(beat, node(beat=ago(900)), lease("1"), 130.0, 35.0).seen_at == 100.0
    assert observe(beat, node(beat=ago(900)), lease("2"), 130.0, 35.0).seen_at == 130.0
    assert observe(beat, node(beat=ago(1)), lease("1"), 130.0, 35.0).seen_at == 130.0


def test_a_node_that_never_spoke_counts_from_its_creation() -> None:
    assert observe(None, node(""), None, 100.0, 70.0) == Heartbeat(30.0)


def test_silence_makes_all_conditions_unknown_once() -> None:
    silent = node(MemoryPressure="False")
    conditions = silent_conditions(silent, EPOCH)
    told = {c["type"]: (c["status"], c["reason"]) for c in conditions}
    assert told == {
        "MemoryPressure": ("Unknown", "NodeStatusUnknown"),
        "Ready": ("Unknown", "NodeStatusUnknown"),
        "DiskPressure": ("Unknown", "NodeStatusNeverUpdated"),
        "PIDPressure": ("Unknown", "NodeStatusNeverUpdated"),
    }
    silent["status"]["conditions"] = conditions
    assert silent_conditions(silent, EPOCH + timedelta(seconds=9)) == conditions


# -- taints ----------------------------------------------------------------------------------------------------------

MINE = taint("mine", "NoSchedule")


@pytest.mark.parametrize(
    ("looked_at", "expected"),
    [
        (node(), []),
        (node("False"), ["not-ready"]),
        (node("Unknown"), ["unreachable"]),
        (node(MemoryPressure="True", DiskPressure="True"), ["memory-pressure", "disk-pressure"]),
        (node(taints=(taint("node.kubernetes.io/not-ready", "NoSchedule"),)), []),
    ],
)
def test_conditions_become_no_schedule_taints(looked_at: Object, expected: list[str]) -> None:
    looked_at["spec"]["taints"].append(MINE)
    made = no_schedule_taints(looked_at)
    assert MINE in made
    assert [t["key"].removeprefix("node.kubernetes.io/") for t in made if t is not MINE] == expected


def test_cordoning_is_a_taint() -> None:
    cordoned = node()
    cordoned["spec"]["unschedulable"] = True
    assert no_schedule_taints(cordoned) == [taint("node.kubernetes.io/unschedulable", "NoSchedule")]


def test_no_execute_taints_follow_the_ready_condition() -> None:
    unreachable = no_execute_taints(node("Unknown"), [MINE], EPOCH, may_evict=True)
    assert unreachable == [MINE, taint("node.kubernetes.io/unreachable", "NoExecute", timeAdded="2026-01-01T00:00:00Z")]
    assert no_execute_taints(node("Unknown"), [MINE], EPOCH, may_evict=False) == [MINE]
    later = EPOCH + timedelta(seconds=60)
    assert no_execute_taints(node("Unknown"), unreachable, later, may_evict=False) == unreachable
    turned = no_execute_taints(node("False"), unreachable, later, may_evict=False)
    assert [t["key"] for t in turned] == ["mine", "node.kubernetes.io/not-ready"]
    assert no_execute_taints(node("True"), unreachable, later, may_evict=False) == [MINE]


@pytest.mark.parametrize(
    ("ready", "state"),
    [
        ("TTT", ZoneState.NORMAL),
        ("FF", ZoneState.FULL),
        ("FFT", ZoneState.NORMAL),
        ("FFFT", ZoneState.PARTIAL),
        ("FFFTTT", ZoneState.NORMAL),
    ],
)
def test_zones(ready: str, state: ZoneState) -> None:
    assert zone_state([node("True" if r == "T" else "Unknown") for r in ready], 0.55) is state


def test_nodes_that_are_known_to_come_and_go_tell_nothing_of_their_zone() -> None:
    silent = node("False")
    assert counts_for_zone(silent)
    silent["metadata"]["labels"] = {"node.kubernetes.io/exclude-disruption": ""}
    assert not counts_for_zone(silent)


def test_the_older_labels_of_a_node_follow_the_newer() -> None:
    machine = node()
    assert older_labels(machine) == {}
    machine["metadata"]["labels"] = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64"}
    machine["metadata"]["labels"]["beta.kubernetes.io/os"] = "plan9"
    assert older_labels(machine) == {"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "arm64"}


def test_eviction_slows_down_when_it_may_be_the_network() -> None:
    rates = EvictionRates(0.1, 0.01, 50, 0.55)
    assert rates.of(ZoneState.NORMAL, 10, everything_down=False) == 0.1
    assert rates.of(ZoneState.FULL, 10, everything_down=False) == 0.1
    assert rates.of(ZoneState.PARTIAL, 51, everything_down=False) == 0.01
    assert rates.of(ZoneState.PARTIAL, 50, everything_down=False) == 0.0
    assert rates.of(ZoneState.FULL, 10, everything_down=True) == 0.0


def test_the_eviction_budget_refills() -> None:
    budget = Budget(1.0, 0.0)
    assert [budget.take(0.1, now) for now in (0.0, 5.0, 10.0, 11.0)] == [True, False, True, False]
    assert not budget.take(0.0, 1000.0)


# -- tolerations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "k", "value": "5"}, True),
        ({"key": "k", "operator": "Equal", "value": "5", "effect": "NoExecute"}, True),
        ({"key": "k", "value": "6"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "k", "operator": "Gt", "value": "4"}, True),
        ({"key": "k", "operator": "Lt", "value": "4"}, False),
        ({"key": "k", "operator": "Odd", "value": "4"}, False),
    ],
)
def test_tolerations(toleration: Object, expected: bool) -> None:
    assert tolerates(toleration, taint("k", "NoExecute", value="5")) is expected


def tolerant(*tolerations: Object, **more: Any) -> Object:
    return pod("p", spec={"tolerations": list(tolerations)}, **more)


def test_how_long_a_pod_may_stay() -> None:
    evicting = [taint("a", "NoExecute", timeAdded=ago(60)), taint("b", "NoSchedule")]
    assert stay_of(tolerant(), evicting).seconds == 0.0
    assert stay_of(tolerant({"operator": "Exists"}), evicting).seconds is None
    minute = tolerant({"operator": "Exists", "tolerationSeconds": 300})
    assert eviction_time(minute, stay_of(minute, evicting), EPOCH) == EPOCH + timedelta(seconds=240)
    young = replace(stay_of(minute, evicting))
    minute["metadata"]["creationTimestamp"] = ago(10)
    assert eviction_time(minute, young, EPOCH) == EPOCH + timedelta(seconds=290)
    assert eviction_time(minute, stay_of(tolerant({"operator": "Exists"}), evicting), EPOCH) is None
    unstamped = [taint("a", "NoExecute")]
    assert eviction_time(minute, stay_of(minute, unstamped), EPOCH) == EPOCH + timedelta(seconds=300)


# -- pods nobody else removes ----------------------------------------------------------------------------------------


def test_finished_pods_beyond_the_threshold() -> None:
    old, young = pod("old", phase="Failed", creationTimestamp=ago(900)), pod("young", phase="Succeeded")
    evicted = pod("evicted", phase="Failed", creationTimestamp=ago(1))
    evicted["status"]["reason"] = "Evicted"
    assert surplus_finished([young, old, evicted, pod("live")], 1) == [evicted, old]
    assert surplus_finished([young, old], 0) == []


def test_pods_without_a_node() -> None:
    leaving = pod("leaving", node="", deletionTimestamp=ago(1))
    lost = pod("lost", node="gone")
    assert unscheduled_deleting([leaving, pod("waiting", node="")]) == [leaving]
    assert orphaned([lost, pod("here")], {"n1"}) == [lost]


def test_pods_of_nodes_out_of_service() -> None:
    down = node("Unknown", taints=(taint("node.kubernetes.io/out-of-service", "NoExecute"),))
    stuck = pod("stuck", deletionTimestamp=ago(1))
    assert out_of_service([stuck, pod("other")], [down]) == [stuck]
    down["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    assert out_of_service([stuck], [down]) == []


def test_the_ttl_annotation_has_slack() -> None:
    assert [next_step(0, n) for n in (100, 101, 501, 99999)] == [0, 1, 2, 4]
    assert next_step(1, 90) == 1
    assert next_step(1, 89) == 0
