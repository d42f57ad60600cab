"""The cloud controller manager with the provider for labs, against a real API server and the kernel."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane.apiserver.testing import running_apiserver
from controlplane.cloud.contract import Route
from controlplane.cloud.manager import assemble
from controlplane.cloud.options import PROGRAM, parse
from controlplane.cloud.providers.routetable import KernelRoutes
from machinery.api.catalogue import EVENTS, NODES, SERVICES
from machinery.api.meta import Object, condition, labels_of, name_of
from machinery.api.resource import ResourceType
from machinery.client.accounts import ClientPool
from machinery.client.config import ClientConfig
from machinery.client.rest import STRATEGIC, Client
from machinery.clock import SystemClock

FILE = """
apiVersion: cloud.navarch.dev/v1alpha1
kind: NavarchCloud
region: lab
instances:
  - {name: n1, id: vm-1, zone: a, type: small, addresses: {InternalIP: [10.0.0.1]}}
  - {name: n2, addresses: {InternalIP: [10.0.0.2]}}
loadBalancers: {pool: [192.0.2.0/31]}
"""
UNINITIALIZED = {"key": "node.cloudprovider.kubernetes.io/uninitialized", "effect": "NoSchedule", "value": "true"}


class Lab:
    def __init__(self, client: Client, file: Path) -> None:
        self.client, self.file = client, file

    async def until(self, resource: ResourceType, fulfilled: Any, namespace: str = "") -> list[Object]:
        async with asyncio.timeout(15):
            while True:
                listed = await self.client.list(resource, namespace)
                if fulfilled(listed.items):
                    return listed.items
                events = self.client.watch(
                    resource, namespace, resource_version=listed.resource_version, timeout_seconds=20
                )
                async for _ in events:
                    break

    async def one(self, resource: ResourceType, name: str, fulfilled: Any, namespace: str = "") -> Object:
        found = await self.until(
            resource, lambda objects: any(name_of(o) == name and fulfilled(o) for o in objects), namespace
        )
        return next(o for o in found if name_of(o) == name)

    async def event(self, reason: str) -> Object:
        events = await self.until(EVENTS, lambda found: any(e["reason"] == reason for e in found))
        return next(e for e in events if e["reason"] == reason)

    async def node(self, name: str, ready: str = "True", **spec: Any) -> None:
        await self.client.create(NODES, {"metadata": {"name": name}, "spec": {"taints": [UNINITIALIZED], **spec}})
        await self.say_ready(name, ready)

    async def say_ready(self, name: str, ready: str) -> None:
        status = {"conditions": [{"type": "Ready", "status": ready}]}
        await self.client.patch(NODES, name, {"status": status}, content_type=STRATEGIC, subresource="status")


@asynccontextmanager
async def lab(directory: Path, *flags: str, more: str = "") -> AsyncIterator[Lab]:
    file = directory / "cloud.yaml"
    file.write_text(FILE + more)
    arguments = ["--cloud-provider=navarch", f"--cloud-config={file}", "--node-monitor-period=200ms", *flags]
    async with running_apiserver() as server:
        config = ClientConfig(server.url, ca_data=server.ca, token=server.token)
        clock = SystemClock()
        async with (
            Client(config, user_agent="test") as client,
            ClientPool(config, clock, program=PROGRAM, own_accounts=False) as clients,
        ):
            running = asyncio.create_task(assemble(parse(arguments), clients, clock).run())
            try:
                yield Lab(client, file)
                assert not running.done()
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)


async def test_nodes_are_described_tainted_when_off_and_deleted_when_gone(tmp_path: Path) -> None:
    async with lab(tmp_path) as cloud:
        await cloud.node("n1")
        await cloud.node("n2")
        node = await cloud.one(NODES, "n1", lambda n: n["spec"].get("providerID"))
        assert node["spec"]["providerID"] == "navarch://vm-1"
        assert not any(t["key"] == UNINITIALIZED["key"] for t in node["spec"].get("taints") or ())
        assert labels_of(node)["topology.kubernetes.io/zone"] == "a"
        assert node["status"]["addresses"] == [{"type": "InternalIP", "address": "10.0.0.1"}]
        event = await cloud.event("Synced")
        assert event["message"] == "Node synced successfully"

        cloud.file.write_text(FILE.replace("name: n2, ", "name: n2, shutDown: true, "))
        await cloud.say_ready("n2", "Unknown")
        shut = "node.cloudprovider.kubernetes.io/shutdown"
        await cloud.one(NODES, "n2", lambda n: any(t["key"] == shut for t in n["spec"].get("taints") or ()))
        await cloud.say_ready("n2", "True")
        await cloud.one(NODES, "n2", lambda n: all(t["key"] != shut for t in n["spec"].get("taints") or ()))

        cloud.file.write_text("\n".join(line for line in FILE.splitlines() if "name: n2" not in line))
        await cloud.say_ready("n2", "Unknown")
        await cloud.until(NODES, lambda nodes: [name_of(n) for n in nodes] == ["n1"])
        event = await cloud.event("DeletingNode")
        assert event["message"] == "Deleting node n2 because it does not exist in the cloud provider"


async def test_services_are_given_addresses_and_give_them_back(tmp_path: Path) -> None:
    async with lab(tmp_path) as cloud:
        await cloud.node("n1")

        def balanced(name: str, **more: Any) -> Object:
            return {"metadata": {"name": name}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], **more}}

        await cloud.client.create(SERVICES, balanced("other", loadBalancerClass="example.com/internal"), "default")
        given = []
        for name in ("a", "b"):
            await cloud.client.create(SERVICES, balanced(name), "default")
            made = await cloud.one(SERVICES, name, lambda s: s["status"]["loadBalancer"].get("ingress"), "default")
            assert made["metadata"]["finalizers"] == ["service.kubernetes.io/load-balancer-cleanup"]
            given += made["status"]["loadBalancer"]["ingress"]
        assert given == [{"ip": f"192.0.2.{n}", "ipMode": "VIP"} for n in (0, 1)]
        await cloud.event("EnsuredLoadBalancer")

        await cloud.client.create(SERVICES, balanced("late"), "default")
        event = await cloud.event("SyncLoadBalancerFailed")
        assert event["message"] == (
            "Error syncing load balancer: no IPv4 address is left in the pool of load balancers"
        )
        await cloud.client.delete(SERVICES, "a", "default")
        late = await cloud.one(SERVICES, "late", lambda s: s["status"]["loadBalancer"].get("ingress"), "default")
        assert late["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.0"
        await cloud.client.patch(SERVICES, "b", {"spec": {"type": "ClusterIP"}}, "default")
        plain = await cloud.one(SERVICES, "b", lambda s: not s["metadata"].get("finalizers"), "default")
        assert not plain["status"]["loadBalancer"].get("ingress")
        other = await cloud.client.get(SERVICES, "other", "default")
        assert other["status"] == {"loadBalancer": {}}, "a Service with a class is somebody else's"


@pytest.fixture
def space() -> Iterator[str]:
    """A network namespace with a link that leads to 10.0.0.0/24."""
    name = f"navarch-cloud-{os.getpid()}"
    enter = ["ip", "netns", "exec", name]
    try:
        for command in (
            ["ip", "netns", "add", name],
            [*enter, "ip", "link", "add", "d0", "type", "veth", "peer", "d1"],
            [*enter, "ip", "addr", "add", "10.0.0.254/24", "dev", "d0"],
            [*enter, "ip", "link", "set", "d0", "up"],
            [*enter, "ip", "link", "set", "d1", "up"],
            [*enter, "ip", "route", "add", "10.99.0.0/24", "via", "10.0.0.9", "table", "1000"],
        ):
            subprocess.run(command, check=True)
        yield f"/var/run/netns/{name}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


async def test_routes_in_the_kernel_come_change_and_go(space: str) -> None:
    table = KernelRoutes(1000, space)
    assert await table.list() == [], "routes of others are not ours"
    first, second = Route("10.244.1.0/24", "10.0.0.1"), Route("10.244.2.0/24", "10.0.0.2")
    for route in (first, second, first):
        await table.create(route)
    assert sorted(await table.list()) == [first, second]
    moved = Route("10.244.1.0/24", "10.0.0.3")
    await table.create(moved)
    assert sorted(await table.list()) == [moved, second]
    for route in (moved, moved):
        await table.delete(route)
    assert await table.list() == [second]


async def test_nodes_are_told_of_their_routes(tmp_path: Path, space: str) -> None:
    flags = ("--allocate-node-cidrs", "--cluster-cidr=10.244.0.0/16", "--route-reconciliation-period=1s")
    table = f"routes: {{table: 1000, networkNamespace: {space}}}\n"
    async with lab(tmp_path, *flags, more=table) as cloud:
        await cloud.node("n1", podCIDR="10.244.1.0/24", podCIDRs=["10.244.1.0/24"])
        told = await cloud.one(NODES, "n1", lambda n: condition(n["status"].get("conditions"), "NetworkUnavailable"))
        found = condition(told["status"]["conditions"], "NetworkUnavailable")
        assert found is not None
        assert (found["status"], found["reason"]) == ("False", "RouteCreated")
        assert await KernelRoutes(1000, space).list() == [Route("10.244.1.0/24", "10.0.0.1")]
