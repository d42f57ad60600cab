"""Pods from their creation to their end, on a real containerd, reported to a real API server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio
from kubelet_node import NODE, NODE_IP, TestNode, box, container_status, eventually, is_ready, running_node, shell

from agent.cri.client import CriClient
from agent.kubelet import mounts
from agent.kubelet.cgroups.hierarchy import Hierarchy
from machinery.api import meta
from machinery.api.catalogue import CONFIGMAPS, NODES, PODS
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[TestNode]:
    async with running_node() as made:
        yield made


async def test_node_is_registered_with_what_it_is_and_has(node: TestNode) -> None:
    found = await node.ready()
    assert meta.labels_of(found)["kubernetes.io/hostname"] == NODE
    assert meta.labels_of(found)["disk"] == "ssd"
    status = found["status"]
    assert {a["type"]: a["address"] for a in status["addresses"]} == {"InternalIP": NODE_IP, "Hostname": NODE}
    assert status["capacity"]["cpu"] == str(os.cpu_count())
    assert status["capacity"]["pods"] == "110"
    assert status["daemonEndpoints"]["kubeletEndpoint"]["Port"] == node.port
    assert status["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "MemoryPressure": "False",
        "DiskPressure": "False",
        "PIDPressure": "False",
        "Ready": "True",
    }
    assert status["declaredFeatures"] == ["GuaranteedQoSPodCPUResize", "RestartAllContainersOnContainerExits"]


async def test_what_another_writes_over_a_pods_readiness_is_put_right(node: TestNode) -> None:
    """The node lifecycle controller does, when a node was not ready for a moment."""
    name = await node.create({"containers": [box("sleep", "3600")]})
    pod = await node.wait_ready(name)
    patch = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    key = (name, node.namespace)
    wrong = await node.client.patch(PODS, name, patch, node.namespace, content_type=STRATEGIC, subresource="status")
    assert not is_ready(wrong)

    async def restored() -> bool:
        return is_ready(await node.client.get(PODS, *key))

    await eventually(restored, "the pod is told as ready again")
    assert meta.uid_of(await node.client.get(PODS, *key)) == meta.uid_of(pod)
    await node.client.delete(PODS, *key, grace_seconds=0)


async def test_pod_runs_is_reported_and_leaves_nothing_behind(node: TestNode) -> None:
    name = await node.create({"containers": [box("sleep", "3600")]}, metadata={"labels": {"app": "x"}})
    pod = await node.wait_ready(name)
    uid, status = pod["metadata"]["uid"], pod["status"]
    assert status["phase"] == "Running"
    assert (status["hostIP"], status["hostIPs"]) == (NODE_IP, [{"ip": NODE_IP}])
    assert status["podIP"].startswith("10.77.")
    assert status["podIPs"] == [{"ip": status["podIP"]}]
    assert status["qosClass"] == "BestEffort"
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    wanted = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    assert conditions == dict.fromkeys(wanted, "True")
    container = container_status(pod)
    assert container["containerID"].startswith("containerd://")
    assert container["started"] is True
    assert container["restartCount"] == 0
    assert "startedAt" in container["state"]["running"]
    for reason, text in (
        ("Pulled", 'Container image "busybox:1.35" already present on machine and can be accessed by the pod'),
        ("Created", "Container created"),
        ("Started", "Container started"),
    ):
        assert await node.wait_event(name, reason) == text
    assert await node.run_in(name, "hostname") == f"{name}\n"
    trees = Hierarchy.detect()
    group = f"{node.host.cgroup_root}/kubepods/besteffort/pod{uid}"
    assert trees.processes(group)
    await node.delete(name)
    assert await node.wait_event(name, "Killing") == "Stopping container c"

    async def nothing_left() -> bool:
        async with CriClient(node.host.socket) as cri:
            left = await cri.list_pod_sandboxes({"io.kubernetes.pod.uid": uid})
        return not left and uid not in node.pod_dirs() and not os.path.exists(trees.paths(group)[0])

    await eventually(nothing_left, "nothing to be left of the pod")
    assert not [point for point in mounts.below(str(node.directory)) if uid in point]


async def test_restart_policy_decides_phase_and_restarts(node: TestNode) -> None:
    good = await node.create({"restartPolicy": "Never", "containers": [shell("echo done")]})
    bad = await node.create(
        {"restartPolicy": "Never", "containers": [shell("echo bad > /dev/termination-log; exit 3")]}
    )
    again = await node.create(
        {
            "restartPolicy": "OnFailure",
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [
                shell("test -e /v/x && exit 0; touch /v/x; exit 1", volumeMounts=[{"name": "v", "mountPath": "/v"}])
            ],
        }
    )
    pod = await node.wait_phase(good, "Succeeded")
    assert container_status(pod)["state"]["terminated"]["reason"] == "Completed"
    assert meta.condition(pod["status"]["conditions"], "Ready") == {
        **(meta.condition(pod["status"]["conditions"], "Ready") or {}),
        "status": "False",
        "reason": "PodCompleted",
    }
    assert await node.logs(good) == "done\n"
    ended = container_status(await node.wait_phase(bad, "Failed"))["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", "bad\n")
    pod = await node.wait_phase(again, "Succeeded")
    assert container_status(pod)["restartCount"] == 1
    assert container_status(pod)["lastState"]["terminated"]["exitCode"] == 1
    for name in (good, bad, again):
        await node.delete(name)


async def test_crashing_container_backs_off(node: TestNode) -> None:
    name = await node.create({"containers": [shell("exit 7")]})

    def backing_off(pod: dict[str, object]) -> bool:
        return (container_status(pod).get("state", {}).get("waiting") or {}).get("reason") == "CrashLoopBackOff"

    pod = await node.wait(name, backing_off, "CrashLoopBackOff")
    status = container_status(pod)
    where = f"{name}_default({pod['metadata']['uid']})"
    assert status["state"]["waiting"]["message"] == f"back-off 10s restarting failed container=c pod={where}"
    assert status["lastState"]["terminated"]["exitCode"] == 7
    assert status["restartCount"] == 1
    assert pod["status"]["phase"] == "Running"
    assert await node.wait_event(name, "BackOff") == f"Back-off restarting failed container c in pod {where}"
    await node.delete(name)


async def test_init_containers_then_sidecar_then_app(node: TestNode) -> None:
    mount = [{"name": "v", "mountPath": "/v"}]
    sidecar = shell(
        "echo side >> /v/log; trap 'echo side-end >> /v/log; exit 0' TERM; while true; do sleep 0.1; done",
        volumeMounts=mount,
    )
    name = await node.create(
        {
            "terminationGracePeriodSeconds": 10,
            "volumes": [
                {"name": "v", "hostPath": {"path": str(node.directory / "order"), "type": "DirectoryOrCreate"}}
            ],
            "initContainers": [
                {**shell("sleep 0.3; echo one >> /v/log", volumeMounts=mount), "name": "one"},
                {**sidecar, "name": "side", "restartPolicy": "Always"},
                {**shell("sleep 0.3; echo two >> /v/log", volumeMounts=mount), "name": "two"},
            ],
            "containers": [
                shell(
                    "echo app >> /v/log; trap 'sleep 0.3; echo app-end >> /v/log; exit 0' TERM; "
                    "while true; do sleep 0.1; done",
                    volumeMounts=mount,
                )
            ],
        }
    )
    pod = await node.wait_ready(name)
    inits = pod["status"]["initContainerStatuses"]
    assert [(s["name"], s["ready"], s["started"]) for s in inits] == [
        ("one", True, False),
        ("side", True, True),
        ("two", True, False),
    ]
    await node.delete(name)
    lines = (node.directory / "order" / "log").read_text().split()
    assert lines == ["one", "side", "two", "app", "app-end", "side-end"]


async def test_failed_init_container_fails_a_pod_that_is_not_restarted(node: TestNode) -> None:
    name = await node.create(
        {
            "restartPolicy": "Never",
            "initContainers": [{**shell("exit 4"), "name": "init"}],
            "containers": [box("sleep", "3600")],
        }
    )
    pod = await node.wait_phase(name, "Failed")
    assert container_status(pod, "init", "initContainerStatuses")["state"]["terminated"]["exitCode"] == 4
    condition = meta.condition(pod["status"]["conditions"], "Initialized") or {}
    assert (condition["status"], condition["reason"]) == ("False", "ContainersNotInitialized")
    assert condition["message"] == "containers with incomplete status: [init]"
    await node.delete(name)


async def test_bad_images_are_told_and_harm_nobody(node: TestNode) -> None:
    never = await node.create({"containers": [box("true", image="busybox:none", imagePullPolicy="Never")]})
    pull = await node.create({"containers": [box("true", image="127.0.0.1:1/none:1")]})
    invalid = await node.create({"containers": [box("true", image="Bad_Image!")]})
    for name, reason in ((never, "ErrImageNeverPull"), (pull, "ImagePullBackOff"), (invalid, "InvalidImageName")):
        pod = await node.wait(
            name,
            partial(_waits_for, reason),
            reason,
        )
        assert pod["status"]["phase"] == "Pending"
    assert await node.wait_event(never, "ErrImageNeverPull") == (
        'Container image "busybox:none" is not present with pull policy of Never'
    )
    assert (await node.wait_event(pull, "Failed", "Failed to pull")).startswith(
        'Failed to pull image "127.0.0.1:1/none:1": rpc error: code = Unknown desc = '
    )
    assert await node.wait_event(pull, "BackOff") == 'Back-off pulling image "127.0.0.1:1/none:1"'
    for name in (never, pull, invalid):
        await node.delete(name)


def _waits_for(reason: str, pod: Object) -> bool:
    return bool((container_status(pod).get("state", {}).get("waiting") or {}).get("reason") == reason)


async def test_missing_reference_is_told_and_pod_starts_when_it_appears(node: TestNode) -> None:
    source = {"configMapKeyRef": {"name": "later", "key": "word"}}
    name = await node.create(
        {"containers": [shell("echo $WORD; sleep 3600", env=[{"name": "WORD", "valueFrom": source}])]}
    )
    pod = await node.wait(
        name, lambda p: (container_status(p).get("state", {}).get("waiting") or {}).get("message"), "a message"
    )
    assert container_status(pod)["state"]["waiting"] == {
        "reason": "CreateContainerConfigError",
        "message": 'configmap "later" not found',
    }
    await node.client.create(
        CONFIGMAPS,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"}, "data": {"word": "hello"}},
        "default",
    )
    await node.wait_ready(name)
    assert await node.logs(name) == "hello\n"
    await node.delete(name)


async def test_liveness_failure_restarts_and_readiness_follows(node: TestNode) -> None:
    name = await node.create(
        {
            "containers": [
                shell(
                    "touch /tmp/ready /tmp/alive; trap exit TERM; while true; do sleep 0.1; done",
                    readinessProbe={"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1},
                    livenessProbe={
                        "exec": {"command": ["test", "-e", "/tmp/alive"]},
                        "periodSeconds": 1,
                        "failureThreshold": 1,
                    },
                )
            ]
        }
    )
    pod = await node.wait_ready(name)
    await node.run_in(name, "rm", "/tmp/ready")
    # Three failures in a row: the default threshold.
    pod = await node.wait(name, lambda p: not is_ready(p), "not ready any more")
    condition = meta.condition(pod["status"]["conditions"], "Ready") or {}
    assert condition["message"] == "containers with unready status: [c]"
    assert (await node.wait_event(name, "Unhealthy", "Readiness")).startswith("Readiness probe failed:")
    await node.run_in(name, "rm", "/tmp/alive")
    pod = await node.wait(
        name, lambda p: container_status(p)["restartCount"] == 1 and is_ready(p), "restarted and ready"
    )
    assert await node.wait_event(name, "Killing") == "Container c failed liveness probe, will be restarted"
    await node.delete(name)


async def test_http_and_tcp_probes_and_startup_gate(node: TestNode) -> None:
    name = await node.create(
        {
            "containers": [
                shell(
                    "sleep 2; mkdir -p /tmp/w; echo hi > /tmp/w/index.html; httpd -f -p 8080 -h /tmp/w",
                    ports=[{"name": "web", "containerPort": 8080}],
                    startupProbe={"tcpSocket": {"port": "web"}, "periodSeconds": 1, "failureThreshold": 30},
                    readinessProbe={"httpGet": {"path": "/index.html", "port": "web"}, "periodSeconds": 1},
                    livenessProbe={"httpGet": {"path": "/index.html", "port": 8080}, "periodSeconds": 1},
                )
            ]
        }
    )
    pod = await node.wait_ready(name)
    assert container_status(pod)["restartCount"] == 0
    assert "connect: connection refused" in await node.wait_event(name, "Unhealthy", "Startup probe failed")
    await node.delete(name)


async def test_readiness_gate_holds_the_pod_back(node: TestNode) -> None:
    name = await node.create(
        {"readinessGates": [{"conditionType": "example.com/gate"}], "containers": [box("sleep", "3600")]}
    )
    pod = await node.wait(
        name,
        lambda p: (meta.condition(p["status"].get("conditions"), "ContainersReady") or {}).get("status") == "True",
        "containers ready",
    )
    condition = meta.condition(pod["status"]["conditions"], "Ready") or {}
    assert condition["reason"] == "ReadinessGatesNotReady"
    patch = {"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}}
    await node.client.patch(PODS, name, patch, "default", content_type=STRATEGIC, subresource="status")
    await node.wait_ready(name)
    await node.delete(name)


async def test_hooks_run_after_start_and_before_stop(node: TestNode) -> None:
    mount = [{"name": "v", "mountPath": "/v"}]
    hook = {
        "postStart": {"exec": {"command": ["sh", "-c", "echo started >> /v/log"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "echo stopping >> /v/log"]}},
    }
    name = await node.create(
        {
            "volumes": [
                {"name": "v", "hostPath": {"path": str(node.directory / "hooks"), "type": "DirectoryOrCreate"}}
            ],
            "containers": [box("sleep", "3600", volumeMounts=mount, lifecycle=hook)],
        }
    )
    await node.wait_ready(name)
    await node.delete(name)
    assert (node.directory / "hooks" / "log").read_text().split() == ["started", "stopping"]


async def test_deadline_ends_a_pod(node: TestNode) -> None:
    name = await node.create({"activeDeadlineSeconds": 2, "containers": [box("sleep", "3600")]})
    pod = await node.wait_phase(name, "Failed")
    assert pod["status"]["reason"] == "DeadlineExceeded"
    assert pod["status"]["message"] == "Pod was active on the node longer than the specified deadline"
    await node.delete(name)


async def test_pod_that_does_not_fit_is_rejected(node: TestNode) -> None:
    name = await node.create({"containers": [box("true", resources={"requests": {"cpu": "1000"}})]})
    pod = await node.wait_phase(name, "Failed")
    assert pod["status"]["reason"] == "OutOfcpu"
    capacity = (os.cpu_count() or 1) * 1000
    assert pod["status"]["message"] == (
        f"Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: 0, capacity: {capacity}"
    )
    await node.delete(name)
    wrong = await node.create({"nodeSelector": {"disk": "tape"}, "containers": [box("true")]})
    pod = await node.wait_phase(wrong, "Failed")
    assert pod["status"]["reason"] == "NodeAffinity"
    await node.delete(wrong)


async def test_killed_container_is_restarted(node: TestNode) -> None:
    name = await node.create({"containers": [box("sleep", "3600")]})
    pod = await node.wait_ready(name)
    own = container_status(pod)["containerID"].rpartition("/")[2]
    await node.host.ctr("tasks", "kill", "--signal", "SIGKILL", own)
    pod = await node.wait(name, lambda p: container_status(p)["restartCount"] == 1 and is_ready(p), "a restart")
    assert container_status(pod)["lastState"]["terminated"]["exitCode"] == 137
    await node.delete(name)


async def test_lost_sandbox_is_made_again(node: TestNode) -> None:
    name = await node.create({"containers": [box("sleep", "3600")]})
    pod = await node.wait_ready(name)
    before = pod["status"]["podIP"]
    async with CriClient(node.host.socket) as cri:
        (sandbox,) = await cri.list_pod_sandboxes({"io.kubernetes.pod.uid": pod["metadata"]["uid"]})
        await cri.stop_pod_sandbox(sandbox.id)
    pod = await node.wait(name, lambda p: container_status(p)["restartCount"] == 1 and is_ready(p), "a new sandbox")
    assert pod["status"]["podIP"] != before
    assert await node.wait_event(name, "SandboxChanged") == "Pod sandbox changed, it will be killed and re-created."
    await node.delete(name)


async def test_deleted_node_registers_again(node: TestNode) -> None:
    before = (await node.ready())["metadata"]["uid"]
    await node.client.delete(NODES, NODE)

    async def again() -> bool:
        try:
            return bool((await node.ready())["metadata"]["uid"] != before)
        except AssertionError:
            return False

    await eventually(again, "the node to register again", 60)
