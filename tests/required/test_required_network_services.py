"""Services are reached, whatever their type, and stick to a client when they are to."""

from __future__ import annotations

from typing import Any

import pytest
from cluster import Cluster, eventually, pod, requirement, shows
from objects import replace
from servers import HTTP_PORT, UDP_PORT, Asker, asker, node_addresses, server
from workloads import has_ready, pods_of, workload

from machinery.api.catalogue import REPLICASETS, SERVICES
from machinery.api.meta import Object, name_of

pytest_plugins = ["cluster_fixture"]

LABELS = {"app": "served"}
CONFIRMED = 15
"""Answers in a row from one pod that show that the service sticks to it."""


async def _create(cluster: Cluster, name: str, **spec: Any) -> Object:
    return await cluster.create(SERVICES, {"metadata": {"name": name}, "spec": spec})


async def _start_pods(cluster: Cluster, count: int) -> set[str]:
    await cluster.create(REPLICASETS, workload("serves", LABELS, await server(cluster), replicas=count))
    await has_ready(cluster, REPLICASETS, "serves", count)
    return {name_of(each) for each in await pods_of(cluster, LABELS)}


def _port(**fields: Any) -> Object:
    return {"name": "http", "port": 80, "targetPort": HTTP_PORT, "protocol": "TCP"} | fields


async def _reached(cluster: Cluster, asks: Asker, name: str, pods: set[str]) -> None:
    """The service is reached by its name, its address, and on every node when it has a port there."""
    service = await cluster.get(SERVICES, name)
    spec = service["spec"]
    [port] = spec["ports"]
    targets = [f"{name}:{port['port']}", f"{spec['clusterIP']}:{port['port']}"]
    if spec["type"] == "NodePort":
        targets += [f"{address}:{port['nodePort']}" for address in (await node_addresses(cluster)).values()]
    for target in targets:
        await asks.reaches(f"http://{target}/hostname", pods)


@requirement("[sig-network] Services should be able to create a functioning NodePort service [Conformance]")
@pytest.mark.timeout(180)
async def test_node_port(cluster: Cluster) -> None:
    await _create(cluster, "nodeport-test", type="NodePort", selector=LABELS, ports=[_port()])
    pods = await _start_pods(cluster, 2)
    await _reached(cluster, await asker(cluster), "nodeport-test", pods)


@pytest.mark.parametrize(
    "kind",
    [
        shows(
            "ClusterIP",
            name="[sig-network] Services should be able to change the type from ExternalName to ClusterIP [Conformance]",
        ),
        shows(
            "NodePort",
            name="[sig-network] Services should be able to change the type from ExternalName to NodePort [Conformance]",
        ),
    ],
)
@pytest.mark.timeout(180)
async def test_from_external_name(cluster: Cluster, kind: str) -> None:
    name = "externalname-service"
    made = await _create(cluster, name, type="ExternalName", externalName="example.com")
    assert not made["spec"].get("clusterIP")

    def change(found: Object) -> None:
        del found["spec"]["externalName"]
        found["spec"].update(type=kind, selector=LABELS, ports=[_port()])

    changed = (await replace(cluster, SERVICES, name, change))["spec"]
    assert changed["clusterIP"] not in ("", "None")
    assert bool(changed["ports"][0].get("nodePort")) == (kind == "NodePort")
    await _reached(cluster, await asker(cluster), name, await _start_pods(cluster, 2))


@pytest.mark.parametrize(
    "kind",
    [
        shows(
            "ClusterIP",
            name="[sig-network] Services should be able to change the type from ClusterIP to ExternalName [Conformance]",
        ),
        shows(
            "NodePort",
            name="[sig-network] Services should be able to change the type from NodePort to ExternalName [Conformance]",
        ),
    ],
)
@pytest.mark.timeout(180)
async def test_to_external_name(cluster: Cluster, kind: str) -> None:
    name, target = "changed-service", "externalsvc"
    made = (await _create(cluster, name, type=kind, selector=LABELS, ports=[_port()]))["spec"]
    assert made["clusterIP"]
    node_port = made["ports"][0].get("nodePort")
    assert bool(node_port) == (kind == "NodePort")
    pods = await _start_pods(cluster, 2)
    there = await _create(cluster, target, selector=LABELS, ports=[_port()])
    full = f"{target}.{cluster.namespace}.svc.cluster.local"

    def change(found: Object) -> None:
        found["spec"].update(type="ExternalName", externalName=full)

    changed = (await replace(cluster, SERVICES, name, change))["spec"]
    assert not changed.get("clusterIP")
    assert not any(each.get("nodePort") for each in changed.get("ports") or ())
    asks = await asker(cluster)

    async def follows() -> bool:
        [(over_udp, _)] = await asks.resolve((f"{name}.{cluster.namespace}.svc.cluster.local", "A"))
        return over_udp == [f"{full}.", there["spec"]["clusterIP"]]

    await eventually(follows, "the name leads to the other service")
    await asks.reaches(f"http://{name}:80/hostname", pods)
    if node_port:
        # The port is free again, for whoever wants it.
        await _create(cluster, "takes-port", type="NodePort", selector=LABELS, ports=[_port(nodePort=node_port)])


async def _sticks(asks: Asker, url: str, pods: set[str]) -> None:
    """Wait until one pod alone has answered many times in a row."""

    async def one_alone() -> bool:
        answers = await asks.dial(url, CONFIRMED)
        assert {each for each in answers if each} <= pods
        return len(set(answers)) == 1 and answers[0] is not None

    await eventually(one_alone, f"{url} answered by one pod alone")


async def _spreads(asks: Asker, url: str, pods: set[str]) -> None:
    """Wait until more than one pod has answered."""

    async def more() -> bool:
        answers = {each for each in await asks.dial(url, CONFIRMED) if each}
        assert answers <= pods
        return len(answers) > 1

    await eventually(more, f"{url} answered by more than one pod")


@pytest.mark.parametrize(
    ("kind", "switch"),
    [
        shows(
            "ClusterIP",
            False,
            name="[sig-network] Services should have session affinity work for service with type clusterIP [LinuxOnly] [Conformance]",
        ),
        shows(
            "NodePort",
            False,
            name="[sig-network] Services should have session affinity work for NodePort service [LinuxOnly] [Conformance]",
        ),
        shows(
            "ClusterIP",
            True,
            name="[sig-network] Services should be able to switch session affinity for service with type clusterIP [LinuxOnly] [Conformance]",
        ),
        shows(
            "NodePort",
            True,
            name="[sig-network] Services should be able to switch session affinity for NodePort service [LinuxOnly] [Conformance]",
        ),
    ],
)
@pytest.mark.timeout(240)
async def test_affinity(cluster: Cluster, kind: str, switch: bool) -> None:
    name = "affinity"
    made = (await _create(cluster, name, type=kind, sessionAffinity="ClientIP", selector=LABELS, ports=[_port()]))[
        "spec"
    ]
    assert made["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    pods = await _start_pods(cluster, 3)
    asks = await asker(cluster)
    host, port = made["clusterIP"], 80
    if kind == "NodePort":
        host, port = next(iter((await node_addresses(cluster)).values())), made["ports"][0]["nodePort"]
    url = f"http://{host}:{port}/hostname"

    async def reached() -> bool:
        return None not in await asks.dial(url, 3)

    await eventually(reached, f"{url} answers")
    if not switch:
        await _sticks(asks, url, pods)
        return
    await _set_affinity(cluster, name, "None")
    await _spreads(asks, url, pods)
    await _set_affinity(cluster, name, "ClientIP")
    await _sticks(asks, url, pods)


async def _set_affinity(cluster: Cluster, name: str, affinity: str) -> None:
    def change(found: Object) -> None:
        found["spec"]["sessionAffinity"] = affinity
        found["spec"].pop("sessionAffinityConfig", None)

    assert (await replace(cluster, SERVICES, name, change))["spec"]["sessionAffinity"] == affinity


@requirement("[sig-network] Services should serve endpoints on same port and different protocols [Conformance]")
@pytest.mark.timeout(180)
async def test_protocols(cluster: Cluster) -> None:
    name = "multiprotocol-test"
    tcp = _port(name="tcp-port")
    udp = {"name": "udp-port", "port": 80, "targetPort": UDP_PORT, "protocol": "UDP"}
    made = await _create(cluster, name, selector=LABELS, ports=[tcp, udp])
    address = made["spec"]["clusterIP"]
    await cluster.start(pod("pod1", await server(cluster), labels=LABELS))
    asks = await asker(cluster)
    urls = {"TCP": f"http://{address}:80/hostname", "UDP": f"udp://{address}:80"}
    for url in urls.values():
        await asks.reaches(url, {"pod1"})

    for ports, reached, cut in (([tcp], "TCP", "UDP"), ([udp], "UDP", "TCP")):
        changed = await replace(cluster, SERVICES, name, _set_ports(ports))
        assert [each["protocol"] for each in changed["spec"]["ports"]] == [reached]

        async def unreachable(url: str = urls[cut]) -> bool:
            return await asks.dial(url) == [None]

        await eventually(unreachable, f"{urls[cut]} not reached any more")
        await asks.reaches(urls[reached], {"pod1"})


def _set_ports(ports: list[Object]) -> Any:
    return lambda found: found["spec"].update(ports=ports)
