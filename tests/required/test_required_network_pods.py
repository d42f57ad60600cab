"""Pods reach pods, from pods and from nodes; ports of the host."""

from __future__ import annotations

import pytest
from cluster import Cluster, pod, requirement, shows
from servers import HTTP_PORT, UDP_PORT, asker, node_addresses, server
from workers import schedulable_nodes

from machinery.api.meta import name_of

pytest_plugins = ["cluster_fixture"]

HOST_PORT = 54323


@pytest.mark.parametrize(
    ("scheme", "port", "from_node"),
    [
        shows(
            "http",
            HTTP_PORT,
            False,
            name="[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http [NodeConformance] [Conformance]",
        ),
        shows(
            "udp",
            UDP_PORT,
            False,
            name="[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: udp [NodeConformance] [Conformance]",
        ),
        shows(
            "http",
            HTTP_PORT,
            True,
            name="[sig-network] Networking Granular Checks: Pods should function for node-pod communication: http [LinuxOnly] [NodeConformance] [Conformance]",
        ),
        shows(
            "udp",
            UDP_PORT,
            True,
            name="[sig-network] Networking Granular Checks: Pods should function for node-pod communication: udp [LinuxOnly] [NodeConformance] [Conformance]",
        ),
    ],
)
async def test_reaches_pods(cluster: Cluster, scheme: str, port: int, from_node: bool) -> None:
    addresses = {}
    for number, node in enumerate(map(name_of, await schedulable_nodes(cluster))):
        name = f"netserver-{number}"
        made = await cluster.start(pod(name, await server(cluster), nodeName=node))
        addresses[name] = made["status"]["podIP"]
    assert len(addresses) > 1, "one on the same node, one on another"
    asks = await asker(cluster, hostNetwork=from_node)
    for name, address in addresses.items():
        await asks.reaches(f"{scheme}://{address}:{port}/hostname", {name})


@requirement(
    "[sig-network] HostPort validates that there is no conflict between pods with same hostPort but different hostIP and protocol [LinuxOnly] [Conformance]"
)
async def test_host_ports(cluster: Cluster) -> None:
    node = name_of((await schedulable_nodes(cluster))[0])
    address = (await node_addresses(cluster))[node]
    for name, host, protocol, port in (
        ("pod1", "127.0.0.1", "TCP", HTTP_PORT),
        ("pod2", address, "TCP", HTTP_PORT),
        ("pod3", address, "UDP", UDP_PORT),
    ):
        exposed = {"containerPort": port, "hostPort": HOST_PORT, "hostIP": host, "protocol": protocol}
        serving = await server(cluster, ports=[exposed])
        made = await cluster.start(pod(name, serving, nodeSelector={"kubernetes.io/hostname": node}))
        assert made["spec"]["nodeName"] == node
    asks = await asker(cluster, hostNetwork=True, nodeName=node)
    await asks.reaches(f"http://127.0.0.1:{HOST_PORT}/hostname", {"pod1"})
    await asks.reaches(f"http://{address}:{HOST_PORT}/hostname", {"pod2"})
    await asks.reaches(f"udp://{address}:{HOST_PORT}", {"pod3"})
    assert (await asks.dial(f"http://127.0.0.1:{HOST_PORT}/hostname", source=address)) == ["pod1"]
