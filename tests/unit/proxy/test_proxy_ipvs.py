"""What the IPVS backend plans: virtual servers, members of sets, rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.proxy.ipvs.claims import Claims
from agent.proxy.ipvs.ipset import change_text, replace_text
from agent.proxy.ipvs.rendering import SETS, Member, VirtualServer, render, set_name
from agent.proxy.ipvs.skeleton import JUMPS, chains
from agent.proxy.model import Endpoint, Family, PortRules, Protocol4, ServicePortName
from agent.proxy.settings import LocalDetector, RuleSettings

SETTINGS = RuleSettings(Family.IPV4, local=LocalDetector("ClusterCIDR", "10.244.0.0/16"))
A, B = Endpoint("10.244.0.1", 8080), Endpoint("10.244.1.1", 8080)
NAME = ServicePortName("ns", "web", "http", "tcp")
WEB = PortRules(NAME, port=80, cluster_ip="10.96.0.1", cluster=(A, B), hairpin_ips=(A.ip,))


def test_a_cluster_ip_is_a_virtual_server_on_the_dummy_link_and_in_the_sets_that_rules_look_at() -> None:
    made = render(WEB, SETTINGS, ["192.0.2.1"])
    assert list(made.servers) == [VirtualServer("10.96.0.1", 80, "tcp")]
    assert made.addresses == {"10.96.0.1"}
    assert made.members == {
        Member("CLUSTER-IP", "10.96.0.1,tcp:80"),
        Member("IPVS-IPS", "10.96.0.1"),
        Member("LOOP-BACK", "10.244.0.1,tcp:8080,10.244.0.1"),
    }


@pytest.mark.parametrize(("protocol", "member"), [("tcp", "30080"), ("udp", "30080"), ("sctp", "192.0.2.1,sctp:30080")])
def test_a_node_port_is_served_on_every_address_and_on_no_dummy_link(protocol: Protocol4, member: str) -> None:
    rules = replace(WEB, name=NAME._replace(protocol=protocol), node_port=30080, external_local=True, local=(A,))
    made = render(rules, SETTINGS, ["192.0.2.1", "198.51.100.1"])
    served = {server.ip: service.endpoints for server, service in made.servers.items() if server.port == 30080}
    assert served == {"192.0.2.1": (A,), "198.51.100.1": (A,)}
    assert made.addresses == {"10.96.0.1"}
    assert [m.text for m in sorted(made.members) if m.set.startswith("NODE-PORT-LOCAL-")][:1] == [member]


def test_without_endpoints_there_is_no_server_but_a_rule_that_says_so() -> None:
    none = replace(WEB, cluster=(), internal_refusal="reject", external_ips=("192.0.2.9",), external_refusal="drop")
    made = render(none, SETTINGS, [])
    assert made.servers == {}
    assert {
        Member("NO-ENDPOINTS", "10.96.0.1,tcp:80"),
        Member("NO-LOCAL-ENDPOINTS", "192.0.2.9,tcp:80"),
    } <= made.members


def test_source_ranges_are_members_and_everybody_is_two_halves() -> None:
    rules = replace(WEB, load_balancer_ips=("192.0.2.9",), source_ranges=("0.0.0.0/0",))
    texts = {m.text for m in render(rules, SETTINGS, []).members if m.set == "LOAD-BALANCER-SOURCE-CIDR"}
    assert texts == {"192.0.2.9,tcp:80,0.0.0.0/1", "192.0.2.9,tcp:80,128.0.0.0/1"}


@pytest.mark.parametrize("family", list(Family))
def test_rules_refer_to_chains_and_sets_that_there_are(family: Family) -> None:
    made = chains(replace(SETTINGS, family=family))
    known = {(name.table, name.chain) for name in made}
    names = {set_name(family, name) for name in SETS}
    assert len(names) == len(SETS)
    assert all(len(name) <= 31 for name in names)
    for name, rules in made.items():
        for rule in rules:
            words = rule.split()
            if "--match-set" in words:
                assert words[words.index("--match-set") + 1] in names
            target = words[words.index("-j") + 1]
            assert not target.startswith("KUBE") or (name.table, target) in known
    assert all((jump.table, jump.target) in known for jump in JUMPS)


def test_sets_are_made_and_brought_from_what_they_hold_to_what_they_should() -> None:
    wanted = {"CLUSTER-IP": ["10.96.0.1,tcp:80", "10.96.0.2,tcp:80"]}
    there: dict[str, list[str]] = {name: [] for name in SETS if name != "LOOP-BACK"} | {
        "CLUSTER-IP": ["10.96.0.2,tcp:80", "10.96.0.3,tcp:80"]
    }
    assert replace_text(Family.IPV4, wanted, there).decode().splitlines() == [
        "add KUBE-CLUSTER-IP 10.96.0.1,tcp:80",
        "del KUBE-CLUSTER-IP 10.96.0.3,tcp:80",
        "create KUBE-LOOP-BACK hash:ip,port,ip family inet maxelem 1048576",
    ]
    assert change_text(Family.IPV6, [Member("IPVS-IPS", "fd00::1")], []) == b"add KUBE-6-IPVS-IPS fd00::1\n"


def test_what_two_want_stays_until_neither_does() -> None:
    claims: Claims[str, int] = Claims()
    other = NAME._replace(name="another")
    claims.change(NAME, {}, {"ip": 2})
    mark = claims.mark()
    claims.change(other, {}, {"ip": 1})
    assert claims.get("ip") == 1
    assert list(mark.touched()) == ["ip"]
    claims.change(other, {"ip": 1}, {})
    assert claims.get("ip") == 2
    assert list(mark.touched()) == []
    claims.change(NAME, {"ip": 2}, {})
    assert mark.difference() == (set(), {"ip"})
