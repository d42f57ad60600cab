"""Flows without connections of their own that the kernel knows: UDP and SCTP, the same for every backend."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import replace

import pytest
from packet_rules import IP, SILENCE_SECONDS, everything, service, to
from proxy_hosts import BRIDGE_IP, NODE_IP, OUTSIDE_IP, PODS, Hosts
from sctp_packets import ask_sctp, sctp_servers

from agent.proxy.conntrack import clear_left_behind, clear_stale, stale_flows
from agent.proxy.model import Backend, Family

pytest_plugins = ["wired_hosts", "packet_backends"]


async def test_udp_without_endpoints_is_refused_too(hosts: Hosts, backend: Backend) -> None:
    rules = replace(service(protocol="udp", pods=()), internal_refusal="reject")
    await backend.replace(everything(rules))
    with contextlib.closing(hosts.spaces.socket("pod1", socket.SOCK_DGRAM)) as client:
        client.connect((IP, 80))
        with pytest.raises(ConnectionRefusedError):
            await hosts.ask_udp(client, IP, 80)


async def test_sctp_is_balanced_like_tcp(hosts: Hosts, backend: Backend) -> None:
    rules = replace(service(protocol="sctp", pods=("pod2", "far")), node_port=30036, load_balancer_ips=("192.0.2.6",))
    await backend.replace(everything(rules))
    with sctp_servers(hosts):
        seen = [await ask_sctp(hosts, "pod1", IP, 80) for _ in range(16)]
        assert {(answer.server, answer.client) for answer in seen} == {("pod2", PODS["pod1"]), ("far", PODS["pod1"])}
        for ip, port in ((NODE_IP, 30036), ("192.0.2.6", 80)):
            seen = [await ask_sctp(hosts, "outside", ip, port) for _ in range(16)]
            assert {answer.server for answer in seen} == {"pod2", "far"}
            assert OUTSIDE_IP not in {answer.client for answer in seen}
        alone = replace(rules, cluster=to("pod1"), hairpin_ips=(PODS["pod1"],))
        await backend.change(everything(alone))
        assert (await ask_sctp(hosts, "pod1", IP, 80)).client == BRIDGE_IP


async def test_sctp_without_endpoints_is_refused(hosts: Hosts, backend: Backend) -> None:
    rules = replace(
        service(protocol="sctp", pods=()), node_port=30036, internal_refusal="reject", external_refusal="reject"
    )
    await backend.replace(everything(rules))
    with sctp_servers(hosts):
        for source, ip, port in (("pod1", IP, 80), ("outside", NODE_IP, 30036)):
            with pytest.raises(ConnectionRefusedError):
                await ask_sctp(hosts, source, ip, port)


async def test_sctp_keeps_its_client_with_its_endpoint_and_on_its_node(hosts: Hosts, backend: Backend) -> None:
    sticky = replace(service(protocol="sctp"), affinity_seconds=60)
    near = replace(
        service("near", protocol="sctp", ip="10.96.0.11", pods=("pod1", "far")),
        node_port=30037,
        external_local=True,
        local=to("pod1"),
    )
    await backend.replace(everything(sticky, near))
    with sctp_servers(hosts):
        assert len({(await ask_sctp(hosts, "outside", IP, 80)).server for _ in range(12)}) == 1
        seen = [await ask_sctp(hosts, "outside", NODE_IP, 30037) for _ in range(8)]
        assert {(answer.server, answer.client) for answer in seen} == {("pod1", OUTSIDE_IP)}


async def test_udp_goes_on_to_a_new_endpoint_when_its_own_is_gone(hosts: Hosts, backend: Backend) -> None:
    first, second = service(protocol="udp", pods=("pod2",)), service(protocol="udp", pods=("far",))
    await backend.replace(everything(first))
    with contextlib.closing(hosts.spaces.socket("pod1", socket.SOCK_DGRAM)) as client:
        assert (await hosts.ask_udp(client, IP, 80)).server == "pod2"
        await backend.change(everything(second))
        await clear_stale(Family.IPV4, stale_flows(Family.IPV4, first, second))
        assert (await hosts.ask_udp(client, IP, 80)).server == "far"


async def test_udp_stays_with_an_endpoint_that_gets_no_new_flows_but_still_serves(
    hosts: Hosts, backend: Backend, mode: str
) -> None:
    first = service(protocol="udp", pods=("pod2",))
    # pod2 terminates and has a successor.
    second = replace(service(protocol="udp", pods=("far",)), serving_ips=frozenset({PODS["pod2"], PODS["far"]}))
    await backend.replace(everything(first))
    with contextlib.closing(hosts.spaces.socket("pod1", socket.SOCK_DGRAM)) as client:
        assert (await hosts.ask_udp(client, IP, 80)).server == "pod2"
        await backend.change(everything(second))
        await clear_stale(Family.IPV4, stale_flows(Family.IPV4, first, second))
        # … but from IPVS, which takes datagrams away at once, here as upstream.
        assert (await hosts.ask_udp(client, IP, 80)).server == ("far" if mode == "ipvs" else "pod2")
    with contextlib.closing(hosts.spaces.socket("pod1", socket.SOCK_DGRAM)) as client:
        assert (await hosts.ask_udp(client, IP, 80)).server == "far"


async def test_udp_that_began_before_the_first_endpoint_finds_it(hosts: Hosts, backend: Backend) -> None:
    none = replace(service(protocol="udp", pods=()), node_port=30053)
    some = replace(service(protocol="udp", pods=("pod2",)), node_port=30053)
    await backend.replace({})
    with contextlib.closing(hosts.spaces.socket("outside", socket.SOCK_DGRAM)) as client:
        with pytest.raises((TimeoutError, ConnectionRefusedError)):
            await hosts.ask_udp(client, NODE_IP, 30053, SILENCE_SECONDS)
        await backend.change(everything(some))
        await clear_stale(Family.IPV4, stale_flows(Family.IPV4, none, some))
        assert (await hosts.ask_udp(client, NODE_IP, 30053)).server == "pod2"


async def test_udp_flows_that_an_earlier_proxy_left_behind_are_forgotten(hosts: Hosts, backend: Backend) -> None:
    old, new = service(protocol="udp", pods=("pod2",)), service(protocol="udp", pods=("pod3",))
    await backend.replace(everything(old))
    with contextlib.closing(hosts.spaces.socket("pod1", socket.SOCK_DGRAM)) as client:
        assert (await hosts.ask_udp(client, IP, 80)).server == "pod2"
        await backend.replace(everything(new))
        await clear_left_behind(Family.IPV4, everything(new))
        assert (await hosts.ask_udp(client, IP, 80)).server == "pod3"
