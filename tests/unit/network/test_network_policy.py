"""NetworkPolicies: what they come to in rules and sets, and what a change of one pod costs."""

from __future__ import annotations

from typing import Any

import pytest

from agent.network.policy.enforcer import transaction
from agent.network.policy.model import Pod, Policy
from agent.network.policy.rendering import Table, render
from agent.network.policy.state import PolicyState
from machinery.api.meta import Object

WEB, CLIENT = {"app": "web"}, {"app": "client"}


def pod(
    name: str, ip: str, labels: dict[str, str], *, namespace: str = "ns", node: str = "here", **more: Any
) -> Object:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"ports": more.pop("ports", [])}], **more.pop("spec", {})},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}], **more},
    }


def policy(name: str = "p", namespace: str = "ns", **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"podSelector": {"matchLabels": WEB}, **spec}}


def state(
    *objects: Object, namespaces: tuple[tuple[str, dict[str, str]], ...] = (("ns", {}), ("far", {"team": "a"}))
) -> PolicyState:
    made = PolicyState("here")
    for name, labels in namespaces:
        made.set_namespace(name, labels)
    for obj in objects:
        key = f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
        if "podSelector" in obj["spec"]:
            made.set_policy(key, Policy.of(obj))
        else:
            made.set_pod(key, Pod.of(obj))
    return made


HERE = pod("web", "10.0.0.1", WEB)
PODS = (HERE, pod("c", "10.0.0.2", CLIENT), pod("o", "10.0.1.3", CLIENT, namespace="far", node="there"))


def ingress(table: Table) -> tuple[str, ...]:
    [(_, rules)] = [(name, rules) for name, rules in table.chains.items() if name.startswith("ingress-")]
    return rules


def members(table: Table, rule: str) -> set[str]:
    """What is in the set that a rule refers to."""
    return set(table.elements[rule.partition("@")[2].split()[0]])


def test_without_a_rule_a_selected_pod_is_closed_in_the_directions_that_the_policy_is_about() -> None:
    table = render(state(*PODS, policy()))
    assert ingress(table) == ("drop",)
    assert list(table.elements["ingress4"]) == ["10.0.0.1"]
    assert table.elements["egress4"] == {}
    both = render(state(*PODS, policy(policyTypes=["Ingress", "Egress"])))
    assert list(both.elements["egress4"]) == ["10.0.0.1"]
    out = render(state(*PODS, policy(policyTypes=["Egress"])))
    assert out.elements["ingress4"] == {}


def test_pods_of_other_nodes_host_network_pods_and_ended_ones_have_no_rules() -> None:
    others = (
        pod("a", "10.0.1.1", WEB, node="there"),
        pod("b", "192.0.2.1", WEB, spec={"hostNetwork": True}),
        pod("d", "10.0.0.9", WEB, phase="Succeeded"),
        pod("e", "", WEB),
    )
    assert render(state(*others, policy())).elements["ingress4"] == {}


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ({"podSelector": {"matchLabels": CLIENT}}, {"10.0.0.2"}),
        ({"podSelector": {}}, {"10.0.0.1", "10.0.0.2"}),
        ({"namespaceSelector": {}}, {"10.0.0.1", "10.0.0.2", "10.0.1.3"}),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, {"10.0.1.3"}),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": {"matchLabels": WEB}}, set()),
        ({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}}, {"10.0.0.2"}),
    ],
)
def test_peers_are_pods_of_their_own_or_of_chosen_namespaces(peer: Object, expected: set[str]) -> None:
    rules = ingress(render(state(*PODS, policy(ingress=[{"from": [peer]}]))))
    table = render(state(*PODS, policy(ingress=[{"from": [peer]}])))
    assert rules[0].startswith("ip saddr @pods4-")
    assert rules[0].endswith(" return")
    assert members(table, rules[0]) == expected


@pytest.mark.parametrize(
    ("block", "rule"),
    [
        ({"cidr": "10.9.0.0/16"}, "ip saddr 10.9.0.0/16 return"),
        (
            {"cidr": "10.9.0.0/16", "except": ["10.9.1.0/24", "10.9.1.128/25", "10.9.3.0/24"]},
            "ip saddr 10.9.0.0/16 ip saddr != { 10.9.1.0/24, 10.9.3.0/24 } return",
        ),
        ({"cidr": "0.0.0.0/0"}, "meta nfproto ipv4 return"),
        ({"cidr": "::/0", "except": ["fd00::/8"]}, "meta nfproto ipv6 ip6 saddr != { fd00::/8 } return"),
    ],
)
def test_ranges_of_addresses_may_have_holes(block: Object, rule: str) -> None:
    assert ingress(render(state(HERE, policy(ingress=[{"from": [{"ipBlock": block}]}])))) == (rule, "drop")


def test_ports_are_numbers_ranges_protocols_or_names() -> None:
    ports = [
        {"port": 80},
        {"protocol": "UDP", "port": 1000, "endPort": 2000},
        {"protocol": "SCTP"},
        {"port": "http"},
    ]
    web = pod("web", "10.0.0.1", WEB, ports=[{"name": "http", "containerPort": 8080}])
    other = pod("web2", "10.0.0.4", WEB, ports=[{"name": "http", "containerPort": 9090}])
    table = render(state(web, other, policy(ingress=[{"ports": ports}])))
    rules = ingress(table)
    assert rules[:3] == ("tcp dport 80 return", "udp dport 1000-2000 return", "meta l4proto sctp return")
    assert members(table, rules[3]) == {"10.0.0.1 . tcp . 8080", "10.0.0.4 . tcp . 9090"}


def test_a_name_of_a_port_on_the_way_out_is_the_receivers() -> None:
    server = pod("db", "10.0.1.7", {"app": "db"}, node="there", ports=[{"name": "sql", "containerPort": 5432}])
    rule = {"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": "sql"}]}
    anywhere = {"ports": [{"port": "sql"}]}
    for each in (rule, anywhere):
        table = render(state(HERE, server, policy(policyTypes=["Egress"], egress=[each])))
        [rules] = [rules for name, rules in table.chains.items() if name.startswith("egress-")]
        assert members(table, rules[0]) == {"10.0.1.7 . tcp . 5432"}


def test_policies_add_to_what_each_other_allows() -> None:
    table = render(state(*PODS, policy("a"), policy("b", ingress=[{"ports": [{"port": 80}]}])))
    assert ingress(table) == ("tcp dport 80 return", "drop")


def test_rubbish_allows_nothing_and_is_told() -> None:
    broken = Policy.of(
        policy(ingress=[{"from": [{"ipBlock": {"cidr": "300.1.1.1/8"}}]}, {"ports": [{"protocol": "X", "port": 1}]}])
    )
    assert len(broken.problems) == 2
    made = state(HERE)
    made.set_policy("ns/p", broken)
    assert ingress(render(made)) == ("drop",)


def test_a_pod_that_comes_is_an_element_and_nothing_else() -> None:
    made = state(*PODS, policy(ingress=[{"from": [{"podSelector": {"matchLabels": CLIENT}}]}]))
    before = render(made)
    assert made.set_pod("ns/new", Pod.of(pod("new", "10.0.5.5", CLIENT, node="there")))
    text = transaction(before, render(made)).text().decode()
    assert text.count("\n") == 1
    assert text.startswith("add element inet network-policy pods4-")
    assert "{ 10.0.5.5 }" in text


def test_labels_of_a_namespace_decide_whose_pods_are_meant() -> None:
    made = state(*PODS, policy(ingress=[{"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}]))
    before = render(made)
    assert members(before, ingress(before)[0]) == set()
    assert made.set_namespace("far", {"team": "b"})
    after = render(made)
    assert members(after, ingress(after)[0]) == {"10.0.1.3"}


def test_what_changes_nothing_is_noticed() -> None:
    made = state(*PODS, policy())
    assert not made.set_pod("ns/web", Pod.of(HERE))
    assert not made.set_policy("ns/p", Policy.of(policy()))
    assert not made.set_namespace("ns", {})
    assert not transaction(render(made), render(made))


def test_the_last_policy_takes_its_chain_and_sets_with_it() -> None:
    made = state(*PODS, policy(ingress=[{"from": [{"podSelector": {}}]}]), policy("q", policyTypes=["Egress"]))
    before = render(made)
    made.set_policy("ns/p", None)
    text = transaction(before, render(made)).text().decode()
    assert "delete chain inet network-policy ingress-" in text
    assert "delete set inet network-policy pods4-" in text
    assert text.index("delete element inet network-policy ingress4") < text.index("delete chain")
