"""NetworkPolicy as packets see it, against an API server: pods of one node and of another, and somebody outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from packet_rules import IP, everything, service, settings
from proxy_hosts import NODE_IP, OUTSIDE_IP, PODS, PORT, Hosts, eventually
from sctp_packets import ask_sctp, sctp_servers

from agent.network.policy import enforcer
from agent.network.policy.agent import PolicyAgent
from agent.proxy.modes import make_backend
from controlplane.apiserver.testing import running_apiserver
from machinery.api.catalogue import EVENTS, NAMESPACES, NETWORKPOLICIES, SERVICEACCOUNTS
from machinery.api.catalogue import PODS as POD_TYPE
from machinery.cache.informer import Informers
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.clock import SystemClock
from machinery.errors import AlreadyExists
from machinery.events import EventRecorder

pytest_plugins = ["wired_hosts"]

NAMESPACE = "policies"
SILENCE_SECONDS = 0.3


class Policies:
    """Hands to make policies and to see who reaches whom."""

    def __init__(self, client: Client, hosts: Hosts) -> None:
        self.client, self.hosts = client, hosts

    async def apply(self, name: str, **spec: Any) -> None:
        body = {"metadata": {"name": name}, "spec": spec}
        try:
            await self.client.create(NETWORKPOLICIES, body, NAMESPACE)
        except AlreadyExists:
            await self.client.patch(NETWORKPOLICIES, name, {"spec": spec}, NAMESPACE)

    async def reaches(self, source: str, target: str, port: int = PORT) -> bool:
        try:
            await self.hosts.ask(source, PODS.get(target, target), port, SILENCE_SECONDS)
        except TimeoutError:
            return False
        return True

    async def becomes(self, expected: bool, source: str, target: str, port: int = PORT) -> None:
        async def so() -> bool:
            return await self.reaches(source, target, port) == expected

        await eventually(so, f"{source} reaches {target}: {expected}")

    async def pod(self, name: str, node: str, labels: dict[str, str]) -> None:
        container = {"name": "c", "image": "x", "ports": [{"name": "web", "containerPort": PORT}]}
        body = {"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": node, "containers": [container]}}
        made = await self.client.create(POD_TYPE, body, NAMESPACE)
        status = {"phase": "Running", "podIP": PODS[name], "podIPs": [{"ip": PODS[name]}]}
        await self.client.update(POD_TYPE, {**made, "status": status}, subresource="status")


@pytest.fixture
async def policies(hosts: Hosts) -> AsyncIterator[Policies]:
    async with running_apiserver() as server:
        config = ClientConfig(server=server.url, token=server.token, ca_data=server.ca)
        async with Client(config, user_agent="test") as client:
            await client.create(NAMESPACES, {"metadata": {"name": NAMESPACE, "labels": {"team": "a"}}})
            await client.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, NAMESPACE)
            made = Policies(client, hosts)
            for name in ("pod1", "pod2", "pod3"):
                await made.pod(name, "node", {"name": name})
            await made.pod("far", "other", {"name": "far"})
            recorder = EventRecorder(client, component="network", host="node")
            informers = Informers(client)
            agent = PolicyAgent(informers, "node", recorder, SystemClock(), look_seconds=0.3)
            async with informers, asyncio.TaskGroup() as group:
                tasks = [group.create_task(recorder.run()), group.create_task(agent.run())]
                yield made
                for task in tasks:
                    task.cancel()
    await enforcer.clean_up()


def only(name: str) -> dict[str, Any]:
    return {"matchLabels": {"name": name}}


async def test_default_deny_closes_pods_but_not_to_their_own_node_and_itself(hosts: Hosts, policies: Policies) -> None:
    assert await policies.reaches("pod2", "pod1")
    await policies.apply("deny", podSelector={}, policyTypes=["Ingress"])
    for source in ("pod2", "far", "outside"):
        await policies.becomes(False, source, "pod1")
    assert await policies.reaches("node", "pod1")
    assert await policies.reaches("pod1", "pod1")
    await policies.client.delete(NETWORKPOLICIES, "deny", NAMESPACE)
    await policies.becomes(True, "pod2", "pod1")
    assert await policies.reaches("outside", "pod1")

    async def gone() -> bool:
        return "network-policy" not in hosts.spaces.run("node", "nft", "list", "tables")

    await eventually(gone, "the table is gone")


async def test_what_policies_allow_adds_up(policies: Policies) -> None:
    await policies.apply("a", podSelector=only("pod1"), ingress=[{"from": [{"podSelector": only("pod2")}]}])
    await policies.becomes(False, "pod3", "pod1")
    assert await policies.reaches("pod2", "pod1")
    far = [{"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": only("far")}]
    await policies.apply("b", podSelector=only("pod1"), ingress=[{"from": far, "ports": [{"port": "web"}]}])
    await policies.becomes(True, "far", "pod1")
    assert not await policies.reaches("pod3", "pod1")
    await policies.client.patch(NAMESPACES, NAMESPACE, {"metadata": {"labels": {"team": "b"}}})
    await policies.becomes(False, "far", "pod1")
    assert await policies.reaches("pod2", "pod1")


async def test_a_pod_gets_in_when_it_gets_the_label(policies: Policies) -> None:
    await policies.apply(
        "a", podSelector=only("pod1"), ingress=[{"from": [{"podSelector": {"matchLabels": {"in": "y"}}}]}]
    )
    await policies.becomes(False, "far", "pod1")
    await policies.client.patch(POD_TYPE, "far", {"metadata": {"labels": {"in": "y"}}}, NAMESPACE)
    await policies.becomes(True, "far", "pod1")
    assert not await policies.reaches("pod2", "pod1")


async def test_the_way_out_is_closed_too_and_services_are_judged_by_who_answers(
    hosts: Hosts, policies: Policies
) -> None:
    backend = make_backend("nftables", settings("nftables"))
    await backend.replace(everything(service(pods=("pod2",)), service("other", ip="10.96.0.11", pods=("pod3",))))
    try:
        to = [{"to": [{"podSelector": only("pod2")}], "ports": [{"port": PORT, "endPort": PORT + 5}]}]
        await policies.apply("out", podSelector=only("pod1"), policyTypes=["Egress"], egress=to)
        await policies.becomes(False, "pod1", "pod3")
        assert await policies.reaches("pod1", "pod2")
        assert await policies.reaches("pod1", IP, 80)
        assert not await policies.reaches("pod1", "10.96.0.11", 80)
        assert await policies.reaches("pod3", "pod1")
    finally:
        await backend.cleanup()


async def test_sctp_is_judged_apart_from_tcp(hosts: Hosts, policies: Policies) -> None:
    async def associates(port: int = PORT) -> bool:
        try:
            await ask_sctp(hosts, "pod2", PODS["pod1"], port, SILENCE_SECONDS)
        except TimeoutError:
            return False
        return True

    with sctp_servers(hosts):
        assert await associates()
        sctp = [{"protocol": "SCTP", "port": PORT - 5, "endPort": PORT}]
        await policies.apply("a", podSelector=only("pod1"), ingress=[{"ports": sctp}])
        await policies.becomes(False, "pod2", "pod1")
        assert await associates()
        await policies.apply("a", podSelector=only("pod1"), ingress=[{"ports": [{"port": "web"}]}])
        await policies.becomes(True, "pod2", "pod1")
        assert not await associates()


async def test_one_policy_for_both_directions_closes_both(policies: Policies) -> None:
    web = [{"protocol": "TCP", "port": PORT}]
    await policies.apply(
        "both",
        podSelector=only("pod1"),
        policyTypes=["Ingress", "Egress"],
        ingress=[{"from": [{"podSelector": only("pod2")}], "ports": web}],
        egress=[{"to": [{"podSelector": only("far")}], "ports": web}],
    )
    await policies.becomes(False, "pod3", "pod1")
    assert await policies.reaches("pod2", "pod1")
    assert not await policies.reaches("pod1", "pod2")
    assert await policies.reaches("pod1", "far")
    # Both ends are asked: pod2 lets nobody in any more, though pod1 may go there.
    await policies.apply("b", podSelector=only("pod2"), policyTypes=["Ingress"])
    await policies.apply("c", podSelector=only("pod1"), policyTypes=["Egress"], egress=[{}])
    await policies.becomes(True, "pod1", "pod3")
    assert not await policies.reaches("pod1", "pod2")


async def test_ranges_of_addresses_decide_about_those_outside(policies: Policies) -> None:
    block = {"cidr": f"{NODE_IP.rpartition('.')[0]}.0/24"}
    await policies.apply("a", podSelector=only("pod1"), ingress=[{"from": [{"ipBlock": block}]}])
    await policies.becomes(False, "pod2", "pod1")
    assert await policies.reaches("outside", "pod1")
    holed = {**block, "except": [f"{OUTSIDE_IP}/32"]}
    await policies.apply("a", podSelector=only("pod1"), ingress=[{"from": [{"ipBlock": holed}]}])
    await policies.becomes(False, "outside", "pod1")


async def test_what_somebody_removes_comes_back(hosts: Hosts, policies: Policies) -> None:
    await policies.apply("deny", podSelector={})
    await policies.becomes(False, "pod2", "pod1")
    hosts.spaces.run("node", "nft", "delete", "table", "inet", "network-policy")
    await policies.becomes(True, "pod2", "pod1")
    await policies.becomes(False, "pod2", "pod1")


async def test_rules_that_can_not_be_written_are_told(
    hosts: Hosts, policies: Policies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    await policies.apply("deny", podSelector={})

    async def told() -> bool:
        events = (await policies.client.list(EVENTS)).items
        return any(e["reason"] == "NetworkPolicyNotEnforced" and "nft" in e["message"] for e in events)

    await eventually(told, "an event about the node")
