"""What newer pods ask of a node: restarts of all containers, variables from files; what the node tells of itself."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from kubelet_host import ECHO, PAUSE
from kubelet_node import NODE, TestNode, box, container_status, eventually, free_port, running_node, shell

from machinery.api import meta
from machinery.api.catalogue import LEASES, NODES, PODS
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC
from machinery.errors import NotFound

pytestmark = pytest.mark.asyncio(loop_scope="module")

READ_ONLY = free_port()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[TestNode]:
    async with running_node(extra_config=f"readOnlyPort: {READ_ONLY}\n") as made:
        yield made


async def test_the_node_has_a_lease(node: TestNode) -> None:
    found = await node.client.get(NODES, NODE)

    async def kept() -> Object | None:  # its namespace may come a moment after the node
        with contextlib.suppress(NotFound):
            return await node.client.get(LEASES, NODE, "kube-node-lease")
        return None

    lease = await eventually(kept, "the node's lease")
    assert lease["spec"]["holderIdentity"] == NODE
    assert lease["metadata"]["ownerReferences"][0]["uid"] == found["metadata"]["uid"]


async def test_one_container_that_ends_restarts_all(node: TestNode) -> None:
    """KEP-5532: the init container runs again, and every container's count goes up."""
    script = "[ -e /data/twice ] && exec sleep 3600; [ -e /data/once ] && touch /data/twice; touch /data/once; exit 42"
    mounts = [{"name": "data", "mountPath": "/data"}]
    rules = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]
    source = {**shell(script), "name": "source", "restartPolicy": "Never", "restartPolicyRules": rules}
    other = {**shell("sleep 3600"), "name": "other"}
    name = await node.create(
        {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "initContainers": [{**shell("echo x >>/data/inits"), "name": "init", "volumeMounts": mounts}],
            "containers": [{**source, "volumeMounts": mounts}, other],
            "volumes": [{"name": "data", "emptyDir": {}}],
        }
    )

    async def settled() -> Object | None:
        status = (await node.client.get(PODS, name, node.namespace)).get("status") or {}
        counts = {s["name"]: s["restartCount"] for s in status.get("containerStatuses") or ()}
        running = all("running" in s["state"] for s in status.get("containerStatuses") or ())
        return status if running and counts == {"source": 2, "other": 2} else None

    status = await eventually(settled, "both containers to run for the third time", 60)
    assert status["phase"] == "Running"
    assert status["initContainerStatuses"][0]["restartCount"] == 2
    assert {c["type"]: c["status"] for c in status["conditions"]}["AllContainersRestarting"] == "False"
    await node.delete(name)


async def test_an_image_is_a_volume_of_several_containers(node: TestNode) -> None:
    """KEP-4639, under a runtime that can't do it itself too: its files and nothing else, for reading only."""
    mounts = [
        {"name": "files", "mountPath": "/files"},
        {"name": "files", "mountPath": "/pages", "subPath": "www"},
        {"name": "one", "mountPath": "/one"},
    ]
    script = "exec 2>&1; cat /files/www/healthz /pages/healthz; ls -A /one | head -n1; touch /files/x; sleep 3600"
    containers = [{**shell(script, volumeMounts=mounts), "name": name} for name in ("a", "b")]
    volumes = [
        {"name": "files", "image": {"reference": ECHO, "pullPolicy": "IfNotPresent"}},
        {"name": "one", "image": {"reference": PAUSE, "pullPolicy": "IfNotPresent"}},
    ]
    name = await node.create({"containers": containers, "volumes": volumes})
    pod = await node.wait_ready(name)
    assert [each["restartCount"] for each in pod["status"]["containerStatuses"]] == [0, 0]
    for container in ("a", "b"):

        async def told(container: str = container) -> str | None:
            text = await node.logs(name, container)
            return text if "Read-only file system" in text else None

        assert (await eventually(told, "the last command's words")).splitlines()[:3] == ["ok", "ok", "pause"]
    await node.delete(name)

    async def nothing_left() -> bool:
        return not any(meta.uid_of(pod) in each for found in node.host.leftovers().values() for each in found)

    await eventually(nothing_left, "nothing to be left of the pod")


async def test_an_image_volume_without_its_image_is_told(node: TestNode) -> None:
    volumes = [{"name": "files", "image": {"reference": "docker.io/library/absent:1", "pullPolicy": "Never"}}]
    mounts = [{"name": "files", "mountPath": "/files"}]
    name = await node.create({"containers": [shell("sleep 3600", volumeMounts=mounts)], "volumes": volumes})

    def told(pod: Object) -> bool:
        return bool(container_status(pod).get("state", {}).get("waiting", {}).get("reason") == "ErrImageNeverPull")

    await node.wait(name, told, "the missing image to be told")
    await node.delete(name)


async def test_variables_of_a_file_that_an_init_container_wrote(node: TestNode) -> None:
    mounts = [{"name": "data", "mountPath": "/data"}]
    reference = {"volumeName": "data", "path": "app.env", "key": "GREETING"}
    entry = {"name": "GREETING", "valueFrom": {"fileKeyRef": reference}}
    writes = shell("echo \"GREETING='hello there'\" >/data/app.env")
    name = await node.create(
        {
            "initContainers": [{**writes, "name": "init", "volumeMounts": mounts}],
            "containers": [shell("echo $GREETING; sleep 3600", env=[entry])],
            "volumes": [{"name": "data", "emptyDir": {}}],
        }
    )
    await node.wait_ready(name)
    assert (await node.logs(name)).strip() == "hello there"
    await node.delete(name)


async def test_ephemeral_container_joins_a_running_pod(node: TestNode) -> None:
    name = await node.create({"containers": [box("sleep", "3600")]})
    await node.wait_ready(name)
    debug = {**box("sleep", "3600"), "name": "debug", "targetContainerName": "c"}
    patch = {"spec": {"ephemeralContainers": [debug]}}
    await node.client.patch(PODS, name, patch, "default", content_type=STRATEGIC, subresource="ephemeralcontainers")
    await node.wait(
        name,
        lambda p: container_status(p, "debug", "ephemeralContainerStatuses").get("state", {}).get("running"),
        "the debug container",
    )
    assert "sleep 3600" in await node.run_in(name, "ps", container="debug")
    await node.delete(name)


async def test_the_deletion_is_observed_too(node: TestNode) -> None:
    name = await node.create({"containers": [box("sleep", "3600")], "terminationGracePeriodSeconds": 5})
    pod = await node.wait_ready(name)
    assert (pod["metadata"]["generation"], pod["status"]["observedGeneration"]) == (1, 1)
    for finalizers in (["t.example/f"], None):
        patch = {"metadata": {"finalizers": finalizers}}
        await node.client.patch(PODS, name, patch, node.namespace, content_type=STRATEGIC)
        if finalizers:
            await node.client.delete(PODS, name, node.namespace)
            await node.wait(name, lambda p: p["status"].get("observedGeneration") == 2, "the deletion to be observed")


async def test_sysctls_that_the_node_does_not_allow(node: TestNode) -> None:
    sysctls = [{"name": "kernel.msgmax", "value": "10000000000"}]
    name = await node.create({"containers": [box("true")], "securityContext": {"sysctls": sysctls}})
    pod = await node.wait_phase(name, "Failed")
    assert pod["status"]["reason"] == "SysctlForbidden"
    await node.wait_event(name, "SysctlForbidden", "forbidden sysctl")
    await node.delete(name)


async def test_the_read_only_port_tells_and_does_nothing(node: TestNode) -> None:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{READ_ONLY}") as session:
        async with session.get("/metrics") as response:
            text = await response.text()
        async with session.get("/pods") as response:
            assert (await response.json(content_type=None))["kind"] == "PodList"
        async with session.post("/run/default/p/c") as response:
            assert response.status == 404
    lines = text.splitlines()
    assert f'kubelet_node_name{{node="{NODE}"}} 1.0' in lines
    assert "# TYPE kubelet_evictions counter" in lines
    for name in (
        "kubelet_pleg_relist_duration_seconds_count",
        "kubelet_started_pods_total",
        'kubelet_runtime_operations_total{operation_type="run_podsandbox"}',
        'kubelet_cgroup_manager_duration_seconds_count{operation_type="create"}',
        "kubelet_pod_start_sli_duration_seconds_count",
        "kubelet_topology_manager_admission_requests_total",
    ):
        assert any(line.startswith(f"{name} ") and not line.endswith(" 0.0") for line in lines), name
