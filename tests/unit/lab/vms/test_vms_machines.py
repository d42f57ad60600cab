"""vagrant/machines.yaml: what it says, and what is said of one that can't be."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import ryaml

from lab.errors import LabError
from lab.topology import Role, Topology
from lab.vms.machines import FILE, parse_machines, read_machines

CONTENT: dict[str, Any] = ryaml.loads(FILE.read_text())


def test_the_committed_file_has_the_lab_of_six_machines() -> None:
    machines = read_machines()
    assert [machine.name for machine in machines.all] == ["lb1", "cp1", "cp2", "cp3", "w1", "w2"]
    assert machines.endpoint == machines.named("lb1").address


def test_its_hosts_have_the_addresses_of_the_one_machine_lab() -> None:
    """So that the end-to-end tests need not care which of the two they look at."""
    machines = read_machines()
    for host in (*Topology().control_plane_hosts, *Topology().worker_hosts):
        assert machines.named(host.name).address == host.address


def test_two_balancers_share_the_virtual_address() -> None:
    content = deepcopy(CONTENT)
    content["groups"][0] |= {"count": 2, "first_address": "10.77.0.5"}
    assert parse_machines(content, "machines.yaml").endpoint == "10.77.0.9"
    with pytest.raises(LabError, match=r"lb2 and cp1 have the same address 10\.77\.0\.11"):
        read_machines().resized({Role.LOAD_BALANCER: 2})


def test_another_number_is_another_number_of_machines(tmp_path: Path) -> None:
    machines = read_machines().resized({Role.WORKER: 4, Role.CONTROL_PLANE: 1})
    assert [machine.name for machine in machines.all] == ["lb1", "cp1", "w1", "w2", "w3", "w4"]
    file = tmp_path / "machines.yaml"
    file.write_text(machines.to_yaml())
    assert read_machines(file) == machines


def test_one_control_plane_needs_no_balancer() -> None:
    machines = read_machines().resized({Role.LOAD_BALANCER: 0, Role.CONTROL_PLANE: 1, Role.WORKER: 1})
    assert [machine.name for machine in machines.all] == ["cp1", "w1"]
    assert machines.endpoint == machines.named("cp1").address
    assert machines.registry == machines.named("cp1")
    with pytest.raises(LabError, match="the command line: 3 control planes need a load balancer before them"):
        read_machines().resized({Role.LOAD_BALANCER: 0})


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("network",), "10.77.0.0/33", "machines.yaml.network: "),
        (("gateway",), 7, "machines.yaml.gateway: expected a string, got 7"),
        (("gateway",), "10.78.0.1", "gateway has address 10.78.0.1, which is not in 10.77.0.0/24"),
        (("groups",), {}, "machines.yaml.groups: expected a list, got {}"),
        (("groups", 1), "cp", "machines.yaml: groups[1]: expected an object, got 'cp'"),
        (
            ("groups", 1, "role"),
            "master",
            "role: 'master' is not one of load-balancer, control-plane, worker",
        ),
        (("groups", 1, "prefix"), "CP", "groups[1].prefix: 'CP' is not one to eight lower-case letters"),
        (("groups", 1, "prefix"), "w", "two groups have the same prefix"),
        (("groups", 1, "count"), 0, "0 machines of role control-plane: choose 1 to 50"),
        (("groups", 1, "count"), True, "groups[1].count: expected a number, got True"),
        (("groups", 1, "memory_mib"), 64, "groups[1].memory_mib: 64 is too small, at least 256"),
        (("groups", 1, "disk"), 8, "groups[1]: unknown field disk"),
        (("groups", 1, "role"), "worker", "0 groups of role control-plane, expected one"),
        (("groups", 2, "first_address"), "10.77.0.13", "cp3 and w1 have the same address 10.77.0.13"),
        (("groups", 2, "first_address"), "10.77.0.x", "groups[2].first_address: "),
    ],
)
def test_a_mistake_is_told_with_its_place(path: tuple[Any, ...], value: Any, told: str) -> None:
    content = deepcopy(CONTENT)
    inner: Any = content
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(LabError) as caught:
        parse_machines(content, "machines.yaml")
    assert told in str(caught.value)


def test_a_missing_field_and_a_missing_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="network is missing"):
        parse_machines({"groups": []}, "machines.yaml")
    with pytest.raises(LabError, match="nowhere"):
        read_machines(tmp_path / "nowhere.yaml")
