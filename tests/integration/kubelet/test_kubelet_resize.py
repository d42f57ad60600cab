"""In-place resize of pods: [sig-node] Pod InPlace Resize Container."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from kubelet_node import TestNode, box, container_status, eventually, running_node

from agent.kubelet.cgroups.hierarchy import Hierarchy
from machinery.api import meta
from machinery.api.catalogue import PODS
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[TestNode]:
    async with running_node() as made:
        yield made


def sized(name: str, requests: tuple[str, str], limits: tuple[str, str], **fields: Any) -> Object:
    """A container with (cpu, memory) requests and limits."""
    return {**box("sleep", "3600", **fields), "name": name, "resources": amounts(requests, limits)}


def amounts(requests: tuple[str, str], limits: tuple[str, str]) -> Object:
    found: Object = {}
    for section, (cpu, memory) in (("requests", requests), ("limits", limits)):
        both = {"cpu": cpu, "memory": memory}
        if any(both.values()):
            found[section] = {key: value for key, value in both.items() if value}
    return found


async def resize(node: TestNode, name: str, wanted: dict[str, Object]) -> Object:
    """Ask for other resources through the resize subresource; the pod as the API server answered."""
    patch = {"spec": {"containers": [{"name": n, "resources": r} for n, r in wanted.items()]}}
    return await node.client.patch(PODS, name, patch, node.namespace, content_type=STRATEGIC, subresource="resize")


async def resized(node: TestNode, name: str, generation: int) -> Object:
    """The pod, once the resize of that generation is done."""

    def done(pod: Object) -> bool:
        status = pod["status"]
        kinds = {c["type"] for c in status["conditions"]}
        shown = {s["name"]: s.get("resources") for s in status["containerStatuses"]}
        same = all(shown.get(c["name"]) == (c.get("resources") or {}) for c in pod["spec"]["containers"])
        running = all("running" in s["state"] for s in status["containerStatuses"])
        seen = status.get("observedGeneration", 0) >= generation
        return same and running and seen and not kinds & {"PodResizePending", "PodResizeInProgress"}

    return await node.wait(name, done, f"{name} to be resized")


def group_values(node: TestNode, pod: Object, name: str) -> tuple[int, int, int]:
    """(CPU shares, CPU quota in µs, memory limit) of a container, as the kernel has them."""
    trees = Hierarchy.detect()
    assert not trees.unified, "this test reads version 1 of the control groups"
    own = container_status(pod, name)["containerID"].rpartition("/")[2]
    uid, qos = pod["metadata"]["uid"], pod["status"]["qosClass"]
    parent = {"Guaranteed": "", "Burstable": "/burstable", "BestEffort": "/besteffort"}[qos]
    group = f"{node.host.cgroup_root}/kubepods{parent}/pod{uid}/{own}"

    def read(controller: str, file: str) -> int:
        with open(f"{trees.mounts[controller]}{group}/{file}", encoding="ascii") as opened:
            return int(opened.read())

    return read("cpu", "cpu.shares"), read("cpu", "cpu.cfs_quota_us"), read("memory", "memory.limit_in_bytes")


async def test_guaranteed_pod_grows_and_shrinks_without_a_restart(node: TestNode) -> None:
    """In-place Pod Resize, guaranteed pods with multiple containers: net increase, net decrease, various operations."""
    start = ("20m", "20Mi")
    name = await node.create({"containers": [sized(n, start, start) for n in ("c1", "c2", "c3")]})
    before = await node.wait_ready(name)
    assert all(
        s["allocatedResources"] == {"cpu": "20m", "memory": "20Mi"} for s in before["status"]["containerStatuses"]
    )
    more, less = ("30m", "35Mi"), ("10m", "15Mi")
    asked = await resize(node, name, {"c1": amounts(more, more), "c2": amounts(more, more), "c3": amounts(less, less)})
    after = await resized(node, name, asked["metadata"]["generation"])
    ids = [{s["name"]: s["containerID"] for s in pod["status"]["containerStatuses"]} for pod in (before, after)]
    assert ids[0] == ids[1]
    assert container_status(after, "c1")["allocatedResources"] == {"cpu": "30m", "memory": "35Mi"}
    assert group_values(node, after, "c1") == (30, 3000, 35 << 20)
    assert group_values(node, after, "c3") == (10, 1000, 15 << 20)
    assert "Pod resize started: " in await node.wait_event(name, "ResizeStarted")
    completed = await node.wait_event(name, "ResizeCompleted")
    wanted = (
        '{"name":"c3","resources":{"limits":{"cpu":"10m","memory":"15Mi"},"requests":{"cpu":"10m","memory":"15Mi"}}}'
    )
    assert wanted in completed
    await node.delete(name)


async def test_burstable_pod_with_equivalents_and_additions(node: TestNode) -> None:
    """In-place Pod Resize, burstable pod resized with equivalents; burstable pods - extended, various operations."""
    containers = [
        sized("c1", ("2m", ""), ("", "")),
        sized("c2", ("", ""), ("", "")),
        sized("c3", ("10m", ""), ("", "")),
    ]
    name = await node.create({"containers": containers})
    await node.wait_ready(name)
    wanted = {"c1": amounts(("1m", ""), ("", "")), "c2": amounts(("10m", "20Mi"), ("20m", "30Mi"))}
    asked = await resize(node, name, wanted)
    after = await resized(node, name, asked["metadata"]["generation"])
    assert container_status(after, "c1")["resources"] == {"requests": {"cpu": "1m"}}
    assert group_values(node, after, "c1")[0] == 2
    assert group_values(node, after, "c2") == (10, 2000, 30 << 20)
    assert all(s["restartCount"] == 0 for s in after["status"]["containerStatuses"])
    await node.delete(name)


async def test_resize_policy_restarts_the_container(node: TestNode) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    size = ("10m", "20Mi")
    name = await node.create({"containers": [sized("c", size, size, resizePolicy=policy), sized("d", size, size)]})
    await node.wait_ready(name)
    asked = await resize(node, name, {"c": amounts(("10m", "30Mi"), ("10m", "30Mi"))})
    after = await resized(node, name, asked["metadata"]["generation"])
    assert (container_status(after)["restartCount"], container_status(after, "d")["restartCount"]) == (1, 0)
    assert group_values(node, after, "c")[2] == 30 << 20
    await node.wait_event(name, "Killing", "Container c resize requires restart")
    await node.delete(name)


async def test_impossible_resize_is_told_and_a_deferred_one_waits_for_room(node: TestNode) -> None:
    allocatable = (await node.ready())["status"]["allocatable"]
    cpus = int(allocatable["cpu"])
    name = await node.create({"containers": [sized("c", ("10m", ""), ("", ""))]})
    other = await node.create({"containers": [sized("c", (f"{cpus * 1000 - 100}m", ""), ("", ""))]})
    await node.wait_ready(name)
    await node.wait_ready(other)
    await resize(node, name, {"c": amounts((str(cpus + 1), ""), ("", ""))})

    def pending(reason: str) -> Any:
        def look(pod: Object) -> bool:
            found = meta.condition(pod["status"]["conditions"], "PodResizePending")
            return found is not None and found["reason"] == reason

        return look

    pod = await node.wait(name, pending("Infeasible"), "the resize to be infeasible")
    told = (meta.condition(pod["status"]["conditions"], "PodResizePending") or {})["message"]
    assert told == f"Node didn't have enough capacity: cpu, requested: {(cpus + 1) * 1000}, capacity: {cpus * 1000}"
    assert container_status(pod)["allocatedResources"] == {"cpu": "10m"}
    asked = await resize(node, name, {"c": amounts(("500m", ""), ("", ""))})
    await node.wait(name, pending("Deferred"), "the resize to be deferred")
    await node.wait_event(name, "ResizeDeferred")
    # What was promised is what counts after a restart of the kubelet too.
    await node.stop(9)
    await node.start()
    pod = await node.wait(name, pending("Deferred"), "the resize to be deferred still")
    assert container_status(pod)["allocatedResources"] == {"cpu": "10m"}
    await node.delete(other)
    after = await resized(node, name, asked["metadata"]["generation"])
    assert group_values(node, after, "c")[0] == 512

    async def told_done() -> bool:
        return any(reason == "ResizeCompleted" for reason, _ in await node.events(name))

    await eventually(told_done, "the end of the resize to be told")
    await node.delete(name)
