"""Which endpoints get which traffic: plans from Services and EndpointSlices."""

from __future__ import annotations

from typing import Any

import pytest

from agent.proxy.model import Endpoint, Family, NodeView, PortRules
from agent.proxy.planning import Candidate, choose, is_proxied, plan_service, service_key_of_slice
from machinery.api.meta import Object

NODE = NodeView("w1", zone="a", pod_ranges=("10.244.1.0/24",))


def make_service(**spec: Any) -> Object:
    status = spec.pop("status", {})
    base = {"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
    return {"metadata": {"namespace": "ns", "name": "web"}, "spec": base | spec, "status": status}


def endpoint(ip: str, node: str = "", **conditions: bool) -> Object:
    return {"addresses": [ip], "conditions": conditions} | ({"nodeName": node} if node else {})


def make_slice(
    *endpoints: Object, ports: list[Object] | None = None, family: str = "IPv4", name: str = "web-1"
) -> Object:
    return {
        "metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": family,
        "ports": ports or [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


def only_port(service: Object, *slices: Object, node: NodeView = NODE, family: Family = Family.IPV4) -> PortRules:
    (rules,) = plan_service(service, slices, node, family).ports
    return rules


def ips(endpoints: tuple[Endpoint, ...]) -> list[str]:
    return [e.ip for e in endpoints]


@pytest.mark.parametrize(
    ("spec", "labels", "proxied"),
    [
        ({}, {}, True),
        ({"clusterIP": "None"}, {}, False),
        ({"clusterIP": ""}, {}, False),
        ({"type": "ExternalName", "externalName": "example.org"}, {}, False),
        ({}, {"service.kubernetes.io/service-proxy-name": "other"}, False),
    ],
)
def test_headless_external_and_foreign_services_are_left_alone(
    spec: Object, labels: dict[str, str], proxied: bool
) -> None:
    service = make_service(**spec)
    service["metadata"]["labels"] = labels
    assert is_proxied(service) is proxied
    assert bool(plan_service(service, [make_slice(endpoint("10.244.1.5"))], NODE, Family.IPV4).ports) is proxied


def test_a_slice_belongs_to_the_service_that_its_label_names() -> None:
    piece = make_slice()
    assert service_key_of_slice(piece) == "ns/web"
    piece["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    assert service_key_of_slice(piece) is None
    assert service_key_of_slice({"metadata": {"namespace": "ns", "name": "x"}}) is None


def test_endpoints_are_sorted_and_named_once_over_all_slices() -> None:
    rules = only_port(
        make_service(),
        make_slice(endpoint("10.244.1.9"), endpoint("10.244.1.5"), name="b"),
        make_slice(endpoint("10.244.1.5", "w1"), name="a"),
    )
    assert rules.cluster == (Endpoint("10.244.1.5", 8080), Endpoint("10.244.1.9", 8080))
    assert rules.local == ()
    assert rules.hairpin_ips == ("10.244.1.5", "10.244.1.9")


def test_ports_are_matched_by_name_and_protocol() -> None:
    service = make_service(
        ports=[
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns", "port": 53, "protocol": "TCP"},
            {"name": "metrics", "port": 9153},
        ]
    )
    ports = [{"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "metrics", "port": 9153}]
    plan = plan_service(service, [make_slice(endpoint("10.244.1.5"), ports=ports)], NODE, Family.IPV4)
    found = {(p.name.port, p.name.protocol): [e.port for e in p.cluster] for p in plan.ports}
    assert found == {("dns", "udp"): [5353], ("dns", "tcp"): [], ("metrics", "tcp"): [9153]}


def test_without_endpoints_traffic_is_rejected() -> None:
    rules = only_port(make_service(type="NodePort", ports=[{"name": "http", "port": 80, "nodePort": 30000}]))
    assert (rules.internal_refusal, rules.external_refusal) == ("reject", "reject")


def test_local_policy_without_local_endpoints_drops_what_another_node_could_deliver() -> None:
    service = make_service(
        type="NodePort", externalTrafficPolicy="Local", ports=[{"name": "http", "port": 80, "nodePort": 30000}]
    )
    away = only_port(service, make_slice(endpoint("10.244.2.5", "w2")))
    assert (away.internal_refusal, away.external_refusal) == ("", "drop")
    assert ips(away.internal) == ["10.244.2.5"]
    assert away.external == ()
    here = only_port(service, make_slice(endpoint("10.244.2.5", "w2"), endpoint("10.244.1.5", "w1")))
    assert ips(here.external) == ["10.244.1.5"]
    assert ips(here.internal) == ["10.244.1.5", "10.244.2.5"]
    nowhere = only_port(service, make_slice(endpoint("10.244.2.5", "w2", ready=False)))
    assert (nowhere.internal_refusal, nowhere.external_refusal) == ("reject", "reject")


def test_internal_local_policy_counts_for_the_cluster_ip_alone() -> None:
    slices = make_slice(endpoint("10.244.2.5", "w2"), endpoint("10.244.1.5", "w1"))
    rules = only_port(make_service(internalTrafficPolicy="Local"), slices)
    assert ips(rules.internal) == ["10.244.1.5"]
    assert rules.cluster == ()
    both = only_port(
        make_service(
            internalTrafficPolicy="Local", type="NodePort", ports=[{"name": "http", "port": 80, "nodePort": 30000}]
        ),
        slices,
    )
    assert ips(both.internal) == ["10.244.1.5"]
    assert ips(both.external) == ["10.244.1.5", "10.244.2.5"]


def test_external_local_policy_means_nothing_to_a_service_that_only_has_a_cluster_ip() -> None:
    rules = only_port(make_service(externalTrafficPolicy="Local"), make_slice(endpoint("10.244.2.5", "w2")))
    assert not rules.external_local
    assert rules.external_refusal == ""


def test_udp_flows_may_stay_with_whoever_serves() -> None:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "http", "port": 80, "protocol": "TCP"}]
    piece = make_slice(
        endpoint("10.244.1.5", "w1"),
        endpoint("10.244.1.6", ready=False, serving=True, terminating=True),
        endpoint("10.244.1.7", ready=False, serving=False, terminating=True),
        ports=ports,
    )
    udp, tcp = plan_service(make_service(ports=ports), [piece], NODE, Family.IPV4).ports
    assert ips(udp.cluster) == ["10.244.1.5"]
    assert udp.serving_ips == {"10.244.1.5", "10.244.1.6"}
    assert tcp.serving_ips == frozenset()


def candidate(ip: str, flags: str = "ready serving", zones: str = "", nodes: str = "") -> Candidate:
    return Candidate(
        Endpoint(ip, 80),
        "ready" in flags,
        "serving" in flags,
        "terminating" in flags,
        "local" in flags,
        "local" in flags,
        tuple(zones.split()),
        tuple(nodes.split()),
    )


READY, DRAINING = "ready serving", "serving terminating"


@pytest.mark.parametrize(
    ("candidates", "cluster", "local"),
    [
        pytest.param([candidate("1", READY), candidate("2", DRAINING)], ["1"], [], id="ready before terminating"),
        pytest.param([candidate("1", DRAINING), candidate("2", "terminating")], ["1"], [], id="terminating that serve"),
        pytest.param([candidate("1", ""), candidate("2", "terminating")], [], [], id="none usable"),
        pytest.param(
            [candidate("1", READY), candidate("2", DRAINING + " local")],
            ["1"],
            ["2"],
            id="local drains, cluster does not",
        ),
        pytest.param(
            [candidate("1", READY + " local"), candidate("2", DRAINING + " local")], ["1"], ["1"], id="local ready"
        ),
        pytest.param(
            [candidate("1", READY, "a"), candidate("2", READY, "b")], ["1"], [], id="the zone's own, by hints"
        ),
        pytest.param(
            [candidate("1", READY, "a"), candidate("2", READY)], ["1", "2"], [], id="a missing hint spoils all hints"
        ),
        pytest.param([candidate("1", READY, "b"), candidate("2", READY, "c")], ["1", "2"], [], id="no hint for us"),
        pytest.param(
            [candidate("1", READY, "a", "w1"), candidate("2", READY, "a", "w2")], ["1"], [], id="the node's own first"
        ),
        pytest.param(
            [candidate("1", READY, "a", "w2"), candidate("2", READY, "b", "w3")], ["1"], [], id="else the zone's own"
        ),
        pytest.param(
            [candidate("1", READY, "a"), candidate("2", READY + " local", "b")], ["1"], ["2"], id="hints spare local"
        ),
        pytest.param(
            [candidate("1", READY, "a"), candidate("2", DRAINING)], ["1"], [], id="hints of ready ones alone count"
        ),
    ],
)
def test_choosing_endpoints(candidates: list[Candidate], cluster: list[str], local: list[str]) -> None:
    chosen = choose(candidates, NODE, wants_cluster=True, wants_local=True)
    assert ips(chosen.cluster) == cluster
    assert ips(chosen.local) == local
    assert chosen.any == bool(cluster or local)


def test_load_balancers_reach_services_by_virtual_ips_alone() -> None:
    ingress = [
        {"ip": "192.0.2.1", "ipMode": "VIP"},
        {"ip": "192.0.2.2", "ipMode": "Proxy"},
        {"ip": "192.0.2.3"},
        {"hostname": "lb.example.org"},
    ]
    service = make_service(type="LoadBalancer", status={"loadBalancer": {"ingress": ingress}})
    rules = only_port(service, make_slice(endpoint("10.244.1.5")))
    assert rules.load_balancer_ips == ("192.0.2.1", "192.0.2.3")
    assert rules.source_ranges is None


def test_source_ranges_of_another_family_let_nobody_of_this_one_in() -> None:
    ranges = ["10.0.0.0/8", " 192.0.2.7/24 ", "fd00::/8", "rubbish"]
    service = make_service(type="LoadBalancer", clusterIPs=["10.96.0.1", "fd00:96::1"], loadBalancerSourceRanges=ranges)
    plan = plan_service(service, [], NODE, Family.IPV4)
    assert plan.ports[0].source_ranges == ("10.0.0.0/8", "192.0.2.0/24")
    assert plan.problems == ("spec.loadBalancerSourceRanges: 'rubbish' is no CIDR",)
    service["spec"]["loadBalancerSourceRanges"] = ["10.0.0.0/8"]
    assert only_port(service, family=Family.IPV6).source_ranges == ()


def test_health_checks_count_this_nodes_ready_endpoints_once_each() -> None:
    service = make_service(
        type="LoadBalancer",
        externalTrafficPolicy="Local",
        healthCheckNodePort=31000,
        ports=[{"name": "http", "port": 80}, {"name": "https", "port": 443}],
    )
    ports = [{"name": "http", "port": 8080}, {"name": "https", "port": 8443}]
    piece = make_slice(
        endpoint("10.244.1.5", "w1"),
        endpoint("10.244.1.6", "w1", ready=False),
        endpoint("10.244.2.5", "w2"),
        ports=ports,
    )
    plan = plan_service(service, [piece], NODE, Family.IPV4)
    assert plan.health_check is not None
    assert (plan.health_check.node_port, plan.health_check.local_endpoints) == (31000, 1)
    service["spec"]["externalTrafficPolicy"] = "Cluster"
    assert plan_service(service, [piece], NODE, Family.IPV4).health_check is None


def test_affinity_has_upstreams_default_and_the_services_own_timeout() -> None:
    assert only_port(make_service(sessionAffinity="ClientIP")).affinity_seconds == 10800
    config = {"clientIP": {"timeoutSeconds": 7}}
    assert only_port(make_service(sessionAffinity="ClientIP", sessionAffinityConfig=config)).affinity_seconds == 7
    assert only_port(make_service(sessionAffinity="None")).affinity_seconds == 0


def test_each_family_has_its_own_addresses_and_endpoints() -> None:
    service = make_service(clusterIPs=["10.96.0.1", "FD00:96::1"], externalIPs=["192.0.2.1", "2001:db8::1"])
    slices = (make_slice(endpoint("10.244.1.5")), make_slice(endpoint("fd00:0:0::5"), family="IPv6", name="six"))
    four, six = only_port(service, *slices), only_port(service, *slices, family=Family.IPV6)
    assert (four.cluster_ip, four.external_ips, ips(four.cluster)) == ("10.96.0.1", ("192.0.2.1",), ["10.244.1.5"])
    assert (six.cluster_ip, six.external_ips, ips(six.cluster)) == ("fd00:96::1", ("2001:db8::1",), ["fd00::5"])
    assert plan_service(make_service(), slices, NODE, Family.IPV6).ports == ()


def test_what_can_not_be_used_is_told_and_left_out() -> None:
    service = make_service(
        externalIPs=["rubbish"],
        ports=[
            {"name": "bad", "port": 0},
            {"name": "odd", "port": 80, "protocol": "ICMP"},
            {"name": "http", "port": 80},
        ],
    )
    piece = make_slice(
        endpoint("not-an-ip"),
        {"addresses": []},
        endpoint("10.244.1.5"),
        ports=[{"name": "http", "port": 8080}, {"name": "bad", "port": 70000}, {"name": "all", "port": None}],
    )
    plan = plan_service(service, [piece], NODE, Family.IPV4)
    assert [(p.name.port, ips(p.cluster)) for p in plan.ports] == [("http", ["10.244.1.5"])]
    assert plan.problems == (
        "spec.externalIPs: 'rubbish' is no IP address",
        "EndpointSlice web-1: 70000/None is not a port",
        "EndpointSlice web-1: endpoints[0]: 'not-an-ip' is no IPv4 address",
        "EndpointSlice web-1: endpoints[1]: nothing is no IPv4 address",
        "port 0/TCP is not one that can be proxied",
        "port 80/ICMP is not one that can be proxied",
    )
    assert plan_service(make_service(clusterIP="rubbish"), [piece], NODE, Family.IPV4).problems == (
        "spec.clusterIPs: 'rubbish' is no IP address",
    )


@pytest.mark.parametrize(
    ("node", "hairpin"),
    [
        (NodeView("w1", pod_ranges=("10.244.1.0/24",)), ("10.244.1.5", "10.244.2.6")),
        (NodeView("w1", pod_ranges=()), ("10.244.1.5", "10.244.2.6", "10.244.2.7")),
        (NodeView("w1", pod_ranges=None), ("10.244.2.6",)),
    ],
)
def test_endpoints_of_unknown_place_are_this_nodes_if_they_may_be(node: NodeView, hairpin: tuple[str, ...]) -> None:
    piece = make_slice(
        endpoint("10.244.1.5"), endpoint("10.244.2.6", "w1"), endpoint("10.244.2.7"), endpoint("10.244.2.8", "w2")
    )
    assert only_port(make_service(), piece, node=node).hairpin_ips == hairpin
