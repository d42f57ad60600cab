"""Which nodes pods are put on, and which are kept from them. Alone on the lab, as room on its nodes is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cluster import Cluster, container, eventually, pod, requirement, sleeper
from workers import HOSTNAME, schedulable_nodes

from machinery.api import quantity
from machinery.api.catalogue import EVENTS, NODES, PODS
from machinery.api.meta import Object, name_of

pytest_plugins = ["cluster_fixture"]
pytestmark = pytest.mark.serial


async def stable(cluster: Cluster) -> None:
    """Pods of tests before have left, and the others have their nodes."""

    async def settled() -> bool:
        pods = (await cluster.client.list(PODS)).items
        return all("deletionTimestamp" not in each["metadata"] and each["spec"].get("nodeName") for each in pods)

    await eventually(settled, "all pods are scheduled and none leaves", 120)


async def not_scheduled(cluster: Cluster, name: str) -> None:
    """The scheduler tells that it found no node for a pod."""

    async def told() -> bool:
        chosen = f"involvedObject.name={name},reason=FailedScheduling"
        return bool((await cluster.client.list(EVENTS, cluster.namespace, field_selector=chosen)).items)

    await eventually(told, f"the event that {name} fits nowhere")
    found = await cluster.pod_that(name, lambda now: _condition(now) is not None, "was tried to be scheduled")
    condition = _condition(found)
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert found["status"]["phase"] == "Pending"
    assert "nodeName" not in found["spec"]


def _condition(found: Object) -> Object | None:
    conditions = found["status"].get("conditions") or ()
    return next((each for each in conditions if each["type"] == "PodScheduled"), None)


async def scheduled(cluster: Cluster) -> list[str]:
    pods = (await cluster.client.list(PODS, cluster.namespace)).items
    return sorted(name_of(each) for each in pods if each["spec"].get("nodeName"))


@asynccontextmanager
async def labelled(cluster: Cluster, node: str, labels: dict[str, str]) -> AsyncIterator[None]:
    patched = await cluster.patch(NODES, node, {"metadata": {"labels": labels}})
    assert patched["metadata"]["labels"].items() >= labels.items()
    try:
        yield
    finally:
        await cluster.patch(NODES, node, {"metadata": {"labels": dict.fromkeys(labels)}})


def cpu_of(found: Object) -> int:
    """Millicores that a pod asks for, by its regular containers."""
    asked = [each.get("resources", {}).get("requests", {}).get("cpu", "0") for each in found["spec"]["containers"]]
    return sum(quantity.parse(each).milli_value() for each in asked)


@requirement(
    "[sig-scheduling] SchedulerPredicates [Serial] validates resource limits of pods that are allowed to run [Conformance]"
)
async def test_no_node_gets_more_than_it_has(cluster: Cluster) -> None:
    await stable(cluster)
    nodes = await schedulable_nodes(cluster)
    allocatable = {name_of(node): quantity.parse(node["status"]["allocatable"]["cpu"]).milli_value() for node in nodes}
    left = dict(allocatable)
    for each in (await cluster.client.list(PODS)).items:
        node = each["spec"].get("nodeName")
        if node in left and each["status"].get("phase") not in ("Succeeded", "Failed"):
            left[node] -= cpu_of(each)
    fillers = []
    for node in nodes:
        cpu = f"{left[name_of(node)] * 7 // 10}m"
        host = node["metadata"]["labels"][HOSTNAME]
        here = {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [host]}]}
        affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [here]}}
        filler = sleeper(resources={"limits": {"cpu": cpu}, "requests": {"cpu": cpu}})
        name = f"filler-pod-{name_of(node)}"
        await cluster.start(pod(name, filler, affinity={"nodeAffinity": affinity}))
        fillers.append(name)
    cpu = f"{max(allocatable.values()) // 2}m"
    await cluster.create(
        PODS, pod("additional-pod", sleeper(resources={"limits": {"cpu": cpu}, "requests": {"cpu": cpu}}))
    )
    await not_scheduled(cluster, "additional-pod")
    assert await scheduled(cluster) == sorted(fillers)


@requirement(
    "[sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if not matching [Conformance]"
)
async def test_a_selector_that_no_node_matches(cluster: Cluster) -> None:
    await cluster.create(PODS, pod("restricted-pod", sleeper(), nodeSelector={"label": "nonempty"}))
    await not_scheduled(cluster, "restricted-pod")
    assert await scheduled(cluster) == []


@requirement(
    "[sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if matching [Conformance]"
)
async def test_a_selector_that_one_node_matches(cluster: Cluster) -> None:
    node = name_of((await schedulable_nodes(cluster))[-1])
    label = {f"kubernetes.io/e2e-{cluster.namespace}": "42"}
    async with labelled(cluster, node, label):
        found = await cluster.start(pod("with-labels", sleeper(), nodeSelector=label))
        assert found["spec"]["nodeName"] == node


@requirement("[sig-scheduling] SchedulerPredicates [Serial] validates that there exists conflict between pods with same hostPort and protocol but one using 0.0.0.0 hostIP [Conformance]")  # fmt: skip
async def test_a_port_of_all_addresses_is_in_the_way_of_one(cluster: Cluster) -> None:
    node = (await schedulable_nodes(cluster))[0]
    address = next(each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP")
    label = {f"kubernetes.io/e2e-{cluster.namespace}": "95"}

    def serving(name: str, host: dict[str, str]) -> Object:
        port = {"hostPort": 54322, "containerPort": 80, "protocol": "TCP", **host}
        return pod(name, container("httpd", "-f", "-p", "80", ports=[port]), nodeSelector=label)

    async with labelled(cluster, name_of(node), label):
        await cluster.start(serving("pod4", {}))
        await cluster.create(PODS, serving("pod5", {"hostIP": address}))
        await not_scheduled(cluster, "pod5")
        assert await scheduled(cluster) == ["pod4"]


@requirement("[sig-architecture] Conformance Tests should have at least two untainted nodes [Conformance]")
async def test_two_nodes_are_for_pods(cluster: Cluster) -> None:
    assert len(await schedulable_nodes(cluster)) >= 2
