"""What is IPVS' own: run by test_proxy_ipvs_guest.py inside a guest, because this machine's kernel may have no IPVS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from packet_rules import IP, everything, service, settings, to
from proxy_hosts import NODE_IP, PODS, PORT, Hosts

from agent.proxy.ipvs.backend import IpvsBackend
from agent.proxy.modes import clean_up, make_backend

WEB = everything(service(pods=("pod1", "pod2")))


@pytest.fixture
async def backend(hosts: Hosts) -> AsyncIterator[IpvsBackend]:
    made = IpvsBackend(settings("ipvs"))
    yield made
    await made.cleanup()


def held(hosts: Hosts) -> str:
    """Everything of ours that the kernel of the node holds."""
    run = hosts.spaces.run
    servers = run("node", "cat", "/proc/net/ip_vs").splitlines()[3:]
    saved = run("node", "iptables-save").replace("KUBE-FIREWALL", "")  # which is the kubelet's
    rules = [line for line in saved.splitlines() if "KUBE" in line]
    return "\n".join(
        [*servers, *rules, run("node", "ipset", "list", "-n"), run("node", "ip", "link", "show", "type", "dummy")]
    )


@pytest.mark.parametrize(
    "breakage",
    [
        "ip link del kube-ipvs0",
        "ipset flush KUBE-CLUSTER-IP",
        "iptables -t nat -F KUBE-SERVICES",
    ],
)
async def test_what_somebody_breaks_is_noticed_and_repaired(hosts: Hosts, backend: IpvsBackend, breakage: str) -> None:
    await backend.replace(WEB)
    assert not await backend.disturbed()
    hosts.spaces.run("node", "sh", "-c", breakage)
    assert await backend.disturbed()
    await backend.replace(WEB)
    assert not await backend.disturbed()
    assert set(await hosts.servers("pod3", IP, 80, 8)) == {"pod1", "pod2"}


async def test_our_own_changes_are_no_disturbance(hosts: Hosts, backend: IpvsBackend) -> None:
    await backend.replace({})
    await backend.change(everything(replace(service(), node_port=30080)))
    await backend.change(WEB)
    assert not await backend.disturbed()


async def test_cleaning_up_leaves_nothing_and_may_be_repeated(hosts: Hosts, backend: IpvsBackend) -> None:
    await backend.replace(everything(replace(service(), node_port=30080, external_ips=("192.0.2.5",))))
    assert "KUBE" in held(hosts)
    for _ in range(2):
        assert await clean_up(["iptables", "ipvs"])
        assert held(hosts).strip() == ""


async def test_modes_take_over_from_each_other(hosts: Hosts, backend: IpvsBackend) -> None:
    other = make_backend("iptables", settings("iptables"))
    await other.replace(WEB)
    await backend.replace(WEB)
    assert "-j DNAT" not in held(hosts)
    assert set(await hosts.servers("pod3", IP, 80, 8)) == {"pod1", "pod2"}
    await other.replace(WEB)
    await clean_up(["ipvs"])
    assert "-j DNAT" in held(hosts)
    assert "kube-ipvs0" not in held(hosts)
    assert set(await hosts.servers("pod3", IP, 80, 12)) == {"pod1", "pod2"}
    await other.cleanup()


async def test_an_endpoint_that_goes_keeps_its_connections_and_gets_no_new_ones(
    hosts: Hosts, backend: IpvsBackend
) -> None:
    await backend.replace(everything(service(pods=("pod1",))))
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await arrived.put((reader, writer))

    listener = hosts.spaces.socket("pod1", socket.SOCK_STREAM)
    listener.bind(("0.0.0.0", PORT + 1))
    server = await asyncio.start_server(keep, sock=listener)
    rules = replace(service(pods=()), cluster=(to("pod1")[0]._replace(port=PORT + 1),))
    await backend.change(everything(rules))
    with contextlib.closing(hosts.spaces.socket("pod3", socket.SOCK_STREAM)) as client:
        await loop.sock_connect(client, (IP, 80))
        reader, writer = await arrived.get()
        await backend.change(everything(service(pods=("pod2",))))
        assert set(await hosts.servers("pod3", IP, 80, 6)) == {"pod2"}
        await loop.sock_sendall(client, b"still there?")
        assert await reader.read(100) == b"still there?"
        assert not await backend.disturbed()
        writer.close()
    server.close()


@pytest.mark.parametrize("scheduler", ["rr", "lc"])
async def test_the_scheduler_is_the_configured_one(hosts: Hosts, backend: IpvsBackend, scheduler: str) -> None:
    backend.configure(settings("ipvs", ipvs_scheduler=scheduler))
    await backend.replace(WEB)
    assert f" {scheduler} " in hosts.spaces.run("node", "cat", "/proc/net/ip_vs")


async def test_connections_are_remembered_for_as_long_as_configured(hosts: Hosts, backend: IpvsBackend) -> None:
    backend.configure(settings("ipvs", ipvs_timeouts=(777, 0, 33), ipvs_strict_arp=True))
    await backend.replace(everything(service(pods=("pod1",)), service("dns", protocol="udp", pods=("pod1",))))
    with contextlib.closing(hosts.spaces.socket("pod3", socket.SOCK_DGRAM)) as client:
        await hosts.ask_udp(client, IP, 80)
    lines = hosts.spaces.run("node", "cat", "/proc/net/ip_vs_conn").splitlines()
    (expires,) = (int(line.split()[-1]) for line in lines if line.startswith("UDP"))
    assert 0 < expires <= 33
    assert hosts.spaces.run("node", "cat", "/proc/sys/net/ipv4/conf/all/arp_announce").strip() == "2"


async def test_virtual_servers_of_others_stay(hosts: Hosts, backend: IpvsBackend) -> None:
    theirs = IpvsBackend(settings("ipvs"))
    await theirs.replace(everything(service("theirs", ip="10.99.0.1", pods=("pod1",))))
    backend.configure(settings("ipvs", ipvs_excluded=("10.99.0.0/16",)))
    await backend.replace(WEB)
    assert "0A630001:0050" in hosts.spaces.run("node", "cat", "/proc/net/ip_vs")
    await theirs.cleanup()


async def test_node_ports_are_not_served_on_addresses_of_services(hosts: Hosts, backend: IpvsBackend) -> None:
    await backend.replace(everything(replace(service(), node_port=30080)))
    assert (await hosts.ask("outside", NODE_IP, 30080)).server in PODS
    with pytest.raises(ConnectionRefusedError):
        await hosts.ask("pod1", IP, 30080)
