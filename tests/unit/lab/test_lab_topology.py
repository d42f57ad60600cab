"""Hosts, addresses and paths of a lab; the plan of its daemons."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest

from lab import cluster
from lab.daemons import plan
from lab.errors import LabError
from lab.layout import Layout
from lab.supervisor.daemon import Daemon
from lab.topology import GATEWAY, PREFIX_LENGTH, Role, Topology


def test_the_default_lab_has_a_balancer_three_control_planes_and_two_workers() -> None:
    topology = Topology()
    assert [host.name for host in topology.hosts] == ["lb", "cp1", "cp2", "cp3", "w1", "w2"]
    assert topology.host("w1").role is Role.WORKER


def test_every_host_of_the_largest_lab_has_its_own_address_in_the_one_network() -> None:
    topology = Topology(control_planes=7, workers=50)
    network = ipaddress.ip_network(f"{GATEWAY}/{PREFIX_LENGTH}", strict=False)
    addresses = [host.address for host in topology.hosts]
    assert len({*addresses, GATEWAY}) == len(addresses) + 1
    assert all(ipaddress.ip_address(address) in network for address in addresses)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ({"control_planes": 0}, "--control-planes 0: choose 1 to 7"),
        ({"workers": 51}, "--workers 51: choose 0 to 50"),
        ({"proxy_mode": "userspace"}, "--proxy-mode userspace: choose nftables, iptables, ipvs"),
        ({"api_port": 70000}, "API port 70000"),
    ],
)
def test_impossible_shapes_are_refused_by_the_option_that_asks_for_them(shape: dict[str, Any], told: str) -> None:
    with pytest.raises(LabError, match=told):
        Topology(**shape)


def test_the_shape_survives_being_written_down_and_damage_is_told() -> None:
    topology = Topology(control_planes=1, workers=3, proxy_mode="iptables", api_port=7443)
    assert Topology.from_json(topology.to_json()) == topology
    for damaged in ("", "[]", '{"colour": 1}'):
        with pytest.raises(LabError, match="damaged"):
            Topology.from_json(damaged)


def test_asking_for_an_unknown_host_names_those_there_are() -> None:
    with pytest.raises(LabError, match="no host 'w9' in this lab; hosts are lb, cp1, w1"):
        Topology(control_planes=1, workers=1).host("w9")


@pytest.mark.parametrize("name", ["../etc", "Lab", "a/b", "-x", "a" * 40])
def test_a_name_that_would_be_a_dangerous_path_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="a lab's name"):
        Layout(name)


def test_labs_of_different_names_share_no_path() -> None:
    one, other = Layout("one"), Layout("other")
    for path in (one.state, one.runtime, Path(one.cgroup)):
        assert path not in (other.state, other.runtime, Path(other.cgroup))


def test_which_daemons_run_where() -> None:
    topology = Topology()
    by_host: dict[str, list[str]] = {}
    for daemon in plan.daemons(topology, cluster.configuration(topology)):
        by_host.setdefault(daemon.host, []).append(daemon.name)
    assert by_host["lb"] == ["haproxy", "registry"]
    for name in ("cp1", "cp2", "cp3", "w1", "w2"):
        assert by_host[name] == ["containerd", "kubelet"]


def test_storage_stops_after_what_needs_it() -> None:
    topology = Topology()
    stages = {daemon.name: daemon.stage for daemon in plan.daemons(topology, cluster.configuration(topology))}
    assert stages["containerd"] < stages["kubelet"]


def test_a_daemon_crosses_the_socket_unchanged() -> None:
    daemon = Daemon("w1", "x", ("a", "b"), {"K": "v"}, stage=2, stop_seconds=3.0, keeps_children=True)
    assert Daemon.from_wire(daemon.to_wire()) == daemon
