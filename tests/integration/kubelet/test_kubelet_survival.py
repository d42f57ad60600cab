"""What the kubelet survives: its own death, the runtime's, the API server's absence, a reboot, a full disk, a rush."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from kubelet_node import NODE, TestNode, box, container_status, eventually, running_node, shell

from agent.command import run
from agent.cri import api_pb2 as pb
from agent.cri.client import CriClient
from agent.kubelet import mounts
from agent.kubelet.cgroups.hierarchy import Hierarchy
from machinery.api import meta
from machinery.api.catalogue import CONFIGMAPS, EVENTS, NODES, PODS
from machinery.api.meta import Object

pytestmark = pytest.mark.asyncio(loop_scope="module")

# The test host's disk is in memory: a pod that takes a twentieth of it is what fills it.
_CONFIG = """
evictionHard: {nodefs.available: "97%", memory.available: 100Mi}
evictionPressureTransitionPeriod: 1s
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[TestNode]:
    async with running_node(_CONFIG) as made:
        yield made


async def _gone(node: TestNode, name: str, seconds: float = 40) -> None:
    async def look() -> bool:
        found = await node.client.list(PODS, node.namespace, field_selector=f"metadata.name={name}")
        return not found.items

    await eventually(look, f"{name} to be gone", seconds)


async def _nothing_left(node: TestNode, before: dict[str, list[str]], seconds: float = 20) -> None:
    """Wait until the host holds nothing more than `before`, when a pod of an earlier test may still have been going."""

    async def look() -> bool:
        return all(set(found) <= set(before.get(kind, ())) for kind, found in node.host.leftovers().items())

    try:
        await eventually(look, "nothing to be left", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}: {node.host.leftovers()}, before: {before}") from error


def _ids(pod: Object) -> dict[str, str]:
    sections = ("containerStatuses", "initContainerStatuses")
    return {s["name"]: s.get("containerID", "") for section in sections for s in pod["status"].get(section) or ()}


async def test_killed_kubelet_finds_its_containers_again(node: TestNode) -> None:
    before = node.host.leftovers()
    sidecar = {**box("sleep", "3600"), "name": "side", "restartPolicy": "Always"}
    readiness = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    stays = await node.create(
        {
            "initContainers": [sidecar],
            "containers": [box("sleep", "3600", readinessProbe=readiness)],
            "volumes": [{"name": "m", "emptyDir": {"medium": "Memory"}}],
        }
    )
    ends = await node.create({"restartPolicy": "Never", "containers": [box("sleep", "3600")]})
    goes = await node.create({"containers": [box("sleep", "3600")]})
    pods = {name: await node.wait_ready(name) for name in (stays, ends, goes)}
    changed_at = (meta.condition(pods[stays]["status"]["conditions"], "Ready") or {})["lastTransitionTime"]
    await node.stop(signal.SIGKILL)
    await node.client.delete(PODS, goes, node.namespace)
    async with CriClient(node.host.socket) as cri:
        await cri.stop_container(_ids(pods[ends])["c"].rpartition("/")[2], 0)
    await node.start()
    await node.wait_phase(ends, "Failed")
    await _gone(node, goes)
    pod = await node.wait_ready(stays)
    assert _ids(pod) == _ids(pods[stays])
    assert all(s["restartCount"] == 0 for s in pod["status"]["containerStatuses"])
    async with node.kubelet_client() as kubelet:
        metrics = [line.decode() async for line in kubelet.stream("/metrics")]
    assert f'kubelet_node_name{{node="{NODE}"}} 1.0' in metrics
    assert any(line.startswith("kubelet_running_pods ") and float(line.split()[1]) >= 1 for line in metrics)
    # It was ready all the time, and nobody was told otherwise.
    assert (meta.condition(pod["status"]["conditions"], "Ready") or {})["lastTransitionTime"] == changed_at
    for name in (stays, ends):
        await node.delete(name)
    await _nothing_left(node, before)


async def test_killed_kubelet_goes_on_filling_the_volumes_that_every_pod_has(node: TestNode) -> None:
    name = await node.create(
        {
            "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}}],
            "containers": [box("sleep", "3600", volumeMounts=[{"name": "v", "mountPath": "/v"}])],
        }
    )
    await node.wait_ready(name)
    await node.stop(signal.SIGKILL)
    await node.start()
    await node.ready()
    await node.client.patch(CONFIGMAPS, "kube-root-ca.crt", {"data": {"ca.crt": "another"}}, node.namespace)

    async def filled() -> bool:
        return await node.run_in(name, "cat", "/v/ca.crt") == "another"

    await eventually(filled, "the new contents")
    await node.delete(name)


async def test_restarted_runtime_keeps_pods_and_takes_new_ones(node: TestNode) -> None:
    before = node.host.leftovers()
    name = await node.create({"containers": [box("sleep", "3600")]})
    ids = _ids(await node.wait_ready(name))
    await node.host.stop_containerd(signal.SIGKILL)
    late = await node.create({"containers": [box("sleep", "3600")]})
    await node.host.start_containerd()
    await node.wait_ready(late, 40)
    assert _ids(await node.wait_ready(name)) == ids
    for each in (name, late):
        await node.delete(each)
    await _nothing_left(node, before)


@contextmanager
def _unreachable(node: TestNode) -> Iterator[None]:
    """The API server's port refuses everybody, those that are connected too."""
    port = str(urlsplit(node.api.url).port)
    rule = ("INPUT", "-p", "tcp", "--dport", port, "-j", "REJECT", "--reject-with", "tcp-reset")

    def iptables(how: str) -> None:
        assert os.spawnlp(os.P_WAIT, "iptables", "iptables", how, *rule) == 0

    iptables("-I")
    try:
        yield
    finally:
        iptables("-D")


def _static(text: str) -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: static}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: c, image: "busybox:1.35", imagePullPolicy: IfNotPresent, command: [sleep, "{text}"]}}]
"""


async def test_without_api_server_pods_go_on_and_static_ones_start(node: TestNode) -> None:
    before = node.host.leftovers()
    name = await node.create(
        {"restartPolicy": "Never", "containers": [shell("until [ -e /tmp/end ]; do sleep 0.1; done")]}
    )
    own = _ids(await node.wait_ready(name))["c"].rpartition("/")[2]
    manifest = node.directory / "manifests" / "static.yaml"

    async def running() -> bool:
        async with CriClient(node.host.socket) as cri:
            found = await cri.list_containers({"io.kubernetes.pod.name": f"static-{NODE}"})
        return any(c.state == pb.CONTAINER_RUNNING for c in found)

    with _unreachable(node):
        manifest.write_text(_static("3600"))
        await eventually(running, "the static pod to run without an API server")
        await node.host.ctr("tasks", "exec", "--exec-id", "end", own, "touch", "/tmp/end")
        async with CriClient(node.host.socket) as cri:

            async def ended() -> bool:
                return (await cri.container_status(own)).status.state == pb.CONTAINER_EXITED

            await eventually(ended, "the container to end")
    await node.wait_phase(name, "Succeeded", 40)

    async def mirrored() -> Object | None:
        found = await node.client.list(PODS, node.namespace, field_selector=f"metadata.name=static-{NODE}")
        return found.items[0] if found.items and found.items[0]["status"].get("phase") == "Running" else None

    mirror = await eventually(mirrored, "the mirror pod to show it", 40)
    assert mirror["metadata"]["annotations"]["kubernetes.io/config.source"] == "file"
    manifest.unlink()
    await _gone(node, f"static-{NODE}")
    await node.delete(name)
    await _nothing_left(node, before)


async def test_a_static_pod_that_comes_back_before_it_has_ended_runs_again(node: TestNode) -> None:
    """Its manifest is moved away and back, as administrators restart such pods."""
    before = node.host.leftovers()
    manifest = node.directory / "manifests" / "static.yaml"
    manifest.write_text(_static("3600").replace("PeriodSeconds: 1", "PeriodSeconds: 3"))

    async def container() -> str:
        async with CriClient(node.host.socket) as cri:
            found = await cri.list_containers({"io.kubernetes.pod.name": f"static-{NODE}"})
        return next((c.id for c in found if c.state == pb.CONTAINER_RUNNING), "")

    first = await eventually(container, "the static pod to run")
    manifest.rename(node.directory / "static.yaml")

    async def ending() -> bool:
        events = await node.client.list(EVENTS, node.namespace, field_selector="reason=Killing")
        return any(e["involvedObject"]["name"] == f"static-{NODE}" for e in events.items)

    await eventually(ending, "the kubelet to stop it")
    assert await container() == first  # which is deaf to SIGTERM, and has three seconds
    (node.directory / "static.yaml").rename(manifest)

    async def another() -> bool:
        return await container() not in ("", first)

    await eventually(another, "it to run again")
    manifest.unlink()
    await _gone(node, f"static-{NODE}")
    await _nothing_left(node, before)


def _shims(node: TestNode) -> list[int]:
    """The processes that stand between this node's runtime and its containers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if b"containerd-shim" in command and str(node.directory).encode() in command:
                found.append(int(process.name))
    return found


async def test_pods_come_back_after_a_reboot(node: TestNode) -> None:
    """As a reboot leaves them: no process, no mount, no control group; the runtime's records are on disk."""
    before = node.host.leftovers()
    name = await node.create(
        {"containers": [box("sleep", "3600")], "volumes": [{"name": "m", "emptyDir": {"medium": "Memory"}}]}
    )
    pod = await node.wait_ready(name)
    await node.stop(signal.SIGKILL)
    trees = Hierarchy.detect()
    async with asyncio.timeout(20):
        while trees.processes(f"{node.host.cgroup_root}/kubepods"):
            trees.kill(f"{node.host.cgroup_root}/kubepods")
            await asyncio.sleep(0.05)
    await node.host.stop_containerd(signal.SIGKILL)
    for shim in _shims(node):
        os.kill(shim, signal.SIGKILL)
    for directory in ("kubelet", "containerd-state"):
        for point in list(mounts.below(str(node.directory / directory))):
            mounts.unmount(point)
    shutil.rmtree(node.directory / "containerd-state")  # /run is empty after a reboot
    trees.remove(f"{node.host.cgroup_root}/kubepods")
    await node.host.start_containerd()
    await node.start()

    def again(now: Object) -> bool:
        status = container_status(now)
        return bool(status.get("ready")) and _ids(now) != _ids(pod)

    now = await node.wait(name, again, "the pod to run again", 60)
    assert container_status(now)["restartCount"] == 1
    assert container_status(now)["lastState"]["terminated"]["exitCode"] in (137, 255)
    await node.wait_event(name, "SandboxChanged")
    await node.delete(name)
    await _nothing_left(node, before)


async def test_pod_that_fills_the_disk_goes_and_others_stay(node: TestNode) -> None:
    before = node.host.leftovers()
    good = await node.create({"containers": [box("sleep", "3600")], "priorityClassName": "system-cluster-critical"})
    await node.wait_ready(good)
    disk = os.statvfs(node.directory)
    too_much = disk.f_blocks * disk.f_frsize // 20 // 2**20
    fill = f"dd if=/dev/zero of=/v/big bs=1M count={too_much} 2>/dev/null; sleep 3600"
    volumes = [{"name": "v", "emptyDir": {}}]
    greedy = await node.create(
        {"volumes": volumes, "containers": [shell(fill, volumeMounts=[{"name": "v", "mountPath": "/v"}])]}
    )
    pod = await node.wait_phase(greedy, "Failed", 60)
    assert pod["status"]["reason"] == "Evicted"
    assert pod["status"]["message"].startswith("The node was low on resource: ephemeral-storage. Threshold quantity: ")

    async def relieved() -> bool:
        conditions = (await node.client.get(NODES, NODE))["status"]["conditions"]
        return bool((meta.condition(conditions, "DiskPressure") or {})["status"] == "False")

    await eventually(relieved, "the disk to have room again", 40)
    assert container_status(await node.get(good))["ready"]
    for name in (greedy, good):
        await node.delete(name)
    await _nothing_left(node, before)


async def test_pods_deleted_while_they_start_leave_nothing(node: TestNode) -> None:
    before = node.host.leftovers()
    names = []
    for step in range(10):
        name = await node.create({"containers": [box("sleep", "3600")]})
        names.append(name)
        await asyncio.sleep(0.05 * step)  # each is caught at another step of its start
        await node.client.delete(PODS, name, node.namespace)
    for name in names:
        await _gone(node, name)
    await _nothing_left(node, before)


@pytest.mark.timeout(240)
async def test_a_hundred_pods_at_once_leave_nothing(node: TestNode) -> None:
    before = node.host.leftovers()
    names = [node.name("crowd") for _ in range(100)]
    await asyncio.gather(*(node.create({"containers": [box("sleep", "3600")]}, name=name) for name in names))

    async def all_ready() -> bool:
        found = await node.client.list(PODS, node.namespace)
        ready = [p for p in found.items if meta.name_of(p).startswith("crowd") and container_status(p).get("ready")]
        return len(ready) == 100

    await eventually(all_ready, "a hundred pods to be ready", 120)
    await asyncio.gather(*(node.client.delete(PODS, name, node.namespace) for name in names))

    async def all_gone() -> bool:
        return not [p for p in (await node.client.list(PODS, node.namespace)).items if meta.name_of(p) in names]

    await eventually(all_gone, "a hundred pods to be gone", 90)
    await _nothing_left(node, before, 40)
    assert (await run("ip", "-o", "link", "show", "type", "veth", check=True)).text == ""
