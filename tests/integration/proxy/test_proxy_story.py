"""The whole of kube-proxy and of the network agent against an API server: what users do, and what packets see."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from proxy_hosts import NODE_IP, OTHER_IP, PODS, PORT, Hosts, eventually

from agent.network import assembly as network
from agent.proxy import assembly
from agent.proxy.flags import parse
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.storage.contract import Storage
from controlplane.apiserver.storage.memory import MemoryStorage
from controlplane.apiserver.testing import running_apiserver
from machinery.api.catalogue import ENDPOINTSLICES, EVENTS, NODES, SERVICECIDRS, SERVICES
from machinery.api.meta import Object
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import SettingsError

pytest_plugins = ["wired_hosts"]

NAMESPACE = "default"


class Cluster:
    """An API server on the node's loopback, and hands to use it."""

    def __init__(self, client: Client, kubeconfig: Path, storage: Storage) -> None:
        self.client = client
        self.kubeconfig = kubeconfig
        self.storage = storage

    async def add_node(self, name: str, pod_range: str, ip: str) -> None:
        node = await self.client.create(
            NODES, {"metadata": {"name": name}, "spec": {"podCIDR": pod_range, "podCIDRs": [pod_range]}}
        )
        addresses = [{"type": "InternalIP", "address": ip}]
        await self.client.update(NODES, {**node, "status": {"addresses": addresses}}, subresource="status")

    async def add_service(self, name: str, **spec: Any) -> Object:
        port = {"port": 80, "targetPort": PORT} | ({"nodePort": 30090} if spec.get("type") == "NodePort" else {})
        body = {"metadata": {"name": name}, "spec": {"ports": [port], **spec}}
        return await self.client.create(SERVICES, body, NAMESPACE)

    async def set_endpoints(self, service: str, *pods: str, node: str = "node") -> None:
        body: Object = {
            "metadata": {"name": service, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"port": PORT, "protocol": "TCP", "name": ""}],
            "endpoints": [
                {"addresses": [PODS.get(pod, pod)], "conditions": {"ready": True}, "nodeName": node} for pod in pods
            ],
        }
        known = await self.client.list(ENDPOINTSLICES, NAMESPACE, field_selector=f"metadata.name={service}")
        if known.items:
            body["metadata"]["resourceVersion"] = known.items[0]["metadata"]["resourceVersion"]
            await self.client.update(ENDPOINTSLICES, body)
        else:
            await self.client.create(ENDPOINTSLICES, body, NAMESPACE)


@pytest.fixture
async def cluster(hosts: Hosts, tmp_path: Path) -> AsyncIterator[Cluster]:
    storage = MemoryStorage()
    settings = Settings(service_cluster_ip_ranges=("10.96.0.0/16",))
    async with running_apiserver(settings, storage=storage) as server:
        kubeconfig = tmp_path / "kubeconfig"
        ca = base64.b64encode(server.ca).decode()
        kubeconfig.write_text(
            json.dumps(
                {
                    "current-context": "test",
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                    "clusters": [{"name": "test", "cluster": {"server": server.url, "certificate-authority-data": ca}}],
                    "users": [{"name": "test", "user": {"token": server.token}}],
                }
            )
        )
        async with Client(ClientConfig.from_kubeconfig(kubeconfig), user_agent="test") as client:
            made = Cluster(client, kubeconfig, storage)
            await client.create(SERVICECIDRS, {"metadata": {"name": "test"}, "spec": {"cidrs": ["10.96.0.0/16"]}})
            await made.add_node("node", "10.244.0.0/24", NODE_IP)
            await made.add_node("other", "10.244.1.0/24", OTHER_IP)
            yield made
    await storage.close()


@contextlib.asynccontextmanager
async def running(program: Awaitable[None]) -> AsyncIterator[asyncio.Future[None]]:
    """A component's main function, running beside the test."""
    task = asyncio.ensure_future(program)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _flags(cluster: Cluster, mode: str) -> list[str]:
    """What every proxy of these tests is told."""
    return [
        f"--kubeconfig={cluster.kubeconfig}",
        f"--proxy-mode={mode}",
        "--hostname-override=node",
        "--conntrack-max-per-core=0",
        "--oom-score-adj=0",
    ]


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
async def test_the_life_of_a_service(hosts: Hosts, cluster: Cluster, mode: str) -> None:
    healthz, metrics = free_port(), free_port()
    flags = [
        *_flags(cluster, mode),
        "--cluster-cidr=10.244.0.0/16",
        "--iptables-sync-period=300ms",
        f"--healthz-bind-address=127.0.0.1:{healthz}",
        f"--metrics-bind-address=127.0.0.1:{metrics}",
    ]
    try:
        async with running(assembly.run(parse(flags))) as proxy:
            service = await cluster.add_service("web", type="NodePort", clusterIP="10.96.0.50")
            ip, node_port = service["spec"]["clusterIP"], service["spec"]["ports"][0]["nodePort"]

            async def answers(source: str, server: str) -> bool:
                assert not proxy.done(), proxy.exception()
                try:
                    return (await hosts.ask(source, ip, 80, 0.3)).server == server
                except (TimeoutError, ConnectionRefusedError):
                    return False

            async def is_refused() -> bool:
                try:
                    await hosts.ask("pod1", ip, 80, 0.3)
                except ConnectionRefusedError:
                    return True
                except TimeoutError:
                    pass
                return False

            await eventually(is_refused, "without endpoints the service refuses")
            await cluster.set_endpoints("web", "pod2")
            await eventually(lambda: answers("pod1", "pod2"), "pod1 reaches pod2 through the service")
            assert (await hosts.ask("node", ip, 80)).server == "pod2"
            assert (await hosts.ask("outside", NODE_IP, node_port)).server == "pod2"
            await cluster.set_endpoints("web", "far", node="other")
            await eventually(lambda: answers("pod1", "far"), "the service has moved to the other node")

            breakage = {"nftables": ("nft", "delete", "table", "ip", "kube-proxy")}
            hosts.spaces.run("node", *breakage.get(mode, ("iptables", "-t", "nat", "-F", "KUBE-SERVICES")))
            await eventually(lambda: answers("pod1", "far"), "broken rules are repaired")

            async with aiohttp.ClientSession() as web, web.get(f"http://127.0.0.1:{healthz}/healthz") as response:
                assert response.status == 200
                assert (await response.json())["nodeEligible"] is True
            async with aiohttp.ClientSession() as web:
                async with web.get(f"http://127.0.0.1:{metrics}/proxyMode") as response:
                    assert await response.text() == mode
                async with web.get(f"http://127.0.0.1:{metrics}/metrics") as response:
                    assert "kubeproxy_sync_proxy_rules_duration_seconds_bucket" in await response.text()
            events = (await cluster.client.list(EVENTS)).items
            assert [e["involvedObject"]["kind"] for e in events if e["reason"] == "Starting"] == ["Node"]

            await cluster.client.delete(SERVICES, "web", NAMESPACE)
            await eventually(is_refused, "a deleted service refuses")
    finally:
        await assembly.run(parse(["--cleanup"]))
    assert "KUBE-" not in hosts.spaces.run("node", "iptables-save")
    assert "kube-proxy" not in hosts.spaces.run("node", "nft", "list", "tables")


async def test_a_port_that_is_taken_ends_the_proxy_only_where_that_is_wanted(hosts: Hosts, cluster: Cluster) -> None:
    with contextlib.closing(hosts.spaces.call("node", socket.socket)) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        flags = [
            *_flags(cluster, "nftables"),
            "--healthz-port=0",
            f"--metrics-bind-address=127.0.0.1:{taken.getsockname()[1]}",
        ]

        async def has_rules() -> bool:
            return "10.96.0.60" in hosts.spaces.run("node", "nft", "list", "ruleset")

        await cluster.add_service("web", clusterIP="10.96.0.60")
        try:
            with pytest.raises(ExceptionGroup) as failed:
                await assembly.run(parse([*flags, "--bind-address-hard-fail=true"]))
            assert failed.group_contains(SettingsError, match="cannot listen on 127.0.0.1")
            async with running(assembly.run(parse(flags))) as proxy:
                await eventually(has_rules, "the rules are there")
                assert not proxy.done()
        finally:
            await assembly.run(parse(["--cleanup"]))


async def test_load_balancers_learn_where_endpoints_are_and_bad_endpoints_are_told(
    hosts: Hosts, cluster: Cluster
) -> None:
    flags = [
        *_flags(cluster, "nftables"),
        "--healthz-bind-address=127.0.0.1:0",
        "--metrics-bind-address=127.0.0.1:0",
        "--nodeport-addresses=127.0.0.0/8",
    ]
    service = await cluster.add_service(
        "lb", type="LoadBalancer", externalTrafficPolicy="Local", clusterIP="10.96.0.51", healthCheckNodePort=31999
    )
    port = service["spec"]["healthCheckNodePort"]
    try:
        async with running(assembly.run(parse(flags))), aiohttp.ClientSession() as web:

            async def told(status: int, count: int) -> bool:
                try:
                    async with web.get(f"http://127.0.0.1:{port}/healthz") as response:
                        body = await response.json()
                        weight = response.headers["X-Load-Balancing-Endpoint-Weight"]
                except aiohttp.ClientConnectorError:
                    return False
                assert body["service"] == {"namespace": NAMESPACE, "name": "lb"}
                return (response.status, body["localEndpoints"], weight) == (status, count, str(count))

            await eventually(lambda: told(503, 0), "no endpoint here")
            await cluster.set_endpoints("lb", "pod1", "pod2")
            await eventually(lambda: told(200, 2), "two endpoints here")
            await cluster.set_endpoints("lb", "far", node="other")
            await eventually(lambda: told(503, 0), "the endpoints have gone elsewhere")

            await cluster.add_service("odd", clusterIP="10.96.0.77")
            await cluster.set_endpoints("odd", "pod1", "10.244.1.99")
            # The API server would not let this in, but what another version has stored is there.
            key = f"/registry/endpointslices/{NAMESPACE}/odd"
            stored, _ = await cluster.storage.get(key)
            assert stored is not None
            spoilt = stored.value.replace(b"10.244.1.99", b"10.244.1.999")
            await cluster.storage.put(key, spoilt, expected=stored.revision)

            async def warned() -> bool:
                found = await cluster.client.list(EVENTS, NAMESPACE)
                return any(e["reason"] == "FailedToProxy" and "'10.244.1.999'" in e["message"] for e in found.items)

            await eventually(warned, "an event tells of the rubbish address")

            async def only_the_good_one() -> bool:
                try:
                    return set(await hosts.servers("pod2", "10.96.0.77", 80, 6)) == {"pod1"}
                except (TimeoutError, ConnectionRefusedError):  # the rules are still being made
                    return False

            await eventually(only_the_good_one, "the good endpoint serves alone")
    finally:
        await assembly.run(parse(["--cleanup"]))


async def test_the_network_agent_follows_the_nodes(hosts: Hosts, cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "cni"
    flags = [f"--kubeconfig={cluster.kubeconfig}", "--node-name=node", f"--cni-conf-dir={folder}", "--health-port=-1"]

    def routes() -> str:
        return hosts.spaces.run("node", "ip", "route", "show", "proto", "112")

    async def has(text: str) -> bool:
        return text in routes()

    async def has_not(text: str) -> bool:
        return text not in routes()

    hosts.spaces.run("node", "ip", "route", "del", "10.244.1.0/24")
    try:
        async with running(network.run(network.parse(flags))):
            await eventually(lambda: has(f"10.244.1.0/24 via {OTHER_IP}"), "the other node's pods are reached")
            file = folder / "10-navarch.conflist"
            await eventually(lambda: _exists(file), "the CNI configuration is there")
            ranges = json.loads(file.read_text())["plugins"][0]["ipam"]["ranges"]
            assert ranges == [[{"subnet": "10.244.0.0/24"}]]
            await cluster.add_node("third", "10.244.2.0/24", "10.78.0.3")
            await eventually(lambda: has("10.244.2.0/24 via 10.78.0.3"), "a new node's pods are reached")
            await cluster.client.delete(NODES, "third")
            await eventually(lambda: has_not("10.244.2.0/24"), "a deleted node's route is gone")
            hosts.spaces.run("node", "ip", "route", "del", "10.244.1.0/24")
            await eventually(lambda: has("10.244.1.0/24"), "a removed route comes back")
        await network.run(network.parse(["--cleanup", f"--cni-conf-dir={folder}"]))
        assert routes() == ""
        assert not file.exists()
    finally:
        hosts.spaces.run("node", "ip", "route", "replace", "10.244.1.0/24", "via", OTHER_IP)


async def _exists(file: Path) -> bool:
    return file.exists()
