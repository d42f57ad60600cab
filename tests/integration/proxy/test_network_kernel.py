"""The pod network in the kernel: three hosts on two links, their pods, and somebody who breaks things."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest
from proxy_hosts import Namespaces

from agent.network import masquerade
from agent.network.model import NetworkPlan, NodeNetwork, OverlaySettings
from agent.network.planning import plan_network
from agent.network.rtnetlink import DEVICE, KernelNetwork

pytest_plugins = ["wired_hosts"]

NODES = (
    NodeNetwork("a", ("10.244.1.0/24",), ("10.1.0.1",)),
    NodeNetwork("b", ("10.244.2.0/24",), ("10.1.0.2",)),
    NodeNetwork("c", ("10.244.3.0/24",), ("10.2.0.3",)),
)
POD = {node.name: node.pod_ranges[0].replace(".0/24", ".5") for node in NODES}


@pytest.fixture(scope="module")
def spaces() -> Iterator[Namespaces]:
    """Hosts a and b on one link, c on another, a router between; each host with a pod's address on its loopback."""
    made = Namespaces()
    try:
        made.add("router")
        made.run("router", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        for bridge, gateway in (("br1", "10.1.0.254/24"), ("br2", "10.2.0.254/24")):
            made.run("router", "ip", "link", "add", bridge, "type", "bridge")
            made.run("router", "ip", "addr", "add", gateway, "dev", bridge)
            made.run("router", "ip", "link", "set", bridge, "up")
        for node in NODES:
            made.add(node.name)
            bridge, gateway = ("br2", "10.2.0.254") if node.name == "c" else ("br1", "10.1.0.254")
            link = ("type", "veth", "peer", "eth0", "netns", made.full_name(node.name))
            made.run("router", "ip", "link", "add", f"to-{node.name}", *link)
            made.run("router", "ip", "link", "set", f"to-{node.name}", "master", bridge, "up")
            made.run(node.name, "ip", "addr", "add", f"{node.ips[0]}/24", "dev", "eth0")
            made.run(node.name, "ip", "link", "set", "eth0", "up")
            made.run(node.name, "ip", "route", "add", "default", "via", gateway)
            made.run(node.name, "ip", "addr", "add", f"{POD[node.name]}/32", "dev", "lo")
        yield made
    finally:
        made.close()


async def bring_about(spaces: Namespaces, name: str, nodes: tuple[NodeNetwork, ...] = NODES) -> NetworkPlan:
    with spaces.inside(name):
        async with KernelNetwork() as kernel:
            plan = plan_network(nodes, name, await kernel.links(), "", OverlaySettings())
            await kernel.apply(plan)
    assert plan.problems == ()
    return plan


async def reach(spaces: Namespaces, source: str, target: str) -> str:
    """Connect from one pod to another; the address that the other sees."""
    loop = asyncio.get_running_loop()
    with (
        contextlib.closing(spaces.socket(target, socket.SOCK_STREAM)) as listener,
        contextlib.closing(spaces.socket(source, socket.SOCK_STREAM)) as client,
    ):
        listener.bind((POD[target], 0))
        listener.listen()
        client.bind((POD[source], 0))
        async with asyncio.timeout(2):
            await loop.sock_connect(client, listener.getsockname())
            accepted, peer = await loop.sock_accept(listener)
        accepted.close()
        return str(peer[0])


async def test_every_pod_reaches_every_other_with_its_own_address(spaces: Namespaces) -> None:
    for node in NODES:
        await bring_about(spaces, node.name)
    for source in POD:
        for target in POD.keys() - {source}:
            assert await reach(spaces, source, target) == POD[source]
    assert "10.244.2.0/24 via 10.1.0.2 dev eth0 proto 112" in spaces.run("a", "ip", "route")
    assert f"10.244.3.0/24 via 10.244.3.0 dev {DEVICE} proto 112 onlink" in spaces.run("a", "ip", "route")


@pytest.mark.parametrize(
    "breakage",
    [
        "ip route del 10.244.2.0/24",
        "ip route replace 10.244.2.0/24 via 10.1.0.254",
        "ip route del 10.244.3.0/24",
        f"ip link del {DEVICE}",
        f"ip link set {DEVICE} down",
        f"ip link set {DEVICE} mtu 1000",
        f"ip neigh del 10.244.3.0 dev {DEVICE}",
        f"ip neigh replace 10.244.3.0 lladdr 02:00:00:00:00:01 nud permanent dev {DEVICE}",
        f"bridge fdb del $(bridge fdb show dev {DEVICE} | head -1 | cut -d' ' -f1) dst 10.2.0.3 dev {DEVICE}",
        f"ip link del {DEVICE}; ip link add {DEVICE} type vxlan id 7 dstport 4789 local 10.1.0.1",
    ],
)
async def test_what_somebody_breaks_is_heard_and_repaired(spaces: Namespaces, breakage: str) -> None:
    await bring_about(spaces, "a")
    await bring_about(spaces, "b")
    await bring_about(spaces, "c")
    looks = (
        "ip route",
        f"ip neigh show dev {DEVICE}",
        f"bridge fdb show dev {DEVICE}",
        f"ip -br addr show dev {DEVICE}",
    )

    def state() -> list[str]:
        return [spaces.run("a", *look.split()) for look in looks]

    before = state()
    with spaces.inside("a"):
        async with KernelNetwork() as kernel:
            plan = plan_network(NODES, "a", await kernel.links(), "", OverlaySettings())
            await kernel.apply(plan)
            heard = kernel.changes()
            first = asyncio.create_task(anext(heard))
            await kernel.listening()
            spaces.run("a", "sh", "-ec", breakage)
            await asyncio.wait_for(first, 5)
            await kernel.apply(plan)
            await heard.aclose()
    assert [sorted(text.splitlines()) for text in state()] == [sorted(text.splitlines()) for text in before]
    assert await reach(spaces, "a", "c") == POD["a"]
    assert await reach(spaces, "a", "b") == POD["a"]


async def test_a_node_that_leaves_takes_its_routes_along_and_others_routes_stay(spaces: Namespaces) -> None:
    spaces.run("a", "ip", "route", "replace", "172.30.0.0/16", "via", "10.1.0.254")
    await bring_about(spaces, "a")
    await bring_about(spaces, "a", NODES[:2])
    routes = spaces.run("a", "ip", "route")
    assert "10.244.2.0/24" in routes
    assert "10.244.3.0/24" not in routes
    assert "172.30.0.0/16" in routes
    assert DEVICE not in spaces.run("a", "ip", "link")


async def test_removing_leaves_nothing_of_ours(spaces: Namespaces) -> None:
    await bring_about(spaces, "b")
    spaces.run("b", "ip", "link", "add", "cni0", "type", "bridge")
    with spaces.inside("b"):
        async with KernelNetwork() as kernel:
            await kernel.remove()
            await kernel.remove()
    assert "proto 112" not in spaces.run("b", "ip", "route")
    assert spaces.run("b", "ip", "-br", "link").split("\n", 3)[0].startswith("lo")
    assert "cni0" not in spaces.run("b", "ip", "link")
    assert DEVICE not in spaces.run("b", "ip", "link")


async def test_pods_go_out_with_their_nodes_address(spaces: Namespaces) -> None:
    await bring_about(spaces, "a")
    await bring_about(spaces, "b")
    with spaces.inside("a"):
        await masquerade.apply(masquerade.render(["10.244.1.0/24"], ["10.244.1.0/24", "10.244.2.0/24"]))
    loop = asyncio.get_running_loop()
    with (
        contextlib.closing(spaces.socket("router", socket.SOCK_STREAM)) as listener,
        contextlib.closing(spaces.socket("a", socket.SOCK_STREAM)) as client,
    ):
        listener.bind(("10.1.0.254", 0))
        listener.listen()
        client.bind((POD["a"], 0))
        async with asyncio.timeout(2):
            await loop.sock_connect(client, listener.getsockname())
            accepted, peer = await loop.sock_accept(listener)
        accepted.close()
    assert peer[0] == "10.1.0.1"
    assert await reach(spaces, "a", "b") == POD["a"]
    with spaces.inside("a"):
        await masquerade.apply(masquerade.render((), ()))
    assert "pod-network" not in spaces.run("a", "nft", "list", "tables")
