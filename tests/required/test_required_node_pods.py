"""What the conformance suite requires of pods' life, status and streams ([sig-node] Pods)."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import pytest
from cluster import SECONDS, Cluster, container, has_condition, is_ready, pod, requirement, shell, sleeper
from connections import websocket_messages
from lab_images import BUSYBOX, ECHO
from objects import delete_collection, labelled, replace
from watching import watching

from machinery.api.catalogue import PODS
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC
from machinery.errors import NotFound

pytest_plugins = ["cluster_fixture"]

_OTHER_IMAGE = BUSYBOX.replace(":1.35", ":latest")


def _staying(name: str = "staying", **spec: Any) -> Object:
    """A pod that runs until it is told to end, with two seconds for that."""
    fields = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 2} | spec
    return pod(name, sleeper(), labels={"time": name}, **fields)


@requirement("[sig-node] Pods should get a host IP [NodeConformance] [Conformance]")
async def test_host_ip(cluster: Cluster) -> None:
    status = (await cluster.start(_staying()))["status"]
    assert ipaddress.ip_address(status["hostIP"])
    assert status["hostIPs"] == [{"ip": status["hostIP"]}]


@requirement("[sig-node] Pods should be submitted and removed [NodeConformance] [Conformance]")
async def test_submitted_and_removed(cluster: Cluster) -> None:
    assert not await labelled(cluster, PODS, "time=staying")
    async with watching(cluster, PODS, label_selector="time=staying") as watched:
        await cluster.create(PODS, _staying())
        assert len(await labelled(cluster, PODS, "time=staying")) == 1
        event = await watched.next()
        assert (event.type, event.object["metadata"]["name"]) == ("ADDED", "staying")
        await cluster.pod_that("staying", is_ready, "ready")
        await cluster.client.delete(PODS, "staying", cluster.namespace, grace_seconds=30)
        last = await watched.one("DELETED")
    assert last["metadata"]["deletionTimestamp"]
    assert last["spec"]["terminationGracePeriodSeconds"] > 0
    assert not await labelled(cluster, PODS, "time=staying")


@requirement("[sig-node] Pods should be updated [NodeConformance] [Conformance]")
async def test_label_is_updated(cluster: Cluster) -> None:
    await cluster.start(_staying())
    assert len(await labelled(cluster, PODS, "time=staying")) == 1
    await replace(cluster, PODS, "staying", lambda found: found["metadata"]["labels"].update(time="later"))
    await cluster.pod_that("staying", is_ready, "ready still")
    assert len(await labelled(cluster, PODS, "time=later")) == 1


@requirement("[sig-node] Pods should allow activeDeadlineSeconds to be updated [NodeConformance] [Conformance]")
async def test_deadline_is_updated(cluster: Cluster) -> None:
    await cluster.start(_staying())
    await replace(cluster, PODS, "staying", lambda found: found["spec"].update(activeDeadlineSeconds=5))
    found = await cluster.pod_that("staying", lambda found: found["status"]["phase"] == "Failed", "failed")
    assert found["status"]["reason"] == "DeadlineExceeded"


@requirement("[sig-node] Pods should delete a collection of pods [Conformance]")
async def test_pods_are_deleted_together(cluster: Cluster) -> None:
    names = [f"test-pod-{number}" for number in range(3)]
    made = [pod(name, sleeper(), labels={"type": "Testing"}, terminationGracePeriodSeconds=1) for name in names]
    await asyncio.gather(*(cluster.start(each) for each in made))
    assert len(await labelled(cluster, PODS, "type=Testing")) == 3
    await delete_collection(cluster, PODS, "type=Testing", gracePeriodSeconds=1)
    for name in names:
        await cluster.gone(PODS, name)
    assert not await labelled(cluster, PODS, "type=Testing")


@requirement("[sig-node] Pods should patch a pod status [Conformance]")
async def test_status_is_patched(cluster: Cluster) -> None:
    await cluster.start(_staying())
    told = {"message": "Patched by e2e test", "reason": "E2E"}
    patched = await cluster.patch(PODS, "staying", {"status": told}, content_type=STRATEGIC, subresource="status")
    assert {key: patched["status"][key] for key in told} == told


@requirement("[sig-node] Pods should run through the lifecycle of Pods and PodStatus [Conformance]")
async def test_lifecycle_and_status(cluster: Cluster) -> None:
    selector = f"static={cluster.namespace}"
    made = pod("pod-test", sleeper(), labels={"static": cluster.namespace}, restartPolicy="Always")
    async with watching(cluster, PODS, everywhere=True, label_selector=selector) as watched:
        await cluster.create(PODS, made)
        await watched.one("MODIFIED", is_ready)
        containers = [{"name": "c", "image": _OTHER_IMAGE}]
        change = {
            "metadata": {"labels": {"test-pod": "patched"}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": containers},
        }
        await cluster.patch(PODS, "pod-test", change, content_type=STRATEGIC)
        await watched.one("MODIFIED", lambda seen: seen["metadata"]["labels"].get("test-pod") == "patched")
        found = await cluster.get(PODS, "pod-test")
        assert found["metadata"]["labels"]["test-pod"] == "patched"
        assert found["spec"]["containers"][0]["image"] == _OTHER_IMAGE

        def restarted(found: Object) -> bool:
            statuses = found["status"]["containerStatuses"]
            return is_ready(found) and statuses[0]["restartCount"] == 1

        await watched.one("MODIFIED", restarted)

        def unready(found: Object) -> None:
            changed = [each for each in found["status"]["conditions"] if each["type"] in ("Ready", "ContainersReady")]
            assert [each["status"] for each in changed] == ["True", "True"]
            for each in changed:
                each["status"] = "False"

        found = await replace(cluster, PODS, "pod-test", unready, subresource="status")
        assert has_condition(found, "Ready", "False")
        assert has_condition(found, "ContainersReady", "False")
        await delete_collection(cluster, PODS, selector, gracePeriodSeconds=1)
        await watched.one("DELETED")
    with pytest.raises(NotFound):
        await cluster.get(PODS, "pod-test")


_ALIVE = pod("alive", shell("echo container is alive; sleep 600"))


@requirement("[sig-node] Pods should support remote command execution over websockets [NodeConformance] [Conformance]")
async def test_exec_over_a_websocket(cluster: Cluster) -> None:
    await cluster.start(_ALIVE)
    path = PODS.path(cluster.namespace, "alive", "exec")
    command = [("command", "echo"), ("command", "remote execution test")]
    query = [("stderr", "1"), ("stdout", "1"), ("container", "c"), *command]
    messages = await websocket_messages(cluster, path, query, "channel.k8s.io")
    # The first byte is the channel; only on that of the output may there be more than nothing.
    assert all(message[:1] == b"\x01" for message in messages if len(message) > 1)
    assert b"".join(message[1:] for message in messages) == b"remote execution test\n"


@requirement(
    "[sig-node] Pods should support retrieving logs from the container over websockets [NodeConformance] [Conformance]"
)
async def test_log_over_a_websocket(cluster: Cluster) -> None:
    await cluster.start(_ALIVE)
    path = PODS.path(cluster.namespace, "alive", "log")
    messages = await websocket_messages(cluster, path, [("container", "c")], "binary.k8s.io")
    assert b"".join(message for message in messages if message.strip()) == b"container is alive\n"


@requirement(
    "[sig-node] Pods Extended Pods Set QOS Class should be set on Pods with matching resource requests and limits for memory and cpu [Conformance]"
)
async def test_class_of_quality(cluster: Cluster) -> None:
    sizes = {"cpu": "100m", "memory": "100Mi"}
    await cluster.create(PODS, pod("guaranteed", sleeper(resources={"limits": sizes, "requests": sizes})))
    assert (await cluster.get(PODS, "guaranteed"))["status"]["qosClass"] == "Guaranteed"


async def _observed(cluster: Cluster, name: str, generation: int, seconds: float = 20) -> Object:
    def reached(found: Object) -> bool:
        return bool(found["status"].get("observedGeneration") == generation)

    return await cluster.pod_that(name, reached, f"at generation {generation}", seconds=seconds)


@requirement(
    "[sig-node] Pods Extended (pod generation) Pod Generation pod generation should start at 1 and increment per update [MinimumKubeletVersion:1.34] [Conformance]"
)
async def test_generation_counts_updates(cluster: Cluster) -> None:
    made = await cluster.start(_staying(initContainers=[container("true", name="init")]))
    assert made["metadata"]["generation"] == 1
    toleration = {"key": "foo", "operator": "Equal", "value": "bar", "effect": "NoSchedule"}
    changes: list[tuple[Any, int]] = [
        (lambda found: None, 0),
        (lambda found: found["spec"]["tolerations"].append(toleration), 1),
        (lambda found: found["spec"].update(activeDeadlineSeconds=5000), 1),
        (lambda found: found["spec"]["containers"][0].update(image=_OTHER_IMAGE), 1),
        (lambda found: found["spec"]["initContainers"][0].update(image=ECHO), 1),
        (lambda found: found["metadata"].update(annotations={"key": "value"}), 0),
        (lambda found: found["metadata"].update(generation=1), 0),
    ]
    generation = 1
    for change, more in changes:
        generation += more
        assert (await replace(cluster, PODS, "staying", change))["metadata"]["generation"] == generation
        assert (await _observed(cluster, "staying", generation))["metadata"]["generation"] == generation


@requirement(
    "[sig-node] Pods Extended (pod generation) Pod Generation custom-set generation on new pods and graceful delete [Conformance]"
)
async def test_generation_counts_the_deletion(cluster: Cluster) -> None:
    made = _staying()
    made["metadata"]["generation"] = 100
    assert (await cluster.start(made))["metadata"]["generation"] == 1
    path = PODS.path(cluster.namespace, "staying")
    last = await cluster.client.request("DELETE", path, query={"gracePeriodSeconds": "60"})
    assert (last["metadata"]["generation"], last["metadata"]["deletionGracePeriodSeconds"]) == (2, 60)
    assert (await cluster.get(PODS, "staying"))["metadata"]["generation"] == 2


@requirement(
    "[sig-node] Pods Extended (pod generation) Pod Generation issue 500 podspec updates and verify generation and observedGeneration eventually converge [MinimumKubeletVersion:1.34] [Conformance]"
)
@pytest.mark.timeout(300)
async def test_five_hundred_generations(cluster: Cluster) -> None:
    await cluster.start(_staying(activeDeadlineSeconds=5000))

    def sooner(found: Object) -> None:
        found["spec"]["activeDeadlineSeconds"] -= 1

    for _ in range(499):
        await replace(cluster, PODS, "staying", sooner)
    assert (await _observed(cluster, "staying", 500, SECONDS))["metadata"]["generation"] == 500
