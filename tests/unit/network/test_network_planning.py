"""The pod network's plan: who is reached how, and what pods are told."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from agent.network import cni, masquerade
from agent.network.model import Bridge, HostLink, NetworkPlan, NodeNetwork, OverlaySettings, Route
from agent.network.planning import overlay_mac, plan_network

ETH0 = HostLink("eth0", 1500, ("10.1.0.1/24",))
OURS = NodeNetwork("w1", ("10.244.1.0/24",), ("10.1.0.1",))
NEAR = NodeNetwork("w2", ("10.244.2.0/24",), ("10.1.0.2",))
AWAY = NodeNetwork("w3", ("10.244.3.0/24",), ("10.2.0.3",))


def plan(*nodes: NodeNetwork, name: str = "w1", links: tuple[HostLink, ...] = (ETH0,), own_ip: str = "") -> NetworkPlan:
    return plan_network(nodes, name, links, own_ip, OverlaySettings())


def test_a_neighbour_is_reached_by_a_plain_route() -> None:
    made = plan(OURS, NEAR)
    assert made.routes == (Route("10.244.2.0/24", "10.1.0.2", overlay=False),)
    assert made.overlay is None
    assert made.bridge == Bridge(("10.244.1.0/24",), 1500)
    assert made.pod_ranges == ("10.244.1.0/24", "10.244.2.0/24")
    assert made.problems == ()


def test_a_node_on_another_link_is_reached_through_the_overlay() -> None:
    made = plan(OURS, NEAR, AWAY)
    assert Route("10.244.3.0/24", "10.244.3.0", overlay=True) in made.routes
    assert made.overlay is not None
    assert (made.overlay.local, made.overlay.mtu, made.overlay.addresses) == ("10.1.0.1", 1450, ("10.244.1.0/32",))
    (peer,) = made.peers
    assert (peer.ip, peer.mac, peer.gateways) == ("10.2.0.3", overlay_mac("10.2.0.3"), ("10.244.3.0",))
    assert made.bridge == Bridge(("10.244.1.0/24",), 1450)


def test_both_ends_agree_on_addresses_without_talking() -> None:
    here, there = plan(OURS, AWAY), plan(OURS, AWAY, name="w3", links=(HostLink("eth0", 9000, ("10.2.0.3/24",)),))
    assert here.overlay is not None
    assert there.overlay is not None
    assert here.peers[0].mac == there.overlay.mac
    assert there.peers[0].mac == here.overlay.mac
    assert there.peers[0].ip == here.overlay.local
    first = int(overlay_mac("10.1.0.1")[:2], 16)
    assert first & 0b11 == 0b10  # locally administered, one station


def test_a_host_without_a_node_object_only_gets_routes() -> None:
    made = plan(NEAR, AWAY, name="cp1", own_ip="10.1.0.1")
    assert made.bridge is None
    assert len(made.routes) == 2
    assert made.overlay is not None
    assert made.overlay.addresses == ()


def test_a_node_that_has_no_range_yet_waits_for_it() -> None:
    made = plan(NodeNetwork("w1", (), ("10.1.0.1",)), NEAR)
    assert made.bridge is None
    assert len(made.routes) == 1


def test_both_families_have_their_routes() -> None:
    links = (HostLink("eth0", 1500, ("10.1.0.1/24", "fd01::1/64")),)
    ours = NodeNetwork("w1", ("10.244.1.0/24", "fd44:1::/64"), ("10.1.0.1", "fd01::1"))
    near = NodeNetwork("w2", ("10.244.2.0/24", "fd44:2::/64"), ("10.1.0.2", "fd01::2"))
    away = NodeNetwork("w3", ("10.244.3.0/24", "fd44:3::/64"), ("10.2.0.3", "fd02::3"))
    made = plan(ours, near, away, links=links)
    assert {(r.destination, r.gateway, r.overlay) for r in made.routes} == {
        ("10.244.2.0/24", "10.1.0.2", False),
        ("fd44:2::/64", "fd01::2", False),
        ("10.244.3.0/24", "10.244.3.0", True),
        ("fd44:3::/64", "fd44:3::", True),
    }
    assert made.peers[0].gateways == ("10.244.3.0", "fd44:3::")


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        (NodeNetwork("w2", ("rubbish",), ("10.1.0.2",)), "node w2: spec.podCIDRs: 'rubbish' is no CIDR"),
        (NodeNetwork("w2", ("10.244.1.128/25",), ("10.1.0.2",)), "node w2: 10.244.1.128/25 overlaps with node w1"),
        (NodeNetwork("w2", ("10.244.2.0/24",), ("10.1.0.1",)), "node w2 has an address of this host"),
        (NodeNetwork("w2", ("10.244.2.0/24",), ()), "node w2 has no InternalIP that this host can reach"),
        (NodeNetwork("w2", ("10.244.2.0/24",), ("rubbish",)), "node w2 has no InternalIP that this host can reach"),
    ],
)
def test_what_a_node_has_wrong_is_told_and_the_others_stay_right(node: NodeNetwork, problem: str) -> None:
    other = NodeNetwork("w9", ("10.244.9.0/24",), ("10.1.0.9",))
    made = plan(OURS, node, other)
    assert made.routes == (Route("10.244.9.0/24", "10.1.0.9", overlay=False),)
    assert len(made.problems) == 1
    assert made.problems[0].startswith(problem)


def test_without_an_underlay_there_is_no_overlay_but_plain_routes_go_on() -> None:
    made = plan(NEAR, AWAY, name="cp1", own_ip="10.1.0.77")
    assert made.routes == (Route("10.244.2.0/24", "10.1.0.2", overlay=False),)
    assert made.peers == ()
    assert made.problems == ("this host's address 10.1.0.77 is on no link: no overlay to 1 nodes",)


def test_the_cni_file_is_whole_readable_and_only_written_when_it_changes(tmp_path: Path) -> None:
    folder = tmp_path / "net.d"
    content = cni.render(Bridge(("10.244.1.0/24", "fd44:1::/64"), 1450))
    assert cni.write(folder, content)
    file = folder / cni.FILE_NAME
    assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in folder.iterdir()] == [cni.FILE_NAME]
    assert not cni.write(folder, content)
    file.chmod(0o600)
    assert cni.write(folder, content)
    bridge, portmap = orjson.loads(file.read_bytes())["plugins"]
    assert (bridge["type"], bridge["bridge"], bridge["mtu"], bridge["hairpinMode"]) == ("bridge", "cni0", 1450, True)
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd44:1::/64"}]]
    assert bridge["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    assert portmap["capabilities"] == {"portMappings": True}
    cni.remove(folder)
    cni.remove(folder)
    assert not file.exists()


def test_pods_are_masqueraded_on_their_way_out_and_not_among_themselves() -> None:
    script = masquerade.render(["10.244.1.0/24"], ["10.244.1.0/24", "10.244.2.0/24", "fd44:1::/64"]).decode()
    assert (
        "ip saddr { 10.244.1.0/24 } ip daddr != { 10.244.1.0/24, 10.244.2.0/24, 224.0.0.0/4 } masquerade fully-random"
        in script
    )
    assert "delete table ip6 pod-network" in script
    assert "table ip6 pod-network {" not in script
