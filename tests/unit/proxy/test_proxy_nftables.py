"""The nftables ruleset: what a change sends, and no more."""

from __future__ import annotations

from dataclasses import replace

from agent.proxy.model import Endpoint, Family, PortRules, ServicePortName
from agent.proxy.nftables.ruleset import Ruleset
from agent.proxy.settings import LocalDetector, RuleSettings

SETTINGS = RuleSettings(Family.IPV4, local=LocalDetector("ClusterCIDR", "10.244.0.0/16"), node_ips=("10.0.0.1",))
A, B, C = (Endpoint(f"10.244.0.{n}", 8080) for n in (1, 2, 3))
NAME = ServicePortName("ns", "web", "http", "tcp")
WEB = PortRules(NAME, port=80, cluster_ip="10.96.0.1", cluster=(A, B))


def lines(script: bytes) -> list[str]:
    return script.decode().splitlines()


def fresh(*rules: PortRules) -> Ruleset:
    made = Ruleset(SETTINGS)
    made.replace({r.name: r for r in rules}, (), {})
    return made


def test_a_new_service_is_a_few_elements() -> None:
    ruleset = fresh(replace(WEB, name=NAME._replace(name="first"), cluster_ip="10.96.0.9"))
    assert lines(ruleset.change({NAME: WEB}).text()) == [
        "add element ip kube-proxy cluster-ips { 10.96.0.1 }",
        "add element ip kube-proxy endpoints-tcp-2"
        " { 10.96.0.1 . 80 . 0 : 10.244.0.1 . 8080, 10.96.0.1 . 80 . 1 : 10.244.0.2 . 8080 }",
        'add element ip kube-proxy service-ips { 10.96.0.1 . tcp . 80 comment "ns/web:http" : goto balance-tcp-2 }',
    ]


def test_a_moved_endpoint_is_one_element() -> None:
    ruleset = fresh(WEB)
    assert lines(ruleset.change({NAME: replace(WEB, cluster=(A, C))}).text()) == [
        "delete element ip kube-proxy endpoints-tcp-2 { 10.96.0.1 . 80 . 1 }",
        "add element ip kube-proxy endpoints-tcp-2 { 10.96.0.1 . 80 . 1 : 10.244.0.3 . 8080 }",
    ]


def test_the_first_service_with_so_many_endpoints_brings_their_map() -> None:
    script = lines(fresh(WEB).change({NAME: replace(WEB, cluster=(A, B, C))}).text())
    assert script[:4] == [
        "add map ip kube-proxy endpoints-tcp-3"
        " { typeof ip daddr . tcp dport . numgen random mod 3 : ip daddr . tcp dport; }",
        "add chain ip kube-proxy balance-tcp-3",
        "flush chain ip kube-proxy balance-tcp-3",
        "delete element ip kube-proxy endpoints-tcp-2 { 10.96.0.1 . 80 . 0, 10.96.0.1 . 80 . 1 }",
    ]


def test_nothing_is_sent_when_nothing_changed() -> None:
    ruleset = fresh(WEB)
    assert not ruleset.change({NAME: WEB})
    assert not ruleset.change({NAME._replace(name="never-there"): None})


def test_a_removed_service_takes_all_its_parts_along() -> None:
    sticky = replace(WEB, affinity_seconds=60, node_port=30000)
    script = lines(fresh(sticky).change({NAME: None}).text())
    declared = lines(fresh().change({NAME: sticky}).text())
    made = {line.split()[4] for line in declared if line.startswith(("add chain", "add set"))}
    removed = {line.split()[4] for line in script if line.startswith(("delete chain", "delete set"))}
    assert removed == made
    assert len(made) == 6
    assert "delete element ip kube-proxy service-nodeports { tcp . 30000 }" in script


def test_another_affinity_timeout_declares_the_sets_anew_before_rules_use_them() -> None:
    sticky = replace(WEB, affinity_seconds=60, cluster=(A,))
    script = lines(fresh(sticky).change({NAME: replace(sticky, affinity_seconds=90)}).text())
    kinds = [" ".join(line.split()[:2]) for line in script]
    assert kinds == [
        "flush chain",
        "flush chain",
        "delete set",
        "add set",
        "add rule",
        "add rule",
        "add rule",
        "add rule",
    ]
    assert "timeout 90s" in script[3]


def test_a_replacement_keeps_what_affinity_remembers_and_removes_what_is_not_ours_any_more() -> None:
    sticky = replace(WEB, affinity_seconds=60, cluster=(A,))
    ruleset = Ruleset(SETTINGS)
    first = lines(ruleset.replace({NAME: sticky}, (), {}).text())
    (affinity,) = [line.split()[4] for line in first if line.startswith("add set") and "affinity-" in line]
    second = lines(ruleset.replace({NAME: sticky}, ["services", "stale"], {affinity: "", "old": " : "}).text())
    assert not any(affinity in line and line.startswith(("flush", "delete")) for line in second)
    assert second[-2:] == ["delete chain ip kube-proxy stale", "delete map ip kube-proxy old"]
    assert "flush chain ip kube-proxy stale" in second


def test_equal_content_gives_equal_text_in_whatever_order_it_came() -> None:
    many = [
        replace(WEB, name=NAME._replace(name=f"s{n}"), cluster_ip=f"10.96.1.{n}", node_port=30000 + n)
        for n in range(20)
    ]
    one, other = Ruleset(SETTINGS), Ruleset(SETTINGS)
    forward = one.replace({r.name: r for r in many}, (), {}).text()
    assert forward == other.replace({r.name: r for r in reversed(many)}, (), {}).text()


def test_the_element_of_two_claimants_goes_to_the_first_by_name_and_then_to_the_next() -> None:
    first = replace(WEB, name=NAME._replace(name="a"), external_ips=("192.0.2.1",))
    second = replace(WEB, name=NAME._replace(name="b"), cluster_ip="10.96.0.2", external_ips=("192.0.2.1",))
    ruleset = fresh(second)
    taken = ruleset.change({first.name: first}).text().decode()
    assert "delete element ip kube-proxy service-ips { 192.0.2.1 . tcp . 80 }" in taken
    given = ruleset.change({first.name: None}).text().decode()
    assert '192.0.2.1 . tcp . 80 comment "ns/b:http"' in given


def test_a_node_that_may_use_a_load_balancer_may_do_so_with_the_balancers_own_address() -> None:
    guarded = replace(WEB, load_balancer_ips=("192.0.2.6",), source_ranges=("10.0.0.0/24", "10.0.0.0/25"))
    script = fresh().change({NAME: guarded}).text().decode()
    assert "ip saddr != { 10.0.0.0/24, 192.0.2.6/32 } drop" in script
    elsewhere = fresh().change({NAME: replace(guarded, source_ranges=("172.16.0.0/12",))}).text().decode()
    assert "ip saddr != { 172.16.0.0/12 } drop" in elsewhere


def test_ten_thousand_endpoints_are_one_map() -> None:
    many = tuple(Endpoint(f"10.{200 + n // 65536}.{n // 256 % 256}.{n % 256}", 80) for n in range(10000))
    script = lines(fresh().change({NAME: replace(WEB, cluster=many)}).text())
    assert sum(line.startswith("add element") and "endpoints-tcp-10000" in line for line in script) == 1
