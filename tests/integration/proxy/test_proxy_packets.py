"""What packets see, the same for every backend: real connections between network namespaces."""

from __future__ import annotations

from dataclasses import replace

import pytest
from packet_rules import HERE, IP, SILENCE_SECONDS, everything, service, settings, to
from proxy_hosts import (
    BRIDGE_IP,
    NODE_IP,
    OUTSIDE_IP,
    POD_RANGE6,
    PODS,
    PODS6,
    PORT,
    SERVICE_RANGE6,
    Hosts,
)

from agent.proxy.errors import BackendError
from agent.proxy.model import Backend, Endpoint, Family, PortRules, ServicePortName
from agent.proxy.modes import make_backend
from agent.proxy.settings import LocalDetector, RuleSettings

pytest_plugins = ["wired_hosts", "packet_backends"]


async def refused(hosts: Hosts, source: str, ip: str, port: int) -> bool:
    try:
        await hosts.ask(source, ip, port)
    except ConnectionRefusedError:
        return True
    return False


async def dropped(hosts: Hosts, source: str, ip: str, port: int) -> bool:
    try:
        await hosts.ask(source, ip, port, SILENCE_SECONDS)
    except TimeoutError:
        return True
    return False


async def test_a_pod_reaches_every_endpoint_of_a_cluster_ip_and_is_seen_as_itself(
    hosts: Hosts, backend: Backend
) -> None:
    await backend.replace(everything(service(pods=("pod2", "pod3", "far"))))
    seen = [await hosts.ask("pod1", IP, 80) for _ in range(30)]
    assert {answer.server for answer in seen} == {"pod2", "pod3", "far"}
    assert {answer.client for answer in seen} == {PODS["pod1"]}


async def test_the_node_reaches_a_cluster_ip(hosts: Hosts, backend: Backend) -> None:
    await backend.replace(everything(service(pods=("pod1", "far"))))
    assert set(await hosts.servers("node", IP, 80)) == {"pod1", "far"}


async def test_what_does_not_come_from_a_pod_is_masqueraded_on_its_way_to_a_cluster_ip(
    hosts: Hosts, backend: Backend
) -> None:
    await backend.replace(everything(service(pods=("far",))))
    assert (await hosts.ask("outside", IP, 80)).client == NODE_IP


async def test_masquerade_all_masks_pods_too(hosts: Hosts, backend: Backend, mode: str) -> None:
    backend.configure(settings(mode, masquerade_all=True))
    await backend.replace(everything(service(pods=("far",))))
    assert (await hosts.ask("pod1", IP, 80)).client == NODE_IP


async def test_a_pod_reaches_itself_through_its_service(hosts: Hosts, backend: Backend) -> None:
    await backend.replace(everything(service(pods=("pod1",))))
    answer = await hosts.ask("pod1", IP, 80)
    assert answer.server == "pod1"
    assert answer.client == BRIDGE_IP
    assert (await hosts.ask("pod2", IP, 80)).client == PODS["pod2"]


async def test_outside_reaches_any_endpoint_by_node_port_and_is_masqueraded(hosts: Hosts, backend: Backend) -> None:
    await backend.replace(everything(replace(service(pods=("pod1", "far")), node_port=30080)))
    seen = [await hosts.ask("outside", NODE_IP, 30080) for _ in range(24)]
    assert {answer.server for answer in seen} == {"pod1", "far"}
    assert {answer.client for answer in seen if answer.server == "far"} == {NODE_IP}
    assert set(await hosts.servers("pod2", NODE_IP, 30080)) == {"pod1", "far"}
    assert set(await hosts.servers("node", NODE_IP, 30080)) == {"pod1", "far"}


async def test_local_external_traffic_stays_on_the_node_and_keeps_its_address(
    hosts: Hosts, backend: Backend, mode: str
) -> None:
    rules = replace(service(pods=("pod1", "far")), node_port=30080, external_local=True, local=to("pod1"))
    await backend.replace(everything(rules))
    seen = [await hosts.ask("outside", NODE_IP, 30080) for _ in range(12)]
    assert {(answer.server, answer.client) for answer in seen} == {("pod1", OUTSIDE_IP)}
    # Pods and the node itself are not outside: they get the whole cluster, but from IPVS, which can't tell them apart.
    everywhere = {"pod1"} if mode == "ipvs" else {"pod1", "far"}
    assert set(await hosts.servers("pod2", NODE_IP, 30080)) == everywhere
    assert set(await hosts.servers("node", NODE_IP, 30080)) == everywhere
    assert set(await hosts.servers("pod2", IP, 80)) == {"pod1", "far"}


async def test_local_external_traffic_without_a_local_endpoint_is_dropped(
    hosts: Hosts, backend: Backend, mode: str
) -> None:
    external = "192.0.2.7"
    rules = replace(
        service(pods=("far",)),
        node_port=30080,
        load_balancer_ips=(external,),
        external_local=True,
        external_refusal="drop",
    )
    await backend.replace(everything(rules))
    assert await dropped(hosts, "outside", NODE_IP, 30080)
    assert await dropped(hosts, "outside", external, 80)
    if mode != "ipvs":
        assert (await hosts.ask("pod1", external, 80)).server == "far"
        assert (await hosts.ask("node", external, 80)).server == "far"


async def test_local_internal_traffic_stays_on_the_node(hosts: Hosts, backend: Backend) -> None:
    near = replace(service(pods=("pod1", "far")), internal_local=True, local=to("pod1"))
    away = replace(service("away", ip="10.96.0.11", pods=()), internal_local=True, internal_refusal="drop")
    await backend.replace(everything(near, away))
    assert set(await hosts.servers("pod2", IP, 80, 12)) == {"pod1"}
    assert await dropped(hosts, "pod2", "10.96.0.11", 80)
    assert await dropped(hosts, "node", "10.96.0.11", 80)


async def test_external_and_load_balancer_ips_lead_to_the_service(hosts: Hosts, backend: Backend) -> None:
    rules = replace(service(pods=("far",)), external_ips=("192.0.2.5",), load_balancer_ips=("192.0.2.6",))
    await backend.replace(everything(rules))
    for ip in ("192.0.2.5", "192.0.2.6"):
        answer = await hosts.ask("outside", ip, 80)
        assert (answer.server, answer.client) == ("far", NODE_IP)
        assert (await hosts.ask("pod1", ip, 80)).server == "far"


async def test_source_ranges_guard_the_load_balancers_ip_alone(hosts: Hosts, backend: Backend) -> None:
    rules = replace(
        service(pods=("pod1",)), node_port=30080, load_balancer_ips=("192.0.2.6",), source_ranges=("10.9.0.0/16",)
    )
    await backend.replace(everything(rules))
    assert await dropped(hosts, "outside", "192.0.2.6", 80)
    assert (await hosts.ask("outside", NODE_IP, 30080)).server == "pod1"
    assert (await hosts.ask("pod2", IP, 80)).server == "pod1"
    await backend.change(everything(replace(rules, source_ranges=("10.9.0.0/16", f"{OUTSIDE_IP}/32"))))
    assert (await hosts.ask("outside", "192.0.2.6", 80)).server == "pod1"
    await backend.change(everything(replace(rules, source_ranges=())))
    assert await dropped(hosts, "outside", "192.0.2.6", 80)


async def test_client_affinity_keeps_a_client_with_its_endpoint(hosts: Hosts, backend: Backend) -> None:
    rules = replace(service(), affinity_seconds=60, node_port=30080)
    await backend.replace(everything(rules))
    for source, ip, port in (("far", IP, 80), ("pod1", IP, 80), ("outside", NODE_IP, 30080)):
        if source != "far":  # far's own node has no proxy
            assert len(await hosts.servers(source, ip, port, 12)) == 1


async def test_affinity_outlives_changes_and_full_replacement_but_not_its_endpoint(
    hosts: Hosts, backend: Backend
) -> None:
    rules = replace(service(), affinity_seconds=60)
    await backend.replace(everything(rules))
    first = (await hosts.ask("outside", IP, 80)).server
    await backend.change(everything(service("another", ip="10.96.0.11")))
    await backend.replace(everything(rules))
    assert set(await hosts.servers("outside", IP, 80, 12)) == {first}
    left = tuple(pod for pod in HERE if pod != first)
    await backend.change(everything(replace(rules, cluster=to(*left))))
    assert set(await hosts.servers("outside", IP, 80, 12)) <= set(left)


async def test_without_endpoints_everybody_is_refused_at_once(hosts: Hosts, backend: Backend) -> None:
    rules = replace(
        service(pods=()),
        node_port=30080,
        external_ips=("192.0.2.5",),
        internal_refusal="reject",
        external_refusal="reject",
    )
    await backend.replace(everything(rules))
    for source, ip, port in (
        ("pod1", IP, 80),
        ("node", IP, 80),
        ("outside", IP, 80),
        ("outside", NODE_IP, 30080),
        ("node", NODE_IP, 30080),
        ("outside", "192.0.2.5", 80),
    ):
        assert await refused(hosts, source, ip, port), (source, ip, port)


async def test_addresses_of_the_service_range_that_no_service_has_are_refused(hosts: Hosts, backend: Backend) -> None:
    await backend.replace(everything(service()))
    assert await refused(hosts, "pod1", "10.96.7.7", 80)
    assert await refused(hosts, "node", IP, 81)
    await backend.change({service().name: None})
    assert await refused(hosts, "pod1", IP, 80)
    assert await refused(hosts, "node", IP, 80)


async def test_changes_add_move_and_remove_services(hosts: Hosts, backend: Backend) -> None:
    await backend.replace({})
    await backend.change(everything(service(pods=("pod2",)), service("b", ip="10.96.0.11", pods=("pod3",))))
    assert set(await hosts.servers("pod1", IP, 80, 6)) == {"pod2"}
    await backend.change(everything(service(pods=("pod2", "pod3", "far"))))
    assert set(await hosts.servers("pod1", IP, 80)) == {"pod2", "pod3", "far"}
    await backend.change(everything(service(pods=("far",))))
    assert set(await hosts.servers("pod1", IP, 80, 6)) == {"far"}
    await backend.change({service().name: None})
    assert await refused(hosts, "pod1", IP, 80)
    assert set(await hosts.servers("pod1", "10.96.0.11", 80, 6)) == {"pod3"}


async def test_two_services_with_one_external_ip_share_it_in_turn(hosts: Hosts, backend: Backend) -> None:
    first = replace(service("a", pods=("pod1",)), external_ips=("192.0.2.5",))
    second = replace(service("b", ip="10.96.0.11", pods=("pod2",)), external_ips=("192.0.2.5",))
    await backend.replace(everything(first, second))
    assert set(await hosts.servers("outside", "192.0.2.5", 80, 6)) == {"pod1"}
    await backend.change({first.name: None})
    assert set(await hosts.servers("outside", "192.0.2.5", 80, 6)) == {"pod2"}
    await backend.change(everything(first))
    assert set(await hosts.servers("outside", "192.0.2.5", 80, 6)) == {"pod1"}


async def test_what_is_not_accepted_changes_nothing(hosts: Hosts, backend: Backend) -> None:
    await backend.replace(everything(service(pods=("pod2",))))
    with pytest.raises(BackendError):
        await backend.change(everything(service(pods=("pod3",)), service("broken", ip="10.96.0.999")))
    assert set(await hosts.servers("pod1", IP, 80, 6)) == {"pod2"}
    await backend.replace(everything(service(pods=("pod3",))))
    assert set(await hosts.servers("pod1", IP, 80, 6)) == {"pod3"}


async def test_loopback_serves_node_ports_in_iptables_mode_alone(hosts: Hosts, backend: Backend, mode: str) -> None:
    await backend.replace(everything(replace(service(pods=("far",)), node_port=30080)))
    if mode == "iptables":
        assert (await hosts.ask("node", "127.0.0.1", 30080)).server == "far"
    else:
        assert await refused(hosts, "node", "127.0.0.1", 30080)


async def test_node_ports_are_served_on_the_chosen_addresses_alone(hosts: Hosts, backend: Backend, mode: str) -> None:
    backend.configure(settings(mode, node_port_ranges=(f"{NODE_IP}/32",), localhost_node_ports=False))
    await backend.replace(everything(replace(service(pods=("pod1",)), node_port=30080)))
    assert (await hosts.ask("outside", NODE_IP, 30080)).server == "pod1"
    assert await refused(hosts, "pod2", BRIDGE_IP, 30080)


async def test_ipv6_services_work_like_ipv4_ones(hosts: Hosts, mode: str) -> None:
    backend = make_backend(
        mode,
        RuleSettings(
            Family.IPV6, local=LocalDetector("ClusterCIDR", POD_RANGE6), service_ranges=(SERVICE_RANGE6,), node_ips=()
        ),
    )
    rules = PortRules(
        ServicePortName("default", "six", "http", "tcp"),
        port=80,
        cluster_ip="fd00:96::10",
        cluster=tuple(Endpoint(PODS6[pod], PORT) for pod in HERE),
        hairpin_ips=tuple(PODS6.values()),
    )
    alone = replace(rules, cluster=(Endpoint(PODS6["pod1"], PORT),))
    try:
        await backend.replace(everything(rules))
        assert set(await hosts.servers("pod1", "fd00:96::10", 80, 40)) == set(HERE)
        await backend.change(everything(alone))
        answer = await hosts.ask("pod2", "fd00:96::10", 80)
        assert (answer.server, answer.client) == ("pod1", PODS6["pod2"])
        assert (await hosts.ask("pod1", "fd00:96::10", 80)).server == "pod1"
        assert await refused(hosts, "pod1", "fd00:96::99", 80)
    finally:
        await backend.cleanup()
