"""The iptables ruleset: which chains a change writes, and no others."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from agent.proxy.iptables import saved
from agent.proxy.iptables.counting import rules_written
from agent.proxy.iptables.rendering import by_address, by_port, chances
from agent.proxy.iptables.ruleset import Ruleset
from agent.proxy.iptables.skeleton import JUMPS, NAT_NODEPORTS, NAT_SERVICES, ChainName
from agent.proxy.model import Endpoint, Family, PortRules, ServicePortName
from agent.proxy.naming import port_hash
from agent.proxy.settings import LocalDetector, RuleSettings

SETTINGS = RuleSettings(Family.IPV4, local=LocalDetector("ClusterCIDR", "10.244.0.0/16"))
A, B = (Endpoint(f"10.244.0.{n}", 8080) for n in (1, 2))
NAME = ServicePortName("ns", "web", "http", "tcp")
NOTHING = saved.Saved((), ())
WEB = PortRules(NAME, port=80, cluster_ip="10.96.0.1", cluster=(A, B))


def fresh(*rules: PortRules) -> Ruleset:
    made = Ruleset(SETTINGS)
    made.replace({r.name: r for r in rules}, NOTHING)
    return made


def chains(text: bytes) -> list[str]:
    return [line[1:].split()[0] for line in text.decode().splitlines() if line.startswith(":")]


def test_a_new_service_writes_its_shard() -> None:
    neighbour = replace(WEB, name=NAME._replace(name="other"), cluster_ip="10.96.7.1")
    text = fresh(neighbour).change({NAME: WEB})
    assert chains(text) == ["KUBE-SERVICES-01"]
    assert text.decode().splitlines()[-1] == "COMMIT"
    assert b"ns/other:http cluster IP" in text


def test_a_cluster_ip_of_few_endpoints_has_its_rules_in_its_shard() -> None:
    to = "-m tcp -p tcp -d 10.96.0.1 --dport 80"
    said = '-m comment --comment "ns/web:http cluster IP"'
    half = "-m statistic --mode random --probability 0.5000000000"
    assert [line for line in fresh().change({NAME: WEB}).decode().splitlines() if "10.96.0.1" in line] == [
        f"-A KUBE-SERVICES-01 {said} ! -s 10.244.0.0/16 {to} -j KUBE-MARK-MASQ",
        f"-A KUBE-SERVICES-01 {to} {half} -j DNAT --to-destination {A}",
        f"-A KUBE-SERVICES-01 {to} -j DNAT --to-destination {B}",
    ]


@pytest.mark.parametrize(
    "shared",
    [
        replace(WEB, node_port=30080),
        replace(WEB, external_ips=("192.0.2.1",)),
        replace(WEB, affinity_seconds=10),
        replace(WEB, cluster=(A,) * 9),
    ],
    ids=["node port", "external IP", "affinity", "many endpoints"],
)
def test_other_ports_have_a_chain(shared: PortRules) -> None:
    assert f"KUBE-SVC-{port_hash(NAME)}" in chains(fresh().change({NAME: shared}))


def test_a_moved_endpoint_writes_one_chain() -> None:
    assert chains(fresh(WEB).change({NAME: replace(WEB, cluster=(A,))})) == ["KUBE-SERVICES-01"]
    shared = replace(WEB, node_port=30080)
    assert chains(fresh(shared).change({NAME: replace(shared, cluster=(A,))})) == [f"KUBE-SVC-{port_hash(NAME)}"]


def test_rules_are_counted_without_looking() -> None:
    written = rules_written(Ruleset(SETTINGS).replace({NAME: WEB}, NOTHING))
    jumps = Counter(jump.table for jump in JUMPS)
    made = fresh(WEB)
    assert made.counts + jumps == written
    other = replace(WEB, name=NAME._replace(name="other"), cluster_ip="10.96.7.2", node_port=30000)
    made.change({other.name: other})
    made.change({NAME: replace(WEB, cluster=(A,))})
    assert made.counts == fresh(replace(WEB, cluster=(A,)), other).counts
    assert rules_written(made.change({other.name: None})) == {}


def test_a_new_shard_is_led_to() -> None:
    text = fresh().change({NAME: WEB}).decode()
    assert "-A KUBE-SERVICES -d 0.0.0.1/0.0.0.255 -j KUBE-SERVICES-01" in text
    assert text.index("-A KUBE-SERVICES -d 0.0.0.1") < text.index("NOTE: this must be the last rule")


def test_a_removed_service_removes_its_chain_and_empties_its_shard() -> None:
    text = fresh(replace(WEB, cluster=(A,) * 9)).change({NAME: None}).decode().splitlines()
    assert text == [
        "*nat",
        ":KUBE-SERVICES-01 - [0:0]",
        f":KUBE-SVC-{port_hash(NAME)} - [0:0]",
        f"-X KUBE-SVC-{port_hash(NAME)}",
        "COMMIT",
    ]


def test_nothing_is_sent_when_nothing_changed() -> None:
    ruleset = fresh(WEB)
    assert ruleset.change({NAME: WEB}) == b""
    assert ruleset.change({NAME._replace(name="never-there"): None}) == b""


def test_a_service_that_loses_its_last_endpoint_moves_from_nat_to_filter() -> None:
    many = replace(WEB, cluster=(A,) * 9)
    text = fresh(many).change({NAME: replace(WEB, cluster=(), internal_refusal="reject")}).decode()
    assert '-A KUBE-SERVICES-01 -m comment --comment "ns/web:http has no endpoints"' in text
    assert "-j REJECT --reject-with tcp-reset" in text
    assert f"-X KUBE-SVC-{port_hash(NAME)}" in text
    assert text.index("*filter") < text.index("*nat")


def test_a_replacement_inserts_missing_jumps_and_removes_stale_chains_of_ours() -> None:
    there = tuple((ChainName(j.table, j.source), f"-j {j.target}") for j in JUMPS if j.table == "filter")
    others = ((ChainName("nat", "POSTROUTING"), "-j DOCKER"), (ChainName("nat", "OUTPUT"), "-j KUBE-IPVS-OUT-FILTER"))
    stale = (ChainName("nat", "KUBE-SVC-OLD"), ChainName("nat", "KUBE-KUBELET-CANARY"), ChainName("nat", "DOCKER"))
    text = Ruleset(SETTINGS).replace({}, saved.Saved(stale, (*there, *others))).decode()
    assert [line for line in text.splitlines() if line.startswith("-D ")] == ["-D OUTPUT -j KUBE-IPVS-OUT-FILTER"]
    assert "-X KUBE-SVC-OLD" in text
    assert "CANARY" not in text
    assert "DOCKER" not in text
    assert [line for line in text.splitlines() if line.startswith("-I ")] == [
        '-I OUTPUT 1 -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
        '-I PREROUTING 1 -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
        '-I POSTROUTING 1 -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    ]


def test_chances_add_up_to_equal_shares() -> None:
    def share(position: int, count: int) -> float:
        left = 1.0
        for n, chance in enumerate(chances(count)):
            probability = float(chance.split()[-1]) if chance else 1.0
            if n == position:
                return left * probability
            left *= 1 - probability
        raise AssertionError

    for count in (1, 2, 3, 7):
        assert [share(n, count) for n in range(count)] == pytest.approx([1 / count] * count, rel=1e-6)


@pytest.mark.parametrize(
    ("shard", "chain", "match"),
    [
        (by_address(NAT_SERVICES, "10.96.1.42"), "KUBE-SERVICES-2A", "-d 0.0.0.42/0.0.0.255"),
        (by_address(NAT_SERVICES, "fd00::12ab"), "KUBE-SERVICES-AB", "-d ::ab/::ff"),
        (by_address(NAT_SERVICES, "fd00::"), "KUBE-SERVICES-00", "-d ::0/::ff"),
        (by_port(NAT_NODEPORTS, "udp", 30053), "KUBE-NODEPORTS-U1D5", "-p udp -m udp --dport 30016:30079"),
    ],
)
def test_shards(shard: object, chain: str, match: str) -> None:
    assert (shard.name.chain, shard.match) == (chain, match)  # type: ignore[attr-defined]


def test_names_of_chains_fit() -> None:
    every = replace(
        WEB,
        node_port=32767,
        external_ips=("192.0.2.1",),
        load_balancer_ips=("192.0.2.2",),
        source_ranges=("10.0.0.0/8",),
        affinity_seconds=5,
        external_local=True,
        external_refusal="drop",
    )
    assert all(len(chain) <= 28 for chain in chains(fresh().change({NAME: every})))


def test_reading_what_iptables_saves() -> None:
    text = """# Generated by iptables-save
*nat
:PREROUTING ACCEPT [12:34]
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -j RETURN
COMMIT
"""
    found = saved.parse(text)
    assert found.chains == (ChainName("nat", "PREROUTING"), ChainName("nat", "KUBE-SERVICES"))
    assert found.jumps == [ChainName("nat", "PREROUTING>KUBE-SERVICES")]
    moved = text.replace("[12:34]", "[99:99]").replace("# Generated", "# Completed")
    assert saved.digest(text.encode()) == saved.digest(moved.encode())
    assert saved.digest(text.encode()) != saved.digest(text.replace("RETURN", "DROP").encode())
