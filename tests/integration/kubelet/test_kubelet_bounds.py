"""What the kubelet keeps within bounds: logs, dead containers, the disk that a pod may use, and who may come in."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from kubelet_node import NODE, TestNode, box, container_status, eventually, running_node, shell

from agent.cri.client import CriClient
from machinery.api import meta
from machinery.api.catalogue import NODES
from machinery.api.meta import Object

pytestmark = pytest.mark.asyncio(loop_scope="module")

_SMALL = """
containerLogMaxSize: 20Ki
containerLogMaxFiles: 3
containerLogMonitorInterval: 3s
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
shutdownGracePeriod: 20s
shutdownGracePeriodCriticalPods: 10s
"""

# What the kubelet asks of logind, answered from files: whether a shutdown is being prepared, and who delays it.
_BUSCTL = """#!/bin/sh
case "$*" in *InhibitDelayMaxUSec) echo "t 60000000";; *) cat "$LOGIND/preparing";; esac
"""
_INHIBIT = """#!/bin/sh
echo "$*" > "$LOGIND/lock"
trap 'rm "$LOGIND/lock"' EXIT
trap 'exit 0' TERM INT
sleep infinity & wait
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TestNode]:
    logind = tmp_path_factory.mktemp("logind")
    (logind / "preparing").write_text("b false\n")
    for name, script in (("busctl", _BUSCTL), ("systemd-inhibit", _INHIBIT)):
        (logind / name).write_text(script)
        (logind / name).chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOGIND", str(logind))
        patch.setenv("PATH", f"{logind}:{os.environ['PATH']}")
        async with running_node(_SMALL) as made:
            yield made


async def test_long_logs_are_rotated_and_can_still_be_followed(node: TestNode) -> None:
    script = (
        "i=0; while :; do i=$((i+1)); echo line $i of a log that gets long; [ $((i % 100)) = 0 ] && sleep 0.1; done"
    )
    name = await node.create({"containers": [shell(script)]})
    pod = await node.wait_ready(name)
    directory = node.directory / "log" / "pods" / f"default_{name}_{pod['metadata']['uid']}" / "c"

    async def bounded() -> list[str] | None:
        parts = sorted(os.listdir(directory))
        return parts if len(parts) == 3 and any(part.endswith(".gz") for part in parts) else None

    parts = await eventually(bounded, "the log to be rotated")
    assert parts[0] == "0.log"

    async def told() -> bool:
        return "line" in await node.logs(name, tailLines="3")  # nothing, as upstream's, just after it was rotated

    await eventually(told, "the log of the new file")
    await node.delete(name)

    async def gone() -> bool:
        return not directory.parent.exists()

    await eventually(gone, "the log to be removed")


async def test_pod_that_fills_its_volume_is_evicted_and_harms_nobody(node: TestNode) -> None:
    volumes = [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]
    script = "dd if=/dev/zero of=/v/big bs=1M count=3 2>/dev/null; sleep 3600"
    greedy = await node.create(
        {"volumes": volumes, "containers": [shell(script, volumeMounts=[{"name": "v", "mountPath": "/v"}])]}
    )
    good = await node.create({"containers": [box("sleep", "3600")]})
    pod = await node.wait_phase(greedy, "Failed", 40)
    assert pod["status"]["reason"] == "Evicted"
    assert pod["status"]["message"] == 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
    disrupted = meta.condition(pod["status"]["conditions"], "DisruptionTarget") or {}
    assert disrupted["reason"] == "TerminationByKubelet"
    await node.wait_event(greedy, "Evicted")
    assert (await node.wait_ready(good))["status"]["phase"] == "Running"
    await node.delete(greedy)
    await node.delete(good)


async def test_critical_pod_displaces_another(node: TestNode) -> None:
    cpus = int((await node.ready())["status"]["allocatable"]["cpu"])
    most: Object = {"requests": {"cpu": f"{cpus * 1000 - 100}m"}}
    ordinary = await node.create({"containers": [box("sleep", "3600", resources=most)]})
    await node.wait_ready(ordinary)
    critical = await node.create(
        {"containers": [box("sleep", "3600", resources=most)], "priorityClassName": "system-node-critical"}
    )
    pod = await node.wait_phase(ordinary, "Failed")
    assert (pod["status"]["reason"], pod["status"]["message"]) == (
        "Preempting",
        "Preempted in order to admit critical pod",
    )
    await node.wait_ready(critical)
    await node.delete(critical)
    await node.delete(ordinary)


async def test_of_dead_containers_the_last_one_is_kept(node: TestNode) -> None:
    """A kubelet that starts collects at once."""
    script = "test -e /v/three && sleep 3600; test -e /v/two && touch /v/three; touch /v/two; exit 1"
    name = await node.create(
        {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [shell(script, volumeMounts=[{"name": "v", "mountPath": "/v"}])],
        }
    )
    pod = await node.wait(name, lambda p: container_status(p).get("restartCount") == 2, "two restarts", 60)
    uid = pod["metadata"]["uid"]
    await node.stop()
    await node.start()

    async def two_left() -> bool:
        async with CriClient(node.host.socket) as cri:
            return len(await cri.list_containers({"io.kubernetes.pod.uid": uid})) == 2

    await eventually(two_left, "all but the last dead container to be removed")
    assert container_status(await node.get(name))["restartCount"] == 2
    await node.delete(name)


async def test_node_that_shuts_down_ends_ordinary_pods_before_critical_ones(node: TestNode) -> None:
    logind = Path(os.environ["LOGIND"])

    async def delayed() -> bool:
        return (logind / "lock").exists()

    await eventually(delayed, "shutdowns to be delayed")
    assert "--mode=delay" in (logind / "lock").read_text()
    stubborn = shell("trap '' TERM; sleep 3600")
    ordinary = await node.create({"containers": [stubborn], "terminationGracePeriodSeconds": 2})
    critical = await node.create({"containers": [box("sleep", "3600")], "priorityClassName": "system-node-critical"})
    await node.wait_ready(ordinary)
    await node.wait_ready(critical)
    (logind / "preparing").write_text("b true\n")
    first = await node.wait_phase(ordinary, "Failed")
    second = await node.wait_phase(critical, "Failed")
    for pod in (first, second):
        assert pod["status"]["reason"] == "Terminated"
        assert pod["status"]["message"] == "Pod was terminated in response to imminent node shutdown."
    ended = [
        container_status(pod)["state"]["terminated"]["finishedAt"]
        for pod in (await node.get(ordinary), await node.get(critical))
    ]
    assert ended[0] <= ended[1]
    conditions = (await node.client.get(NODES, NODE))["status"]["conditions"]
    assert "node is shutting down" in (meta.condition(conditions, "Ready") or {})["message"]
    late = await node.create({"containers": [box("sleep", "3600")]})
    assert (await node.wait_phase(late, "Failed"))["status"]["reason"] == "NodeShutdown"
    (logind / "preparing").write_text("b false\n")
    await node.ready()
    for name in (ordinary, critical, late):
        await node.delete(name)
