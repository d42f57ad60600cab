"""The machine, which of its processors go together, and what the topology manager makes of hints."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine_values import GI, Shape, machine

from agent.kubelet.resources.assignment import Manner, NotEnough, take_distributed, take_packed
from agent.kubelet.resources.cpuset import parse_set, show_set
from agent.kubelet.resources.hints import Hint, Hints, Merger
from agent.kubelet.resources.topologymanager import merger
from agent.kubelet.settings import Settings
from machinery.errors import SettingsError

TWO_SOCKETS = Shape(sockets=2, cores=2)  # 0,1,4,5 and 2,3,6,7
SPLIT = Shape(sockets=1, nodes=2, cores=4, threads=1)
MI = 1 << 20


# -- the machine ------------------------------------------------------------------------------------------------------


def test_a_machine_is_read_from_sys(tmp_path: Path) -> None:
    found = machine(
        tmp_path, Shape(sockets=2, nodes=2, cores=2, caches=2, hugepages_2m=8, distances=("10 20 30 40",) * 4)
    )
    assert (len(found.cpus), found.sockets, found.cpu_nodes, found.cpus_per_core) == (16, 2, [0, 1, 2, 3], 2)
    assert (found.processors[9].core, found.processors[9].socket, found.processors[9].node) == (1, 0, 0)
    assert found.processors[0].cache != found.processors[1].cache
    assert (found.nodes[3].memory_bytes, dict(found.nodes[3].hugepages)) == (8 * GI, {2 * MI: 16 * MI})
    assert found.nodes[0].distances == (10, 20, 30, 40)


def test_sets_of_processors_are_read_and_shown() -> None:
    assert parse_set("0-2,5") == {0, 1, 2, 5}
    assert show_set([5, 0, 1, 2]) == "0-2,5"


# -- which processors -------------------------------------------------------------------------------------------------


def test_whole_sockets_then_cores_then_threads(tmp_path: Path) -> None:
    found = machine(tmp_path, TWO_SOCKETS)
    assert take_packed(found, found.cpus, 4) == {0, 1, 4, 5}
    assert take_packed(found, found.cpus - {0}, 2) == {1, 5}
    assert take_packed(found, found.cpus - {0}, 1) == {4}
    assert take_packed(found, found.cpus - {0}, 7) == found.cpus - {0}
    with pytest.raises(NotEnough, match=r"^not enough cpus available to satisfy request: requested=9, available=8$"):
        take_packed(found, found.cpus, 9)


def test_nodes_within_sockets_are_filled_socket_by_socket(tmp_path: Path) -> None:
    found = machine(tmp_path, Shape(sockets=2, nodes=2, cores=2, threads=1))
    assert take_packed(found, found.cpus, 4) == {0, 1, 2, 3}
    assert take_packed(found, found.cpus - {0}, 2) == {2, 3}


def test_spread_over_cores(tmp_path: Path) -> None:
    found = machine(tmp_path, Shape(cores=4))
    assert take_packed(found, found.cpus, 3, Manner(spread=True)) == {0, 1, 2}
    assert take_packed(found, found.cpus, 3) == {0, 4, 1}


def test_last_level_caches_stay_together(tmp_path: Path) -> None:
    found = machine(tmp_path, Shape(cores=4, caches=2))  # caches 0,1,4,5 and 2,3,6,7
    near = Manner(by_cache=True)
    assert take_packed(found, found.cpus - {0, 4}, 4, near) == {2, 3, 6, 7}
    assert take_packed(found, found.cpus - {0, 4}, 3, near) == {2, 6, 3}
    assert take_packed(found, found.cpus - {0, 4}, 2, near) == {1, 5}


def test_the_same_of_each_node(tmp_path: Path) -> None:
    found = machine(tmp_path, Shape(sockets=2, cores=4, threads=1))
    assert take_distributed(found, found.cpus, 6, 1) == {0, 1, 2, 4, 5, 6}
    assert take_distributed(found, found.cpus, 4, 1) == {0, 1, 2, 3}
    assert take_distributed(found, found.cpus - {0}, 5, 1) == {1, 2, 4, 5, 6}
    cores = machine(tmp_path / "t", Shape(sockets=2, cores=4))
    assert take_distributed(cores, cores.cpus, 12, 2) == {0, 1, 2, 8, 9, 10, 4, 5, 6, 12, 13, 14}
    assert len(take_distributed(cores, cores.cpus, 11, 2)) == 11


# -- hints ------------------------------------------------------------------------------------------------------------


def hint(mask: int, *, preferred: bool = True) -> Hint:
    return Hint(mask, preferred)


BOTH = [hint(0b01), hint(0b10), hint(0b11, preferred=False)]


@pytest.mark.parametrize(
    ("policy", "providers", "best", "admitted"),
    [
        ("best-effort", [{}], hint(0b11), True),
        ("restricted", [{"cpu": BOTH}, {"gpu": [hint(0b10), hint(0b11, preferred=False)]}], hint(0b10), True),
        ("restricted", [{"cpu": [hint(0b01)]}, {"gpu": [hint(0b10)]}], Hint(0b11, False), False),
        ("best-effort", [{"cpu": [hint(0b01)]}, {"gpu": [hint(0b10)]}], Hint(0b11, False), True),
        ("best-effort", [{"cpu": [hint(0b01)]}, {"gpu": []}], Hint(0b01, False), True),
        ("single-numa-node", [{"cpu": BOTH}, {"gpu": None}], hint(0b01), True),
        ("single-numa-node", [{"cpu": [hint(0b11)]}], Hint(None, False), False),
        ("single-numa-node", [{}], Hint(None, True), True),
        ("single-numa-node", [{"cpu": BOTH}, {"gpu": [hint(0b11)]}], Hint(None, False), False),
        ("best-effort", [{"cpu": [Hint(0b01, False), Hint(0b11, False)]}], Hint(0b01, False), True),
        ("restricted", [{"cpu": [hint(0b11)]}, {"gpu": [hint(0b01), hint(0b11)]}], hint(0b11), True),
    ],
)
def test_one_hint_of_all(policy: str, providers: list[Hints], best: Hint, admitted: bool) -> None:
    assert Merger(policy, (0, 1)).merge(providers) == (best, admitted)


def test_the_closest_nodes_win_where_that_is_asked_for() -> None:
    distances = {0: (10, 30, 12), 1: (30, 10, 30), 2: (12, 30, 10)}
    pairs = {"cpu": [hint(0b011), hint(0b101), hint(0b110)]}
    assert Merger("best-effort", (0, 1, 2)).merge([pairs])[0].mask == 0b011
    assert Merger("best-effort", (0, 1, 2), distances).merge([pairs])[0].mask == 0b101


def test_many_nodes_and_resources_are_merged_at_once() -> None:
    everything = [Hint(mask, mask.bit_count() == 1) for mask in range(1, 256)]
    providers: list[Hints] = [{str(number): everything} for number in range(5)]
    assert Merger("restricted", tuple(range(8))).merge(providers) == (hint(1), True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"nonsense": "1"}, 'unknown Topology Manager Policy option: "nonsense"'),
        ({"max-allowable-numa-nodes": "7"}, "should not be less than 8"),
        ({"max-allowable-numa-nodes": "x"}, "unable to convert policy option to integer"),
        ({"prefer-closest-numa-nodes": "x"}, 'bad value for option "prefer-closest-numa-nodes"'),
        ({}, "unsupported on machines with more than 8 NUMA Nodes"),
    ],
)
def test_options_of_topology_that_cannot_be(tmp_path: Path, options: dict[str, str], told: str) -> None:
    wide = machine(tmp_path, Shape(sockets=9, cores=1, threads=1))
    settings = Settings(topology_manager_policy="restricted", topology_manager_options=options)
    with pytest.raises(SettingsError, match=told):
        merger(settings, wide)
    more = {"max-allowable-numa-nodes": "16"}
    assert merger(Settings(topology_manager_policy="restricted", topology_manager_options=more), wide) is not None
