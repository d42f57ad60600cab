"""Endpoints and EndpointSlices: who makes them, and that they are served."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from cluster import Cluster, container, eventually, pod, requirement, sleeper
from lab_images import ECHO
from objects import replace
from servers import HTTP_PORT, asker, server
from watching import watching
from workloads import pods_of, workload

from machinery.api.catalogue import ENDPOINTS, ENDPOINTSLICES, PODS, REPLICASETS, SERVICES
from machinery.api.meta import Object, name_of
from machinery.errors import NotFound

pytest_plugins = ["cluster_fixture"]

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"


async def _service(cluster: Cluster, name: str, selector: dict[str, str] | None, *ports: Object, **spec: Any) -> Object:
    chosen = {"selector": selector} if selector else {}
    return await cluster.create(SERVICES, {"metadata": {"name": name}, "spec": chosen | {"ports": list(ports)} | spec})


def _port(port: int, target: int | str | None = None, name: str = "http") -> Object:
    return {"name": name, "protocol": "TCP", "port": port} | ({"targetPort": target} if target else {})


async def _slices(cluster: Cluster, service: str) -> list[Object]:
    chosen = f"{SERVICE_NAME}={service}"
    return (await cluster.client.list(ENDPOINTSLICES, cluster.namespace, label_selector=chosen)).items


async def _endpoints(cluster: Cluster, name: str) -> Object | None:
    try:
        return await cluster.get(ENDPOINTS, name)
    except NotFound:
        return None


def _in_slices(slices: list[Object]) -> set[tuple[str, str, int]]:
    """What slices say: (pod, address, port) of each ready endpoint."""
    return {
        (endpoint["targetRef"]["name"], endpoint["addresses"][0], port["port"])
        for each in slices
        for endpoint in each["endpoints"] or ()
        for port in each["ports"] or ()
        if endpoint["conditions"]["ready"]
    }


def _in_endpoints(found: Object | None) -> set[tuple[str, str, int]] | None:
    if found is None:
        return None
    return {
        (address["targetRef"]["name"], address["ip"], port["port"])
        for subset in found.get("subsets") or ()
        for address in subset.get("addresses") or ()
        for port in subset["ports"]
    }


async def _are(cluster: Cluster, service: str, wanted: set[tuple[str, str, int]]) -> None:
    """Wait until Endpoints and EndpointSlices both say so."""

    async def both() -> bool:
        slices = _in_slices(await _slices(cluster, service))
        return _in_endpoints(await _endpoints(cluster, service)) == wanted == slices

    await eventually(both, f"endpoints of {service}: {wanted}")


@requirement(
    "[sig-network] EndpointSlice should create and delete EndpointSlices for a Service with a selector that matches no pods [Conformance]"
)
async def test_no_pods_in_slices(cluster: Cluster) -> None:
    await _service(cluster, "example-empty-selector", {"does-not": "match"}, _port(80))
    [made] = await eventually(lambda: _slices(cluster, "example-empty-selector"), "a slice")
    assert made["metadata"]["labels"][MANAGED_BY] == "endpointslice-controller.k8s.io"
    assert not made["endpoints"]
    await cluster.delete(SERVICES, "example-empty-selector")

    async def gone() -> bool:
        return not await _slices(cluster, "example-empty-selector")

    await eventually(gone, "no slice", 90)


@requirement(
    "[sig-network] EndpointsController should create and delete Endpoints for a Service with a selector that matches no pods [Conformance]"
)
async def test_no_pods_in_endpoints(cluster: Cluster) -> None:
    await _service(cluster, "example-empty-selector", {"does-not": "match"}, _port(80))
    made = await eventually(lambda: _endpoints(cluster, "example-empty-selector"), "Endpoints")
    assert not made.get("subsets")
    await cluster.delete(SERVICES, "example-empty-selector")

    async def gone() -> bool:
        return await _endpoints(cluster, "example-empty-selector") is None

    await eventually(gone, "no Endpoints", 90)


async def _two_pods_and_three_services(cluster: Cluster) -> dict[str, set[tuple[str, str, int]]]:
    """What the services' endpoints are to be."""
    for name, ports in (("pod1", {"example-name": 3000}), ("pod2", {"example-name": 3001, "other-port": 3002})):
        declared = [{"name": each, "containerPort": number} for each, number in ports.items()]
        labels = {name: "on", "shared12": "on"}
        await cluster.create(PODS, pod(name, sleeper(ports=declared), labels=labels, restartPolicy="Always"))
    for name, selector, target in (
        ("example-int-port", "pod1", 3000),
        ("example-named-port", "shared12", "example-name"),
        ("example-no-match", "pod3", 8080),
    ):
        await _service(cluster, name, {selector: "on"}, _port(80, target), publishNotReadyAddresses=True)
    ip = {}
    for name in ("pod1", "pod2"):
        ip[name] = (await cluster.pod_that(name, lambda o: o["status"].get("podIPs"), "with an address"))["status"][
            "podIP"
        ]
    one = ("pod1", ip["pod1"], 3000)
    return {
        "example-int-port": {one},
        "example-named-port": {one, ("pod2", ip["pod2"], 3001)},
        "example-no-match": set(),
    }


@requirement(
    "[sig-network] EndpointSlice should create Endpoints and EndpointSlices for Pods matching a Service [Conformance]"
)
async def test_pods_in_slices(cluster: Cluster) -> None:
    wanted = await _two_pods_and_three_services(cluster)
    counts = {"example-int-port": 1, "example-named-port": 2, "example-no-match": 1}

    async def are_there(service: str) -> list[Object]:
        async def as_wanted() -> list[Object]:
            found = await _slices(cluster, service)
            return found if len(found) == counts[service] and _in_slices(found) == wanted[service] else []

        found: list[Object] = await eventually(as_wanted, f"slices of {service}: {wanted[service]}", 90)
        return found

    for service in wanted:
        for each in await are_there(service):
            assert [port["name"] for port in each["ports"] or ()] == ["http"] * len(each["ports"] or ())
            [owner] = each["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["name"]) == ("Service", service)
            assert each["addressType"] == "IPv4"
    # Slices that are gone are made anew.
    for each in await _slices(cluster, "example-named-port"):
        await cluster.client.delete(ENDPOINTSLICES, name_of(each), cluster.namespace)
    await are_there("example-named-port")


@requirement("[sig-network] EndpointsController should create Endpoints for Pods matching a Service [Conformance]")
async def test_pods_in_endpoints(cluster: Cluster) -> None:
    wanted = await _two_pods_and_three_services(cluster)
    subsets = {"example-int-port": 1, "example-named-port": 2, "example-no-match": 0}
    for service in wanted:

        async def as_wanted(service: str = service) -> bool:
            found = await _endpoints(cluster, service)
            if found is None or _in_endpoints(found) != wanted[service]:
                return False
            return len(found.get("subsets") or ()) == subsets[service]

        await eventually(as_wanted, f"Endpoints of {service}: {wanted[service]}", 90)


@requirement(
    "[sig-network] EndpointSliceMirroring should mirror a custom Endpoints resource through create update and delete [Conformance]"
)
async def test_mirroring(cluster: Cluster) -> None:
    name = "example-custom-endpoints"
    await _service(cluster, name, None, _port(80, name="example"))

    def subsets(port: int, address: str) -> list[Object]:
        return [{"ports": [{"port": port}], "addresses": [{"ip": address}]}]

    await cluster.create(ENDPOINTS, {"metadata": {"name": name}, "subsets": subsets(80, "10.1.2.3")})

    def says(port: int, address: str) -> Any:
        async def ask() -> bool:
            found = await _slices(cluster, name)
            return [
                ([each["port"] for each in one["ports"]], [each["addresses"] for each in one["endpoints"]])
                for one in found
            ] == [([port], [[address]])]

        return ask

    await eventually(says(80, "10.1.2.3"), "mirrored")
    [mirrored] = await _slices(cluster, name)
    assert mirrored["metadata"]["labels"][MANAGED_BY] == "endpointslicemirroring-controller.k8s.io"
    assert not mirrored["ports"][0].get("name")
    await replace(cluster, ENDPOINTS, name, lambda o: o.update(subsets=subsets(81, "10.2.3.4")))
    await eventually(says(81, "10.2.3.4"), "mirrored after the update")
    await cluster.delete(ENDPOINTS, name)

    async def gone() -> bool:
        return not await _slices(cluster, name)

    await eventually(gone, "no mirror")


async def _served_by_slices(cluster: Cluster, *answering: tuple[str, int], ports: int) -> None:
    """A service without a selector, with a slice for each (pod, target port), is answered by all of them."""
    name = "example-custom-endpoints"
    service = await _service(
        cluster, name, None, *[_port(80 + number, name=f"port{number}") for number in range(ports)]
    )
    for number, (each, target) in enumerate(answering):
        address = (await cluster.get(PODS, each))["status"]["podIP"]
        labels = {SERVICE_NAME: name, MANAGED_BY: "e2e-test.kubernetes.io"}
        port = {"name": f"port{number % ports}", "port": target, "protocol": "TCP"}
        made = {"metadata": {"name": f"{name}-{number}", "labels": labels}, "addressType": "IPv4"}
        await cluster.create(ENDPOINTSLICES, made | {"ports": [port], "endpoints": [{"addresses": [address]}]})
    asks = await asker(cluster)
    for number in range(ports):
        wanted = {each for index, (each, _) in enumerate(answering) if index % ports == number}
        for host in (service["spec"]["clusterIP"], f"{name}.{cluster.namespace}.svc.cluster.local"):
            await asks.reaches(f"http://{host}:{80 + number}/hostname", wanted)


@requirement(
    "[sig-network] EndpointSlice should support a Service with multiple endpoint IPs specified in multiple EndpointSlices [Conformance]"
)
async def test_addresses_in_slices(cluster: Cluster) -> None:
    for name, port in (("server-1", 8090), ("server-2", 8091)):
        await cluster.start(pod(name, await server(cluster, {"http": [port]})))
    await _served_by_slices(cluster, ("server-1", 8090), ("server-2", 8091), ports=1)


@requirement(
    "[sig-network] EndpointSlice should support a Service with multiple ports specified in multiple EndpointSlices [Conformance]"
)
async def test_ports_in_slices(cluster: Cluster) -> None:
    await cluster.start(pod("server", await server(cluster, {"http": [8090, 8091]})))
    await _served_by_slices(cluster, ("server", 8090), ("server", 8091), ports=2)


@requirement("[sig-network] Services should serve a basic endpoint from pods [Conformance]")
async def test_basic(cluster: Cluster) -> None:
    selector = {"app": "basic"}
    service = await _service(cluster, "endpoint-test2", selector, _port(80, HTTP_PORT))
    await _are(cluster, "endpoint-test2", set())
    asks, wanted = await asker(cluster), {}
    for name in ("pod1", "pod2"):
        made = await cluster.start(pod(name, await server(cluster), labels=selector))
        wanted[name] = (name, made["status"]["podIP"], HTTP_PORT)
        await _are(cluster, "endpoint-test2", set(wanted.values()))
        await asks.reaches(f"http://{service['spec']['clusterIP']}:80/hostname", set(wanted))
    for name in ("pod1", "pod2"):
        await cluster.delete(PODS, name)
        del wanted[name]
        await _are(cluster, "endpoint-test2", set(wanted.values()))
        if wanted:
            await asks.reaches("http://endpoint-test2:80/hostname", set(wanted), seconds=30)


@requirement("[sig-network] Services should serve multiport endpoints from pods [Conformance]")
async def test_multiport(cluster: Cluster) -> None:
    selector, targets = {"app": "multiport"}, {"pod1": 100, "pod2": 101}
    ports = [_port(80, "portname1", "portname1"), _port(81, "portname2", "portname2")]
    await _service(cluster, "multi-endpoint-test", selector, *ports)
    await _are(cluster, "multi-endpoint-test", set())
    wanted = {}
    for number, (name, port) in enumerate(targets.items(), 1):
        declared = [{"name": f"portname{number}", "containerPort": port}]
        serving = await server(cluster, {"http": [port]}, ports=declared)
        made = await cluster.start(pod(name, serving, labels=selector))
        wanted[name] = (name, made["status"]["podIP"], port)
        await _are(cluster, "multi-endpoint-test", set(wanted.values()))
    asks = await asker(cluster)
    await asks.reaches("http://multi-endpoint-test:80/hostname", {"pod1"})
    await asks.reaches("http://multi-endpoint-test:81/hostname", {"pod2"})
    for name in targets:
        await cluster.delete(PODS, name)
        del wanted[name]
        await _are(cluster, "multi-endpoint-test", set(wanted.values()))


TRIALS, AT_ONCE = 200, 15


@requirement("[sig-network] Service endpoints latency should not be very high [Conformance]")
@pytest.mark.timeout(300)
async def test_latency(cluster: Cluster) -> None:
    labels = {"name": "svc-latency-rc"}
    await cluster.create(REPLICASETS, workload("svc-latency-rc", labels, container(name="c", image=ECHO), replicas=1))

    async def ready() -> bool:
        return any(each["status"].get("podIP") for each in await pods_of(cluster, labels))

    await eventually(ready, "its pod")
    began: dict[str, float] = {}
    took: list[float] = []
    gate = asyncio.Semaphore(AT_ONCE)
    answered: dict[str, asyncio.Event] = {f"latency-{number}": asyncio.Event() for number in range(TRIALS)}

    async def trial(name: str) -> None:
        async with gate:
            began[name] = time.monotonic()
            await _service(cluster, name, labels, _port(80))
            async with asyncio.timeout(100):
                await answered[name].wait()

    async with watching(cluster, ENDPOINTSLICES) as watched:

        async def note() -> None:
            while len(took) < TRIALS:
                event = await watched.events.get()
                name = event.object["metadata"].get("labels", {}).get(SERVICE_NAME, "")
                if event.object.get("endpoints") and not answered[name].is_set():
                    took.append(time.monotonic() - began[name])
                    answered[name].set()

        async with asyncio.TaskGroup() as group:
            group.create_task(note())
            for name in answered:
                group.create_task(trial(name))
    took.sort()
    assert took[len(took) // 2] < 20, took
    assert took[len(took) * 99 // 100] < 50, took
