"""What containers find inside: the files of volumes, and as whom they use them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from kubelet_node import TestNode, box, container_status, eventually, running_node, shell

from machinery.api.catalogue import CONFIGMAPS, SECRETS
from machinery.api.meta import Object
from machinery.errors import NotFound

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[TestNode]:
    async with running_node() as made:
        yield made


def config_map(name: str, data: dict[str, str], **fields: object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": data,
        **fields,
    }


def mount(name: str, path: str, **fields: object) -> Object:
    return {"name": name, "mountPath": path, **fields}


async def test_config_map_files_change_together_with_it(node: TestNode) -> None:
    made = await node.client.create(CONFIGMAPS, config_map("files", {"a": "1", "b": "2"}))
    name = await node.create(
        {
            "volumes": [
                {"name": "all", "configMap": {"name": "files"}},
                {
                    "name": "one",
                    "configMap": {
                        "name": "files",
                        "defaultMode": 0o400,
                        "items": [{"key": "a", "path": "deep/er", "mode": 0o640}],
                    },
                },
                {"name": "none", "configMap": {"name": "missing", "optional": True}},
            ],
            "containers": [
                box("sleep", "3600", volumeMounts=[mount("all", "/all"), mount("one", "/one"), mount("none", "/none")])
            ],
        }
    )
    await node.wait_ready(name)
    assert await node.run_in(name, "cat", "/all/a", "/all/b", "/one/deep/er") == "121"
    assert await node.run_in(name, "stat", "-L", "-c", "%a", "/all/a", "/one/deep/er") == "644\n640\n"
    assert await node.run_in(name, "ls", "/none") == ""
    await node.client.update(CONFIGMAPS, {**made, "data": {"a": "new", "c": "3"}})

    async def updated() -> bool:
        return await node.run_in(name, "sh", "-c", "cat /all/a /one/deep/er; ls /all") == "newnewa\nc\n"

    await eventually(updated, "the new contents", 10)
    await node.delete(name)


async def test_secret_token_and_downward_api_files_are_in_memory(node: TestNode) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "default"},
        "data": {"key": base64.b64encode(b"\x00hidden").decode()},
    }
    await node.client.create(SECRETS, secret)
    downward = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}},
    ]
    token = {"path": "token", "audience": "me", "expirationSeconds": 3600}
    name = await node.create(
        {
            "volumes": [
                {"name": "s", "secret": {"secretName": "s"}},
                {"name": "d", "downwardAPI": {"items": downward}},
                {
                    "name": "p",
                    "projected": {
                        "sources": [
                            {"serviceAccountToken": token},
                            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                            {
                                "downwardAPI": {
                                    "items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]
                                }
                            },
                        ]
                    },
                },
            ],
            "containers": [
                box(
                    "sleep",
                    "3600",
                    resources={"limits": {"cpu": "250m"}},
                    volumeMounts=[mount("s", "/s"), mount("d", "/d"), mount("p", "/p")],
                )
            ],
        },
        metadata={"labels": {"app": "x", "tier": 'a"b'.replace('"', "-")}},
    )
    pod = await node.wait_ready(name)
    assert await node.run_in(name, "od", "-An", "-c", "/s/key") == "  \\0   h   i   d   d   e   n\n"
    assert await node.run_in(name, "cat", "/d/labels") == 'app="x"\ntier="a-b"'
    assert await node.run_in(name, "cat", "/d/cpu", "/p/namespace") == "250default"
    assert (await node.run_in(name, "cat", "/p/ca.crt")).startswith("-----BEGIN CERTIFICATE-----")
    claims = json.loads(base64.urlsafe_b64decode((await node.run_in(name, "cat", "/p/token")).split(".")[1] + "=="))
    assert claims["aud"] == ["me"]
    assert claims["kubernetes.io"]["pod"] == {"name": name, "uid": pod["metadata"]["uid"]}
    assert set((await node.run_in(name, "stat", "-f", "-c", "%T", "/s", "/d", "/p")).split()) == {"tmpfs"}
    await node.delete(name)


async def test_empty_dirs_are_shared_and_bounded(node: TestNode) -> None:
    mounts = [mount("disk", "/disk"), mount("memory", "/memory")]
    name = await node.create(
        {
            "volumes": [
                {"name": "disk", "emptyDir": {}},
                {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
            ],
            "containers": [
                box("sleep", "3600", volumeMounts=mounts, securityContext={"runAsUser": 1000}),
                {**box("sleep", "3600", volumeMounts=mounts, securityContext={"runAsUser": 1001}), "name": "d"},
            ],
        }
    )
    await node.wait_ready(name)
    await node.run_in(name, "sh", "-c", "echo shared > /disk/x; echo quick > /memory/y")
    assert await node.run_in(name, "cat", "/disk/x", "/memory/y", container="d") == "shared\nquick\n"
    assert "8.0M" in await node.run_in(name, "df", "-h", "/memory")
    assert await node.run_in(name, "stat", "-c", "%a", "/disk") == "777\n"
    await node.delete(name)


async def test_group_of_volumes_and_users_of_containers(node: TestNode) -> None:
    await node.client.create(CONFIGMAPS, config_map("grouped", {"k": "v"}))
    name = await node.create(
        {
            "securityContext": {"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 3000, "supplementalGroups": [4000]},
            "volumes": [{"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "grouped"}}],
            "containers": [
                box(
                    "sleep",
                    "3600",
                    volumeMounts=[mount("e", "/e"), mount("c", "/c")],
                    securityContext={
                        "readOnlyRootFilesystem": True,
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                ),
                {
                    **box("sleep", "3600", securityContext={"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}}),
                    "name": "root",
                },
            ],
        }
    )
    await node.wait_ready(name)
    assert await node.run_in(name, "id") == "uid=1000 gid=2000 groups=2000,3000,4000\n"
    assert await node.run_in(name, "stat", "-c", "%g %a", "/e") == "3000 2777\n"
    assert await node.run_in(name, "stat", "-L", "-c", "%g", "/c/k") == "3000\n"
    await node.run_in(name, "touch", "/e/mine")
    assert await node.run_in(name, "sh", "-c", "touch /x 2>&1; true") == "touch: /x: Read-only file system\n"
    status = await node.run_in(name, "cat", "/proc/self/status")
    assert "NoNewPrivs:\t1" in status
    assert "CapBnd:\t0000000000000000" in status
    bounding = next(
        int(line.split()[1], 16)
        for line in (await node.run_in(name, "cat", "/proc/self/status", container="root")).splitlines()
        if line.startswith("CapBnd")
    )
    assert bounding >> 12 & 1  # NET_ADMIN
    await node.delete(name)


async def test_container_that_must_not_be_root_is_not_started_as_root(node: TestNode) -> None:
    name = await node.create({"containers": [box("true", securityContext={"runAsNonRoot": True})]})
    pod = await node.wait(
        name, lambda p: (container_status(p).get("state", {}).get("waiting") or {}).get("message"), "a message"
    )
    where = f'pod: "{name}_default({pod["metadata"]["uid"]})", container: c'
    assert container_status(pod)["state"]["waiting"] == {
        "reason": "CreateContainerConfigError",
        "message": f"container has runAsNonRoot and image will run as root ({where})",
    }
    await node.delete(name)


async def test_subpaths_stay_inside_their_volume(node: TestNode) -> None:
    (node.directory / "outside").mkdir()
    (node.directory / "outside" / "secret").write_text("no")
    prepare = shell(
        "mkdir -p /v/in; echo yes > /v/in/file; ln -s ../../../../../../.. /v/up; ln -s in /v/alias",
        volumeMounts=[mount("v", "/v")],
    )
    good = await node.create(
        {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [{**prepare, "name": "prepare"}],
            "containers": [
                box(
                    "sleep",
                    "3600",
                    env=[{"name": "WHERE", "value": "alias"}],
                    volumeMounts=[
                        mount("v", "/in", subPath="in"),
                        mount("v", "/one", subPath="in/file"),
                        mount("v", "/made", subPath="new/dir"),
                        mount("v", "/expanded", subPathExpr="$(WHERE)"),
                    ],
                )
            ],
        }
    )
    await node.wait_ready(good)
    assert await node.run_in(good, "cat", "/in/file", "/one", "/expanded/file") == "yes\nyes\nyes\n"
    await node.run_in(good, "touch", "/made/x")
    bad = await node.create(
        {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [{**prepare, "name": "prepare"}],
            "containers": [box("sleep", "3600", volumeMounts=[mount("v", "/up", subPath="up/etc")])],
        }
    )
    pod = await node.wait(
        bad, lambda p: (container_status(p).get("state", {}).get("waiting") or {}).get("message"), "a message"
    )
    assert container_status(pod)["state"]["waiting"]["message"] == (
        'failed to prepare subPath for volumeMount "v" of container "c": subpath \'up/etc\' is not within the volume'
    )
    for name in (good, bad):
        await node.delete(name)


async def test_host_paths_are_checked(node: TestNode) -> None:
    path = node.directory / "host"
    made = await node.create(
        {
            "volumes": [
                {"name": "d", "hostPath": {"path": str(path), "type": "DirectoryOrCreate"}},
                {"name": "f", "hostPath": {"path": str(path / "f"), "type": "FileOrCreate"}},
            ],
            "containers": [box("sleep", "3600", volumeMounts=[mount("d", "/d"), mount("f", "/f", readOnly=True)])],
        }
    )
    await node.wait_ready(made)
    await node.run_in(made, "touch", "/d/x")
    assert (path / "x").exists()
    wrong = await node.create(
        {
            "volumes": [{"name": "s", "hostPath": {"path": str(path / "x"), "type": "Socket"}}],
            "containers": [box("true", volumeMounts=[mount("s", "/s")])],
        }
    )
    assert await node.wait_event(wrong, "FailedMount") == (
        f'MountVolume.SetUp failed for volume "s" : hostPath type check failed: {path / "x"} is not a socket file'
    )
    for name in (made, wrong):
        await node.delete(name)
    assert (path / "x").exists()


async def test_missing_volume_source_is_told_and_pod_starts_when_it_appears(node: TestNode) -> None:
    name = await node.create(
        {
            "volumes": [{"name": "v", "configMap": {"name": "tardy"}}],
            "containers": [box("sleep", "3600", volumeMounts=[mount("v", "/v")])],
        }
    )
    assert await node.wait_event(name, "FailedMount") == (
        'MountVolume.SetUp failed for volume "v" : configmap "tardy" not found'
    )
    pod = await node.get(name)
    conditions = {c["type"]: c["status"] for c in pod["status"]["conditions"]}
    assert conditions["PodReadyToStartContainers"] == "False"
    await node.client.create(CONFIGMAPS, config_map("tardy", {"k": "v"}))
    await node.wait_ready(name)
    await node.delete(name)


async def test_containers_wait_for_what_every_pod_has_when_it_is_missing(node: TestNode) -> None:
    """The sandbox doesn't wait for such volumes; the containers do."""
    await node.client.delete(CONFIGMAPS, "kube-root-ca.crt", "default")
    name = await node.create(
        {
            "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}}],
            "containers": [box("sleep", "3600", volumeMounts=[mount("v", "/v")])],
        }
    )
    assert await node.wait_event(name, "FailedMount") == (
        'MountVolume.SetUp failed for volume "v" : configmap "kube-root-ca.crt" not found'
    )
    pod = await node.get(name)
    assert pod["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    await node.client.create(CONFIGMAPS, config_map("kube-root-ca.crt", {"ca.crt": "late"}))
    await node.wait_ready(name)
    assert await node.run_in(name, "cat", "/v/ca.crt") == "late"
    await node.delete(name)


async def test_shared_volume_and_fifty_config_maps_at_once(node: TestNode) -> None:
    """EmptyDir, Shared volumes between containers; EmptyDir Wrapper Volume, ConfigMap volumes, no race."""
    names = [f"race-{i}" for i in range(50)]
    for name in names:
        await node.client.create(CONFIGMAPS, config_map(name, {"data": "x"}))
    volumes: list[Object] = [{"name": n, "configMap": {"name": n}} for n in names]
    volumes.append({"name": "shared", "emptyDir": {}})
    mounts = [{"name": v["name"], "mountPath": f"/v/{v['name']}"} for v in volumes]
    reader = shell(
        "until [ -f /s/f ]; do sleep 0.1; done; cat /s/f", volumeMounts=[{"name": "shared", "mountPath": "/s"}]
    )
    writer = {**shell("cat /v/race-*/data | wc -c > /v/shared/f", volumeMounts=mounts), "name": "w"}
    name = await node.create({"restartPolicy": "Never", "volumes": volumes, "containers": [reader, writer]})
    await node.wait_phase(name, "Succeeded")
    assert await node.logs(name) == "50\n"
    await node.delete(name)
    with pytest.raises(NotFound):
        await node.get(name)


async def test_the_summary_tells_how_full_volumes_are(node: TestNode) -> None:
    await node.client.create(CONFIGMAPS, config_map("measured", {"a": "1"}))
    name = await node.create(
        {
            "volumes": [
                {"name": "files", "configMap": {"name": "measured"}},
                {"name": "space", "emptyDir": {}},
                {"name": "host", "hostPath": {"path": "/tmp"}},
            ],
            "containers": [
                shell(
                    "dd if=/dev/zero of=/space/file bs=1M count=3 2>/dev/null; touch /space/done; sleep 600",
                    volumeMounts=[mount("space", "/space"), mount("files", "/files"), mount("host", "/host")],
                    readinessProbe={"exec": {"command": ["cat", "/space/done"]}, "periodSeconds": 1},
                )
            ],
        }
    )
    uid = (await node.wait_ready(name))["metadata"]["uid"]
    async with node.kubelet_client() as kubelet:
        told = await kubelet.request("GET", "/stats/summary")
    pod = next(each for each in told["pods"] if each["podRef"]["uid"] == uid)
    volumes = {each["name"]: each for each in pod["volume"]}
    assert set(volumes) == {"files", "space"}  # as upstream: a path of the host is not the pod's
    assert volumes["space"]["usedBytes"] >= 3 << 20
    assert volumes["space"]["inodesUsed"] == 3
    assert volumes["files"]["usedBytes"] < 1 << 20
    assert volumes["space"]["capacityBytes"] >= volumes["space"]["availableBytes"] > 0
    await node.delete(name)
