"""Pods of more priority get room at the expense of those of less. Alone on the lab: all its nodes get a resource."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cluster import Cluster, eventually, pod, requirement, sleeper
from watching import watching
from workers import HOSTNAME, schedulable_nodes

from machinery.api import quantity
from machinery.api.catalogue import NODES, PODS, PRIORITYCLASSES, REPLICASETS
from machinery.api.meta import Object, name_of
from machinery.errors import NotFound

pytest_plugins = ["cluster_fixture"]
pytestmark = [pytest.mark.serial, pytest.mark.timeout(300)]

FOO, FAKE_CPU = "scheduling.k8s.io/foo", "example.com/fakecpu"


@asynccontextmanager
async def nodes_with(cluster: Cluster, resource: str, amount: int, count: int = 100) -> AsyncIterator[list[Object]]:
    """Nodes for pods (`count` at most) that have an extended resource as long as that lasts."""
    nodes = (await schedulable_nodes(cluster))[:count]
    await _set_capacity(cluster, nodes, {resource: str(amount)})
    try:
        for node in nodes:  # the kubelet has it follow, and may have left what a test before offered
            await cluster.object_that(NODES, name_of(node), lambda now: _offered(now, resource) == amount, "offers it")
        yield nodes
    finally:
        await _set_capacity(cluster, nodes, {resource: None})


def _offered(node: Object, resource: str) -> int:
    return quantity.parse(node["status"]["allocatable"].get(resource, 0)).value()


async def _set_capacity(cluster: Cluster, nodes: Sequence[Object], capacity: dict[str, str | None]) -> None:
    for node in nodes:
        await cluster.patch(NODES, name_of(node), {"status": {"capacity": capacity}}, subresource="status")


@asynccontextmanager
async def priorities(cluster: Cluster, *values: int) -> AsyncIterator[list[str]]:
    """Names of classes of these priorities."""
    names = [f"{cluster.namespace}-{value}" for value in values]
    for name, value in zip(names, values, strict=True):
        await cluster.create(PRIORITYCLASSES, {"metadata": {"name": name}, "value": value})
    try:
        yield names
    finally:
        for name in names:
            await cluster.delete(PRIORITYCLASSES, name)


def asking(name: str, amount: dict[str, str], priority: str, *, node: str = "", **spec: Any) -> Object:
    """A pod that asks for an amount of a resource, on a node of that name if there is one."""
    fields = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [fields]}}
    affinity: dict[str, Any] = {"affinity": {"nodeAffinity": required}} if node else {}
    resources = {"limits": amount, "requests": amount}
    return pod(name, sleeper(resources=resources), priorityClassName=priority, **affinity, **spec)


async def leaves(cluster: Cluster, name: str) -> bool:
    try:
        return "deletionTimestamp" in (await cluster.get(PODS, name))["metadata"]
    except NotFound:
        return True


async def fill(cluster: Cluster, nodes: Sequence[Object], low: str, medium: str) -> list[str]:
    """Names of pods that take 2/3 of each node: one of low priority, the others of medium."""
    names = []
    for index, node in enumerate(nodes):
        names.append(f"pod{index}")
        await cluster.create(PODS, asking(names[-1], {FOO: "2"}, medium if index else low, node=name_of(node)))
    for name in names:
        await cluster.pod_that(name, lambda now: now["status"].get("phase") == "Running", "runs")
    return names


@requirement("[sig-scheduling] SchedulerPreemption [Serial] validates basic preemption works [Conformance]")
async def test_the_pod_of_the_least_priority_makes_room(cluster: Cluster) -> None:
    async with nodes_with(cluster, FOO, 3) as nodes, priorities(cluster, 1, 100, 1000) as (low, medium, high):
        assert len(nodes) >= 2
        names = await fill(cluster, nodes, low, medium)
        found = await cluster.start(asking("preemptor-pod", {FOO: "2"}, high))
        assert found["spec"]["nodeName"] == name_of(nodes[0])
        assert await leaves(cluster, names[0])
        assert not any([await leaves(cluster, name) for name in names[1:]])


@requirement(
    "[sig-scheduling] SchedulerPreemption [Serial] validates lower priority pod preemption by critical pod [Conformance]"
)
async def test_a_pod_makes_room_for_a_critical_one(cluster: Cluster) -> None:
    async with nodes_with(cluster, FOO, 3) as nodes, priorities(cluster, 1, 100) as (low, medium):
        names = await fill(cluster, nodes, low, medium)
        system = Cluster(cluster.lab, cluster.client, "kube-system")
        try:
            await system.start(asking("critical-pod", {FOO: "2"}, "system-cluster-critical"))
            assert await leaves(cluster, names[0])
            assert not any([await leaves(cluster, name) for name in names[1:]])
        finally:
            await system.delete(PODS, "critical-pod", grace_seconds=0)


@requirement("[sig-scheduling] SchedulerPreemption [Serial] validates pod disruption condition is added to the preempted pod [Conformance]")  # fmt: skip
async def test_a_pod_that_makes_room_is_told_why(cluster: Cluster) -> None:
    async with nodes_with(cluster, FOO, 1, 1) as (node,), priorities(cluster, 1, 1000) as (low, high):
        victim = asking("victim-pod", {FOO: "1"}, low, node=name_of(node))
        victim["metadata"]["finalizers"] = ["example.com/test-finalizer"]
        try:
            await cluster.start(victim)
            await cluster.create(PODS, asking("preemptor-pod", {FOO: "1"}, high, node=name_of(node)))
            found = await cluster.pod_that(
                "victim-pod", lambda now: "deletionTimestamp" in now["metadata"], "is preempted"
            )
            condition = next(each for each in found["status"]["conditions"] if each["type"] == "DisruptionTarget")
            assert (condition["status"], condition["reason"]) == ("True", "PreemptionByScheduler")
        finally:
            await cluster.patch(PODS, "victim-pod", {"metadata": {"finalizers": None}})
        await cluster.pod_that("preemptor-pod", lambda now: now["status"].get("phase") == "Running", "runs")


@requirement("[sig-scheduling] SchedulerPreemption [Serial] PreemptionExecutionPath runs ReplicaSets to verify preemption running path [Conformance]")  # fmt: skip
async def test_no_more_pods_make_room_than_have_to(cluster: Cluster) -> None:
    async with (
        nodes_with(cluster, FAKE_CPU, 1000, 1) as (node,),
        priorities(cluster, 1, 2, 3, 4) as classes,
        watching(cluster, PODS) as seen,
    ):
        here = {HOSTNAME: node["metadata"]["labels"][HOSTNAME]}
        for number, amount in ((1, "200"), (2, "300"), (3, "450")):
            labels = {"name": f"pod{number}"}
            spec = asking("", {FAKE_CPU: amount}, classes[number - 1], nodeSelector=here)["spec"] | {
                "restartPolicy": "Always"
            }
            template = {"metadata": {"labels": labels}, "spec": spec}
            body: Object = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
            await cluster.create(REPLICASETS, {"metadata": {"name": f"rs-pod{number}"}, "spec": body})
            await cluster.object_that(
                REPLICASETS, f"rs-pod{number}", lambda now: now["status"].get("availableReplicas") == 1, "runs"
            )
        await cluster.create(PODS, asking("pod4", {FAKE_CPU: "500"}, classes[3], nodeSelector=here))
        await cluster.pod_that("pod4", lambda now: now["spec"].get("nodeName"), "has a node")
        made: list[str] = []

        async def as_expected() -> bool:
            while not seen.events.empty():
                event = seen.events.get_nowait()
                if event.type == "ADDED":
                    made.append(name_of(event.object).rpartition("-")[0])
            counts = [made.count(f"rs-pod{number}") for number in (1, 2, 3)]
            assert all(count <= most for count, most in zip(counts, (2, 2, 1), strict=True)), counts
            return counts == [2, 2, 1]

        await eventually(as_expected, "pods of both lesser priorities made anew")
        async with asyncio.timeout(30):
            await cluster.pod_that("pod4", lambda now: now["status"].get("phase") == "Running", "runs")
        await cluster.start(pod("afterwards", sleeper()))  # time for what would be preempted too much
        assert await as_expected()
