"""StatefulSets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from cluster import Cluster, is_ready, pod, requirement, sleeper
from lab_images import ECHO
from objects import replace
from watching import Watching, watching
from workloads import break_page, has_ready, mend_page, pods_of, pods_that, web, workload

from machinery.api.catalogue import PODS, SERVICES, STATEFULSETS
from machinery.api.meta import Object, name_of

pytest_plugins = ["cluster_fixture"]

NAME = "ss"
LABELS = {"app": NAME, "baz": "blah"}
HASH = "controller-revision-hash"


async def _create(cluster: Cluster, *containers: Object, replicas: int, **spec: Any) -> Object:
    """A StatefulSet and its headless service."""
    port = {"port": 80, "name": "http", "protocol": "TCP"}
    await cluster.create(
        SERVICES, {"metadata": {"name": "test"}, "spec": {"clusterIP": "None", "selector": LABELS, "ports": [port]}}
    )
    made = workload(NAME, LABELS, *(containers or (web(),)), replicas=replicas, serviceName="test", **spec)
    return await cluster.create(STATEFULSETS, made)


async def _scale(cluster: Cluster, replicas: int) -> None:
    await replace(cluster, STATEFULSETS, NAME, lambda o: o["spec"].update(replicas=replicas))


async def _has_status(cluster: Cluster, **wanted: Any) -> Object:
    """The StatefulSet when its status says so of the current generation."""

    def holds(found: Object) -> bool:
        status = found.get("status", {})
        seen = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
        return seen and all(status.get(key, 0) == value for key, value in wanted.items())

    return await cluster.object_that(STATEFULSETS, NAME, holds, f"{wanted}", seconds=90)


async def _names(cluster: Cluster) -> list[str]:
    return [name_of(each) for each in await pods_of(cluster, LABELS)]


async def _unready(cluster: Cluster, name: str) -> None:
    await cluster.pod_that(name, lambda o: not is_ready(o), "unready")


async def _in_order(watched: Watching, kind: str, names: Sequence[str]) -> None:
    """The watch tells of these pods, and no others, one after the other."""
    for name in names:
        event = await watched.until(lambda e: e.type == kind, f"{name} {kind}")
        assert name_of(event.object) == name, (kind, names)


async def _updates_nothing_yet(cluster: Cluster, name: str, replicas: int) -> None:
    """The controller has seen that it is to scale, and waits for the unready pod."""
    await _has_status(cluster, readyReplicas=replicas - 1)
    await _unready(cluster, name)


@requirement(
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Scaling should happen in predictable order and halt if any stateful pod is unhealthy [Slow] [Conformance]"
)
@pytest.mark.timeout(240)
async def test_ordered(cluster: Cluster) -> None:
    async with watching(cluster, PODS, "app=ss") as added, watching(cluster, PODS, "app=ss") as deleted:
        await _create(cluster, replicas=1)
        await has_ready(cluster, STATEFULSETS, NAME, 1)
        await break_page(cluster, "ss-0")
        await _updates_nothing_yet(cluster, "ss-0", 1)
        await _scale(cluster, 3)
        await _stays(cluster, ["ss-0"])
        await mend_page(cluster, "ss-0")
        await has_ready(cluster, STATEFULSETS, NAME, 3)
        await _in_order(added, "ADDED", ["ss-0", "ss-1", "ss-2"])

        every = ["ss-0", "ss-1", "ss-2"]
        for each in every:
            await break_page(cluster, each)
        await _has_status(cluster, replicas=3, readyReplicas=0)
        await _scale(cluster, 0)
        await _stays(cluster, every)
        for each in reversed(every):  # the controller deletes the last as soon as it is ready
            await mend_page(cluster, each)
        await _has_status(cluster, replicas=0)
        await _in_order(deleted, "DELETED", ["ss-2", "ss-1", "ss-0"])


async def _stays(cluster: Cluster, names: list[str]) -> None:
    """The controller saw the new number of replicas, and has other things not done for a while."""
    await _has_status(cluster, replicas=len(names))
    for _ in range(30):
        assert await _names(cluster) == names
        await asyncio.sleep(0.1)


@requirement(
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Burst scaling should run to completion even with unhealthy pods [Slow] [Conformance]"
)
@pytest.mark.timeout(240)
async def test_burst(cluster: Cluster) -> None:
    await _create(cluster, replicas=1, podManagementPolicy="Parallel")
    await has_ready(cluster, STATEFULSETS, NAME, 1)
    await break_page(cluster, "ss-0")
    await _updates_nothing_yet(cluster, "ss-0", 1)
    await _scale(cluster, 3)
    await _has_status(cluster, replicas=3, readyReplicas=2)
    await mend_page(cluster, "ss-0")
    await has_ready(cluster, STATEFULSETS, NAME, 3)

    for each in ("ss-0", "ss-1", "ss-2"):
        await break_page(cluster, each)
    await _has_status(cluster, replicas=3, readyReplicas=0)
    await _scale(cluster, 0)
    await _has_status(cluster, replicas=0)
    await pods_that(cluster, LABELS, lambda pods: not pods, "no pods")


@requirement(
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Should recreate evicted statefulset [Conformance]"
)
async def test_evicted(cluster: Cluster) -> None:
    port = {"containerPort": 21017, "hostPort": 21017}
    first = await cluster.start(pod("test-pod", sleeper(ports=[port])))
    node = first["spec"]["nodeName"]
    made = workload(NAME, LABELS, sleeper(ports=[port]), replicas=1, serviceName="test")
    made["spec"]["template"]["spec"]["nodeName"] = node
    async with watching(cluster, PODS, "app=ss") as watched:
        await cluster.create(STATEFULSETS, made)
        failed = await watched.modified(
            lambda o: o["status"]["phase"] == "Failed", "a pod that the node has no port for"
        )
        event = await watched.deleted("ss-0")
        assert event.object["metadata"]["uid"]
        await cluster.delete(PODS, "test-pod")

        def other(found: Object) -> bool:
            return bool(found["metadata"]["uid"] != failed["metadata"]["uid"] and found["status"]["phase"] == "Running")

        await watched.modified(lambda o: name_of(o) == "ss-0" and other(o), "another ss-0 running")


async def _revisions(cluster: Cluster) -> tuple[str, str]:
    status = (await cluster.get(STATEFULSETS, NAME))["status"]
    return status["currentRevision"], status["updateRevision"]


async def _change_image(cluster: Cluster, image: str) -> Object:
    """Another image for the pods to come; the StatefulSet when it is of another revision."""

    def change(found: Object) -> None:
        found["spec"]["template"]["spec"]["containers"][0].update(image=image)

    before = await cluster.get(STATEFULSETS, NAME)
    changed = await replace(cluster, STATEFULSETS, NAME, change)

    def holds(found: Object) -> bool:
        status = found["status"]
        seen = status["observedGeneration"] >= changed["metadata"]["generation"]
        return bool(seen and status["updateRevision"] != before["status"]["updateRevision"])

    return await cluster.object_that(STATEFULSETS, NAME, holds, "of a new revision")


def _are(*expected: tuple[str, str]) -> Any:
    """Whether all pods are ready and of these images and revisions."""

    def holds(pods: list[Object]) -> bool:
        found = [(each["spec"]["containers"][0]["image"], each["metadata"]["labels"][HASH]) for each in pods]
        return found == list(expected) and all(is_ready(each) for each in pods)

    return holds


@requirement(
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform rolling updates and roll backs of template modifications [Conformance]"
)
@pytest.mark.timeout(240)
async def test_rolling_update(cluster: Cluster) -> None:
    await _create(cluster, replicas=3)
    await has_ready(cluster, STATEFULSETS, NAME, 3)
    first, update = await _revisions(cluster)
    assert first == update, "just one revision"
    [image] = {each["spec"]["containers"][0]["image"] for each in await pods_of(cluster, LABELS)}
    await pods_that(cluster, LABELS, _are(*[(image, first)] * 3), "of the first revision")
    await break_page(cluster, "ss-1")
    await _unready(cluster, "ss-1")

    async with watching(cluster, PODS, "app=ss") as watched:
        changed = await _change_image(cluster, ECHO)
        second = changed["status"]["updateRevision"]
        assert changed["status"]["currentRevision"] == first != second
        await mend_page(cluster, "ss-1")
        await _in_order(watched, "DELETED", ["ss-2", "ss-1", "ss-0"])
    await pods_that(cluster, LABELS, _are(*[(ECHO, second)] * 3), "of the second revision", seconds=90)
    await _has_status(cluster, currentRevision=second, updateRevision=second, updatedReplicas=3)

    await break_page(cluster, "ss-1")
    await _unready(cluster, "ss-1")
    changed = await _change_image(cluster, image)
    assert changed["status"]["updateRevision"] == first, "the revision that was there before"
    await mend_page(cluster, "ss-1")
    await pods_that(cluster, LABELS, _are(*[(image, first)] * 3), "of the first revision again", seconds=90)
    await _has_status(cluster, currentRevision=first, updateRevision=first, updatedReplicas=3)


async def _delete(cluster: Cluster, name: str) -> None:
    """Delete a pod and wait until there is another in its stead."""
    gone = (await cluster.get(PODS, name))["metadata"]["uid"]
    await cluster.client.delete(PODS, name, cluster.namespace)
    await pods_that(
        cluster,
        LABELS,
        lambda pods: len(pods) == 3 and gone not in [each["metadata"]["uid"] for each in pods],
        f"{name} restored",
    )


@requirement(
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform canary updates and phased rolling updates of template modifications [Conformance]"
)
@pytest.mark.timeout(240)
async def test_phased_update(cluster: Cluster) -> None:
    def partition(ordinal: int) -> Object:
        return {"type": "RollingUpdate", "rollingUpdate": {"partition": ordinal}}

    def set_to(ordinal: int) -> Any:
        return lambda found: found["spec"].update(updateStrategy=partition(ordinal))

    await _create(cluster, replicas=3, updateStrategy=partition(3))
    await has_ready(cluster, STATEFULSETS, NAME, 3)
    first, update = await _revisions(cluster)
    assert first == update, "just one revision"
    before = await pods_of(cluster, LABELS)
    image = before[0]["spec"]["containers"][0]["image"]
    old = (image, first)

    second = (await _change_image(cluster, ECHO))["status"]["updateRevision"]
    new = (ECHO, second)
    await pods_that(cluster, LABELS, _are(old, old, old), "not updated: the partition is above all")
    assert [each["metadata"]["uid"] for each in await pods_of(cluster, LABELS)] == [
        each["metadata"]["uid"] for each in before
    ]

    await replace(cluster, STATEFULSETS, NAME, set_to(2))
    await pods_that(cluster, LABELS, _are(old, old, new), "the canary updated", seconds=90)
    assert await _revisions(cluster) == (first, second)

    for name in ("ss-0", "ss-2"):
        await _delete(cluster, name)
    await pods_that(cluster, LABELS, _are(old, old, new), "as they were, restored", seconds=90)

    for ordinal, wanted in ((1, (old, new, new)), (0, (new, new, new))):
        await replace(cluster, STATEFULSETS, NAME, set_to(ordinal))
        await pods_that(cluster, LABELS, _are(*wanted), f"updated down to {ordinal}", seconds=90)
    await _has_status(cluster, currentRevision=second, updateRevision=second)
