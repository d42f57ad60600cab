"""What containers have for themselves: processors and memory of chosen nodes, kept as upstream keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kubelet_values import pod, sized
from machine_values import GI, Shape, machine

from agent.kubelet.node import capacity
from agent.kubelet.resources.cpus import CpuManager
from agent.kubelet.resources.hints import ANY, NOWHERE
from agent.kubelet.resources.memory import MemoryManager
from agent.kubelet.resources.topology import Topology
from agent.kubelet.resources.topologymanager import AdmissionError, TopologyManager
from agent.kubelet.settings import Settings
from machinery.api import quantity
from machinery.api.meta import Object
from machinery.errors import SettingsError

TWO_SOCKETS = Shape(sockets=2, cores=2)  # 0,1,4,5 and 2,3,6,7
SPLIT = Shape(sockets=1, nodes=2, cores=4, threads=1)
MI = 1 << 20


def guaranteed(cpu: str, name: str = "p", memory: str = "1Gi", **more: Any) -> Object:
    both = {"cpu": cpu, "memory": memory, **more}
    return pod(sized(requests=both, limits=both), name=name)


def static(**fields: Any) -> Settings:
    return Settings(cpu_manager_policy="static", reserved_cpus="0,4", **fields)


# -- processors of one's own ------------------------------------------------------------------------------------------


def test_guaranteed_pods_have_processors_of_their_own(tmp_path: Path) -> None:
    found, settings = machine(tmp_path / "sys", TWO_SOCKETS), static()
    cpus = CpuManager(str(tmp_path), settings, found)
    give = TopologyManager(settings, found, [cpus])
    assert give.admit(guaranteed("2", "a")) is None
    assert cpus.exclusive("uid-a", "c") == {1, 5}
    assert give.admit(guaranteed("1500m", "b")) is None
    assert cpus.cpuset("uid-b", "c") == "0,2-4,6-7"
    assert "static policy" in cpus.exclusive_reason(guaranteed("2", "a"))
    verdict = give.admit(guaranteed("5", "d"))
    assert verdict is not None
    assert (verdict.reason, verdict.message) == (
        "UnexpectedAdmissionError",
        "Allocate failed due to not enough cpus available to satisfy request: requested=5, available=4, "
        "which is unexpected",
    )
    again = CpuManager(str(tmp_path), settings, found)
    assert again.exclusive("uid-a", "c") == {1, 5}
    assert again.known() == {"uid-a"}
    again.forget("uid-a")
    assert again.cpuset("uid-b", "c") == "0-7"


def test_init_containers_lend_their_processors_and_sidecars_keep_them(tmp_path: Path) -> None:
    found, settings = machine(tmp_path / "sys", Shape(cores=8, threads=1)), static()
    cpus = CpuManager(str(tmp_path), settings, found)
    both = {"cpu": "2", "memory": "1Gi"}
    init = [sized("i", requests=both, limits=both), sized("s", requests=both, limits=both, restartPolicy="Always")]
    wanted = pod(sized("c", requests=both, limits=both), initContainers=init)
    assert TopologyManager(settings, found, [cpus]).admit(wanted) is None
    assert cpus.exclusive("uid-p", "i") == cpus.exclusive("uid-p", "s") == {1, 2}
    assert cpus.exclusive("uid-p", "c") == {3, 5}
    cpus.started(wanted, wanted["spec"]["containers"][0])
    assert not cpus.exclusive("uid-p", "i")
    assert cpus.shared == {0, 4, 6, 7}
    # A kubelet that starts again does not give the init container anything once more.
    again = CpuManager(str(tmp_path), settings, found)
    assert TopologyManager(settings, found, [again]).admit(wanted) is None
    assert again.shared == {0, 4, 6, 7}


def test_static_processors_need_a_reserve(tmp_path: Path) -> None:
    found = machine(tmp_path / "sys", TWO_SOCKETS)
    with pytest.raises(SettingsError, match="to be greater than zero"):
        CpuManager(str(tmp_path), Settings(cpu_manager_policy="static"), found)
    assert CpuManager(str(tmp_path), Settings(), found).cpuset("u", "c") == ""
    assert capacity.reservations(static(kube_reserved={"cpu": "3"}))["cpu"].value() == 2


@pytest.mark.parametrize(
    ("options", "count", "told"),
    [
        ("full-pcpus-only", "3", "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2"),
        (
            "full-pcpus-only",
            "8",
            "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = 6, requested CPUs = 8, "
            "CPUs per core = 2",
        ),
    ],
)
def test_whole_cores_or_nothing(tmp_path: Path, options: str, count: str, told: str) -> None:
    found = machine(tmp_path / "sys", TWO_SOCKETS)
    settings = static(cpu_manager_options={options: "true"})
    verdict = TopologyManager(settings, found, [CpuManager(str(tmp_path), settings, found)]).admit(guaranteed(count))
    assert verdict is not None
    assert (verdict.reason, verdict.message) == ("SMTAlignmentError", told)


def test_reserved_processors_are_nobodys_where_that_is_strict(tmp_path: Path) -> None:
    found = machine(tmp_path / "sys", TWO_SOCKETS)
    CpuManager(str(tmp_path), static(cpu_manager_options={"strict-cpu-reservation": "true"}), found)
    kept = json.loads((tmp_path / "cpu_manager_state").read_text())
    assert kept["defaultCpuSet"] == "1-3,5-7"
    with pytest.raises(SettingsError, match='not all reserved cpus: "0,4" are present in defaultCpuSet: "1-3,5-7"'):
        CpuManager(str(tmp_path), static(), found)


def test_hints_of_sockets_are_as_good_as_of_nodes_where_that_is_asked_for(tmp_path: Path) -> None:
    found = machine(tmp_path / "sys", Shape(sockets=2, nodes=2, cores=2, threads=1))
    gates = {"CPUManagerPolicyAlphaOptions": "true"}
    options = {"align-by-socket": "true"}
    settings = static(cpu_manager_options=options, feature_gates=gates)
    wanted = guaranteed("1")
    cpus = CpuManager(str(tmp_path), settings, found)
    hints = cpus.hints(wanted, wanted["spec"]["containers"][0])["cpu"]
    assert hints is not None
    assert {h.mask for h in hints if h.preferred} == {0b0001, 0b0010, 0b0011, 0b0100, 0b1000, 0b1100}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"nonsense": "true"}, 'unknown CPU Manager Policy option: "nonsense"'),
        ({"full-pcpus-only": "yes"}, 'bad value for option "full-pcpus-only"'),
        ({"align-by-socket": "true"}, "Alpha-level Options not enabled, but option"),
        (
            {"prefer-align-cpus-by-uncorecache": "true", "distribute-cpus-across-numa": "true"},
            "prefer-align-cpus-by-uncorecache and distribute-cpus-across-numa can not be used at the same time",
        ),
    ],
)
def test_options_of_processors_that_cannot_be(tmp_path: Path, options: dict[str, str], told: str) -> None:
    found = machine(tmp_path / "sys", TWO_SOCKETS)
    with pytest.raises(SettingsError, match=told):
        CpuManager(str(tmp_path), static(cpu_manager_options=options), found)


@pytest.mark.parametrize(
    ("fields", "shape", "told"),
    [
        ({"topology_manager_policy": "single-numa-node"}, SPLIT, "Topolgy manager single-numa-node policy is incomp"),
        ({}, Shape(sockets=2, cores=2), ""),
    ],
)
def test_sockets_need_a_machine_that_has_nodes_in_them(
    tmp_path: Path, fields: dict[str, str], shape: Shape, told: str
) -> None:
    found = machine(tmp_path / "sys", shape)
    settings = static(
        cpu_manager_options={"align-by-socket": "true"},
        feature_gates={"CPUManagerPolicyAlphaOptions": "true"},
        **fields,
    )
    if not told:
        assert CpuManager(str(tmp_path), settings, found).is_static
        return
    with pytest.raises(SettingsError, match=told):
        CpuManager(str(tmp_path), settings, found)


# -- upstream's own files ---------------------------------------------------------------------------------------------

# Written by upstream's kubelets, found in the wild.
UPSTREAM_CPU = (
    '{"policyName":"static","defaultCpuSet":"0,4-27","entries":{"39b37746-7f5e-4064-b8e1-eebd2bfaa003":'
    '{"app":"1-3"}},"checksum":3300516549}'
)
UPSTREAM_MEMORY = (
    '{"policyName":"static","machineState":{"0":{"numberOfAssignments":0,"memoryMap":{"memory":{"total":2048,'
    '"systemReserved":512,"allocatable":1536,"reserved":512,"free":1024}},"cells":[]}},"entries":{"pod":'
    '{"container1":[{"numaAffinity":[0],"type":"memory","size":512}]}},"checksum":4215593881}'
)


def test_state_of_upstreams_kubelet_is_taken_over(tmp_path: Path) -> None:
    found = machine(tmp_path / "sys", Shape(cores=28, threads=1))
    (tmp_path / "cpu_manager_state").write_text(UPSTREAM_CPU)
    settings = Settings(cpu_manager_policy="static", reserved_cpus="0")
    cpus = CpuManager(str(tmp_path), settings, found)
    assert cpus.exclusive("39b37746-7f5e-4064-b8e1-eebd2bfaa003", "app") == {1, 2, 3}
    with pytest.raises(SettingsError) as raised:
        CpuManager(str(tmp_path), Settings(), found)
    assert str(raised.value) == (
        'could not restore state from checkpoint: configured policy "none" differs from state checkpoint policy '
        '"static", please drain this node and delete the CPU manager checkpoint file '
        f'"{tmp_path}/cpu_manager_state" before restarting Kubelet'
    )


def test_state_is_written_as_upstream_writes_it(tmp_path: Path) -> None:
    found = machine(tmp_path / "sys", Shape(cores=32, threads=2))
    CpuManager(str(tmp_path), Settings(), found)
    MemoryManager(str(tmp_path), Settings(), found, {})
    assert (tmp_path / "cpu_manager_state").read_text() == (
        '{"policyName":"none","defaultCpuSet":"","checksum":1353318690}'
    )
    assert (tmp_path / "memory_manager_state").read_text() == (
        '{"policyName":"None","machineState":{},"checksum":4236770233}'
    )
    (tmp_path / "cpu_manager_state").unlink()
    CpuManager(str(tmp_path), static(), found)
    assert (tmp_path / "cpu_manager_state").read_text() == (
        '{"policyName":"static","defaultCpuSet":"0-63","checksum":1058907510}'
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (UPSTREAM_CPU.replace("4-27", "4-26"), "checkpoint is corrupted"),
        ("{", "could not restore state from checkpoint"),
        ("[]", "cannot unmarshal"),
        ('{"policyName":"static","defaultCpuSet":"x"}', 'could not parse default cpu set "x"'),
        ('{"policyName":"static","defaultCpuSet":"0-27","entries":{"p":{"c":"x"}}}', 'could not parse cpuset "x"'),
        ('{"policyName":"static","entries":{"p":{"c":"1"}}}', "default cpuset cannot be empty"),
        ('{"policyName":"static","defaultCpuSet":"0-26"}', "doesn't match with CPUs in state"),
        ('{"policyName":"static","defaultCpuSet":"0-27","entries":{"p":{"c":"1"}}}', "overlaps with default cpuset"),
    ],
)
def test_state_that_cannot_be_is_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "cpu_manager_state").write_text(text)
    found = machine(tmp_path / "sys", Shape(cores=28, threads=1))
    with pytest.raises(SettingsError, match=told):
        CpuManager(str(tmp_path), Settings(cpu_manager_policy="static", reserved_cpus="0"), found)


# -- memory -----------------------------------------------------------------------------------------------------------

KEPT = {"memory": quantity.parse("1Gi"), "hugepages-2Mi": quantity.parse("2Mi")}
RESERVED = (
    {"numaNode": 0, "limits": {"memory": "512Mi", "hugepages-2Mi": "2Mi"}},
    {"numaNode": 1, "limits": {"memory": "512Mi"}},
)
NODES = Shape(sockets=2, cores=2, threads=1, memory_bytes=4 * GI, hugepages_2m=32)


def memory_of(tmp_path: Path, shape: Shape = NODES, **fields: Any) -> tuple[Settings, Topology, MemoryManager]:
    found = machine(tmp_path / "sys", shape)
    settings = Settings(memory_manager_policy="Static", reserved_memory=RESERVED, **fields)
    return settings, found, MemoryManager(str(tmp_path), settings, found, KEPT)


def test_guaranteed_pods_have_memory_of_chosen_nodes(tmp_path: Path) -> None:
    settings, found, memory = memory_of(tmp_path)
    give = TopologyManager(settings, found, [memory])
    assert give.admit(guaranteed("1", "a", "3Gi")) is None
    assert memory.mems("uid-a", "c") == "0"
    assert give.admit(guaranteed("1", "b", "3Gi", **{"hugepages-2Mi": "4Mi"})) is None
    assert memory.mems("uid-b", "c") == "1"
    assert {(block.kind, block.size) for block in memory.blocks("uid-b", "c")} == {
        ("memory", 3 * GI),
        ("hugepages-2Mi", 4 * MI),
    }
    # Both are used alone: no group of the two may be made.
    verdict = give.admit(guaranteed("1", "d", "1Gi"))
    assert verdict is not None
    assert verdict.message == (
        "Allocate failed due to [memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough "
        "memory is available, which is unexpected"
    )
    assert give.admit(pod(sized(requests={"memory": "1Gi"}), name="burstable")) is None
    assert memory.mems("uid-burstable", "c") == ""
    again = MemoryManager(str(tmp_path), settings, found, KEPT)
    assert again.mems("uid-b", "c") == "1"
    again.forget("uid-a")
    again.forget("uid-b")
    wide = guaranteed("1", "e", "6Gi")
    assert TopologyManager(settings, found, [again]).admit(wide) is None
    assert again.mems("uid-e", "c") == "0,1"
    assert "Memory Manager" in again.exclusive_reason(wide)
    assert sum(block.size for block in again.allocatable if block.kind == "memory") == 8 * GI - GI - 128 * MI


def test_memory_of_init_containers_is_used_again(tmp_path: Path) -> None:
    settings, found, memory = memory_of(tmp_path)
    both = {"cpu": "1", "memory": "2Gi"}
    init = [sized("i", requests=both, limits=both)]
    wanted = pod(sized("c", requests=both, limits=both), initContainers=init)
    assert TopologyManager(settings, found, [memory]).admit(wanted) is None
    assert [block.size for block in memory.blocks("uid-p", "i")] == [0]
    memory.started(wanted, wanted["spec"]["containers"][0])
    kept = json.loads((tmp_path / "memory_manager_state").read_text())
    assert kept["machineState"]["0"]["memoryMap"]["memory"]["reserved"] == 2 * GI
    assert kept["machineState"]["0"]["numberOfAssignments"] == 1
    memory.forget("uid-p")
    kept = json.loads((tmp_path / "memory_manager_state").read_text())
    assert kept["machineState"]["0"] == {
        "numberOfAssignments": 0,
        "memoryMap": {
            "hugepages-2Mi": {
                "total": 64 * MI,
                "systemReserved": 2 * MI,
                "allocatable": 62 * MI,
                "reserved": 0,
                "free": 62 * MI,
            },
            "memory": {
                "total": 4 * GI,
                "systemReserved": 512 * MI,
                "allocatable": 4 * GI - 512 * MI - 64 * MI,
                "reserved": 0,
                "free": 4 * GI - 512 * MI - 64 * MI,
            },
        },
        "cells": [0],
    }


@pytest.mark.parametrize(
    ("reserved", "told"),
    [
        ((), 'the total amount "0" of type "hugepages-2Mi" is not equal to the value "2Mi" determined by Node Alloc'),
        (({"numaNode": 5, "limits": {"memory": "1Gi"}},), "references a NUMA node 5 that does not exist"),
        (
            ({"numaNode": 0, "limits": {"memory": "2Gi", "hugepages-2Mi": "2Mi"}},),
            'the total amount "2Gi" of type "memory" is not equal to the value "1Gi" determined by Node Allocatable',
        ),
    ],
)
def test_reserved_memory_has_to_add_up(tmp_path: Path, reserved: tuple[Object, ...], told: str) -> None:
    found = machine(tmp_path / "sys", NODES)
    with pytest.raises(SettingsError, match=told):
        MemoryManager(str(tmp_path), Settings(memory_manager_policy="Static", reserved_memory=reserved), found, KEPT)


def test_memory_state_of_upstream_is_understood_and_its_policy_is_kept(tmp_path: Path) -> None:
    (tmp_path / "memory_manager_state").write_text(UPSTREAM_MEMORY)
    with pytest.raises(SettingsError, match='configured policy "None" differs from state checkpoint policy "static"'):
        MemoryManager(str(tmp_path), Settings(), machine(tmp_path / "sys", NODES), {})
    (tmp_path / "memory_manager_state").write_text(UPSTREAM_MEMORY.replace("1024", "1023"))
    with pytest.raises(SettingsError, match="checkpoint is corrupted"):
        MemoryManager(str(tmp_path), Settings(), machine(tmp_path / "sys", NODES), {})


def test_memory_of_another_machine_is_refused(tmp_path: Path) -> None:
    memory_of(tmp_path)
    larger = Shape(sockets=2, cores=2, threads=1, memory_bytes=5 * GI, hugepages_2m=32)
    with pytest.raises(SettingsError, match="the expected machine state is different from the real one"):
        memory_of(tmp_path, larger)


# -- all together -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["container", "pod"])
def test_processors_and_memory_are_on_one_node(tmp_path: Path, scope: str) -> None:
    settings, found, memory = memory_of(
        tmp_path,
        cpu_manager_policy="static",
        reserved_cpus="0",
        topology_manager_policy="single-numa-node",
        topology_manager_scope=scope,
    )
    cpus = CpuManager(str(tmp_path), settings, found)
    give = TopologyManager(settings, found, [cpus, memory])
    assert give.admit(guaranteed("2", "a")) is None  # only node 1 has two free CPUs
    assert cpus.exclusive("uid-a", "c") == {2, 3}
    assert memory.mems("uid-a", "c") == "1"
    verdict = give.admit(guaranteed("2", "b"))
    assert verdict is not None
    assert (verdict.reason, verdict.message) == (
        "TopologyAffinityError",
        "Resources cannot be allocated with Topology locality",
    )
    assert give.known() == {"uid-a"}
    # After a restart, what was given is found again.
    again = TopologyManager(settings, found, [CpuManager(str(tmp_path), settings, found), memory])
    assert again.admit(guaranteed("2", "a")) is None


def test_a_pod_that_is_refused_by_the_last_gives_back_what_the_first_gave(tmp_path: Path) -> None:
    settings, found, memory = memory_of(tmp_path, cpu_manager_policy="static", reserved_cpus="0")
    cpus = CpuManager(str(tmp_path), settings, found)
    assert TopologyManager(settings, found, [cpus, memory]).admit(guaranteed("1", memory="100Gi")) is not None
    assert (cpus.known(), cpus.shared) == (set(), found.cpus)


def test_errors_of_admission_are_upstreams() -> None:
    assert AdmissionError("x").verdict().message == "Allocate failed due to x, which is unexpected"
    assert (ANY.preferred, NOWHERE.preferred) == (True, False)
