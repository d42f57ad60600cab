"""What the conformance suite requires of paths in volumes, added containers, image volumes and runtime classes ([sig-node])."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cluster import Cluster, eventually, has_condition, is_ready, pod, requirement, shell, shows, sleeper
from lab_images import ECHO
from objects import labelled, replace
from statuses import EPHEMERAL_CONTAINERS, container_statuses

from machinery.api.catalogue import PODS, RUNTIMECLASSES
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC
from machinery.errors import Forbidden

pytest_plugins = ["cluster_fixture"]


def _with_volume(made: Object, *mounts: Object, env: list[Object], **metadata: Any) -> Object:
    """A pod with a volume, mounted at paths under environment variables."""
    mounted = [{"name": "work", **mount} for mount in mounts]
    wanted = pod("expanded", {**made, "env": env, "volumeMounts": mounted}, volumes=[{"name": "work", "emptyDir": {}}])
    wanted["metadata"] |= metadata
    return wanted


def _named(value: str) -> Object:
    return {"name": "POD_NAME", "value": value}


_BY_NAME = {"mountPath": "/logscontainer", "subPathExpr": "$(POD_NAME)"}


@requirement("[sig-node] Variable Expansion should allow substituting values in a volume subpath [Conformance]")
async def test_path_in_a_volume_is_expanded(cluster: Cluster) -> None:
    made = shell("test -d /testcontainer/expanded; echo $?")
    whole = {"mountPath": "/testcontainer"}
    ended = await cluster.run(_with_volume(made, _BY_NAME, whole, env=[_named("expanded")]))
    assert (ended.phase, ended.log) == ("Succeeded", "0\n")


def _refused(found: Object) -> bool:
    waiting = container_statuses(found).get("c", {}).get("state", {}).get("waiting", {})
    return bool(waiting.get("reason") == "CreateContainerConfigError")


@pytest.mark.parametrize(
    "path",
    [
        shows(
            "..",
            name="[sig-node] Variable Expansion should fail substituting values in a volume subpath with backticks [Conformance]",
        ),
        shows(
            "/tmp",
            name="[sig-node] Variable Expansion should fail substituting values in a volume subpath with absolute path [Conformance]",
        ),
    ],
)
async def test_path_out_of_a_volume_is_refused(cluster: Cluster, path: str) -> None:
    await cluster.create(PODS, _with_volume(sleeper(), _BY_NAME, env=[_named(path)]))
    found = await cluster.pod_that("expanded", _refused, "refused")
    assert found["status"]["phase"] == "Pending"


_ANNOTATED = {"mountPath": "/subpath_mount", "subPathExpr": "$(ANNOTATION)/$(POD_NAME)"}
_WHOLE = {"mountPath": "/volume_mount"}
_ENV = [
    _named("foo"),
    {
        "name": "ANNOTATION",
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.annotations['mysubpath']"}},
    },
]


@requirement(
    "[sig-node] Variable Expansion should verify that a failing subpath expansion can be modified during the lifecycle of a container [Slow] [Conformance]"
)
async def test_path_that_failed_is_expanded_anew(cluster: Cluster) -> None:
    made = _with_volume(sleeper(), _ANNOTATED, _WHOLE, env=_ENV, annotations={"notmysubpath": "mypath"})
    await cluster.create(PODS, made)
    await cluster.pod_that("expanded", _refused, "refused")
    await replace(
        cluster, PODS, "expanded", lambda found: found["metadata"].update(annotations={"mysubpath": "mypath"})
    )
    await cluster.pod_that("expanded", is_ready, "running")
    await cluster.delete(PODS, "expanded")


@requirement("[sig-node] Variable Expansion should succeed in writing subpaths in container [Conformance]")
async def test_path_in_a_volume_is_written_to(cluster: Cluster) -> None:
    annotations = {"mysubpath": "mypath"}
    await cluster.start(_with_volume(sleeper(), _ANNOTATED, _WHOLE, env=_ENV, annotations=annotations))
    await cluster.exec("expanded", "touch", "/volume_mount/mypath/foo/test.log")
    await cluster.exec("expanded", "test", "-f", "/subpath_mount/test.log")
    await replace(
        cluster, PODS, "expanded", lambda found: found["metadata"]["annotations"].update(mysubpath="mynewpath")
    )
    await cluster.pod_that("expanded", is_ready, "running still")
    # What the path would be now is not looked at when the volume is taken away.
    await cluster.delete(PODS, "expanded")


def _debugger(name: str, **fields: Any) -> Object:
    return shell("while true; do echo polo; sleep 2; done", name=name, **fields)


async def _runs(cluster: Cluster, *names: str) -> Object:
    def running(found: Object) -> bool:
        statuses = container_statuses(found, EPHEMERAL_CONTAINERS)
        return list(statuses) == list(names) and all("running" in each["state"] for each in statuses.values())

    return await cluster.pod_that("debugged", running, f"{names} running")


async def _with_debugger(cluster: Cluster, **fields: Any) -> Object:
    await cluster.start(pod("debugged", sleeper()))
    patch = {"spec": {"ephemeralContainers": [_debugger("debugger", **fields)]}}
    await cluster.patch(PODS, "debugged", patch, content_type=STRATEGIC, subresource="ephemeralcontainers")
    return await _runs(cluster, "debugger")


@requirement(
    "[sig-node] Ephemeral Containers [NodeConformance] will start an ephemeral container in an existing pod [Conformance]"
)
async def test_container_is_added_to_a_pod(cluster: Cluster) -> None:
    await _with_debugger(cluster, stdin=True, tty=True)
    assert await cluster.exec("debugged", "echo", "marco", container="debugger") == "marco\n"

    async def told() -> bool:
        return "polo" in await cluster.log("debugged", "debugger")

    await eventually(told, "the container's log")


@requirement(
    "[sig-node] Ephemeral Containers [NodeConformance] should update the ephemeral containers in an existing pod [Conformance]"
)
async def test_container_is_added_beside_another(cluster: Cluster) -> None:
    found = await _with_debugger(cluster)
    assert len(found["spec"]["ephemeralContainers"]) == 1

    def more(found: Object) -> None:
        found["spec"]["ephemeralContainers"].append(_debugger("debugger2"))

    changed = await replace(cluster, PODS, "debugged", more, subresource="ephemeralcontainers")
    assert [each["name"] for each in changed["spec"]["ephemeralContainers"]] == ["debugger", "debugger2"]
    found = await _runs(cluster, "debugger", "debugger2")
    assert len(found["spec"]["ephemeralContainers"]) == 2


@requirement(
    "[sig-node] ImageVolume should succeed with pod and pull policy of Always [LinuxOnly] [MinimumKubeletVersion:1.35] [Conformance]"
)
async def test_image_is_a_volume(cluster: Cluster) -> None:
    volumes = [{"name": "volume", "image": {"reference": ECHO, "pullPolicy": "Always"}}]
    made = sleeper(volumeMounts=[{"name": "volume", "mountPath": "/volume"}])
    reader = pod("reader", made, volumes=volumes, restartPolicy="Always")
    await cluster.start(reader)
    assert await cluster.exec("reader", "cat", "/volume/www/healthz") == "ok\n"
    assert "root:" in await cluster.exec("reader", "cat", "/volume/etc/passwd")
    refused = await cluster.kubectl("exec", "reader", "--", "touch", "/volume/file", check=False)
    assert "Read-only file system" in refused


@asynccontextmanager
async def _runtime_class(cluster: Cluster, handler: str, **fields: Any) -> AsyncIterator[str]:
    name = f"{cluster.namespace}-{handler}"
    await cluster.create(RUNTIMECLASSES, {"metadata": {"name": name}, "handler": handler, **fields})
    try:
        yield name
    finally:
        await cluster.delete(RUNTIMECLASSES, name)


def _of_class(name: str) -> Object:
    return pod("classed", sleeper(), runtimeClassName=name, automountServiceAccountToken=False)


@pytest.mark.parametrize(
    ("fields", "overhead"),
    [
        shows(
            {},
            None,
            name="[sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass without PodOverhead [NodeConformance] [Conformance]",
        ),
        shows(
            {"overhead": {"podFixed": {"cpu": "10m", "memory": "1Mi"}}},
            {"cpu": "10m", "memory": "1Mi"},
            name="[sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass and initialize its Overhead [NodeConformance] [Conformance]",
        ),
    ],
)
async def test_pod_of_a_runtime_class_is_scheduled(cluster: Cluster, fields: Object, overhead: Object | None) -> None:
    """Whether it can run there is the container runtime's affair."""
    async with _runtime_class(cluster, "test-handler", **fields) as name:
        await cluster.create(PODS, _of_class(name))
        await cluster.pod_that("classed", lambda found: has_condition(found, "PodScheduled"), "scheduled")
        (found,) = await labelled(cluster, PODS, "")
        assert (found["metadata"]["name"], found["spec"].get("overhead")) == ("classed", overhead)


@requirement(
    "[sig-node] RuntimeClass should reject a Pod requesting a non-existent RuntimeClass [NodeConformance] [Conformance]"
)
async def test_runtime_class_is_not_there(cluster: Cluster) -> None:
    with pytest.raises(Forbidden, match=f'RuntimeClass "{cluster.namespace}-nonexistent" not found'):
        await cluster.create(PODS, _of_class(f"{cluster.namespace}-nonexistent"))


@requirement(
    "[sig-node] RuntimeClass should reject a Pod requesting a deleted RuntimeClass [NodeConformance] [Conformance]"
)
async def test_runtime_class_is_deleted(cluster: Cluster) -> None:
    async with _runtime_class(cluster, "runc") as name:
        pass

    async def forbidden() -> bool:
        try:
            await cluster.create(PODS, _of_class(name))
        except Forbidden:
            return True
        await cluster.delete(PODS, "classed")  # the API server had not heard of the deletion yet
        return False

    await eventually(forbidden, "pods of the class that was deleted are refused")
