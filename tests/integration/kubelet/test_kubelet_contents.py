"""What containers find inside: volumes, environment, names, users, limits."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from kubelet_node import NODE, NODE_IP, TestNode, box, container_status, eventually, running_node, shell

from agent.kubelet.cgroups.hierarchy import Hierarchy
from machinery.api.catalogue import CONFIGMAPS, SECRETS, SERVICES
from machinery.api.meta import Object

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


async def test_environment_has_all_its_sources(node: TestNode) -> None:
    await node.client.create(CONFIGMAPS, config_map("env", {"plain": "p", "0bad": "x", "also.ok": "y"}))
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "my-db", "namespace": "default"},
        "spec": {"clusterIP": "10.0.0.77", "ports": [{"name": "sql", "port": 5432}], "selector": {"a": "b"}},
    }
    made = await node.client.create(SERVICES, service)

    async def known() -> bool:
        name = await node.create({"restartPolicy": "Never", "containers": [shell("env")]})
        await node.wait_phase(name, "Succeeded")
        found = await node.logs(name)
        await node.delete(name)
        return "MY_DB_SERVICE_HOST" in found

    await eventually(known, "the kubelet to know the service")
    fields = {
        "NAME": "metadata.name",
        "NODE": "spec.nodeName",
        "IP": "status.podIP",
        "HOST": "status.hostIP",
        "LABEL": "metadata.labels['app']",
    }
    env: list[Object] = [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in fields.items()]
    env += [
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "env", "key": "plain"}}},
        {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "env", "key": "none", "optional": True}}},
        {"name": "CHAIN", "value": "$(KEY)-$(MY_DB_SERVICE_PORT)-$$(KEY)-$(UNKNOWN)"},
    ]
    memory = {"limits": {"memory": "64Mi"}}
    name = await node.create(
        {
            "restartPolicy": "Never",
            "containers": [
                box("env", env=env, envFrom=[{"prefix": "FROM_", "configMapRef": {"name": "env"}}], resources=memory),
                {**box("echo", "$(CHAIN)", args=["$(KEY)"], env=env, resources=memory), "name": "args"},
            ],
        },
        metadata={"labels": {"app": "web"}},
    )
    pod = await node.wait_phase(name, "Succeeded")
    lines = (await node.logs(name)).splitlines()
    found = dict(line.split("=", 1) for line in lines)
    address = made["spec"]["clusterIP"]
    wanted = {
        "NAME": name,
        "NODE": NODE,
        "IP": pod["status"]["podIP"],
        "HOST": NODE_IP,
        "LABEL": "web",
        "MEMORY": "64",
        "KEY": "p",
        "CHAIN": "p-5432-$(KEY)-$(UNKNOWN)",
        "FROM_plain": "p",
        "FROM_also.ok": "y",
        "MY_DB_SERVICE_HOST": address,
        "MY_DB_SERVICE_PORT_SQL": "5432",
        "MY_DB_PORT": f"tcp://{address}:5432",
        "MY_DB_PORT_5432_TCP_ADDR": address,
    }
    assert {key: found.get(key) for key in wanted} == wanted
    assert "NONE" not in found
    assert await node.logs(name, "args") == "p-5432-$(KEY)-$(UNKNOWN) p\n"
    await node.delete(name)


async def test_names_inside_a_pod(node: TestNode) -> None:
    name = await node.create(
        {
            "hostname": "web",
            "subdomain": "sub",
            "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["alias.example"]}],
            "dnsConfig": {"options": [{"name": "ndots", "value": "2"}], "searches": ["more.example"]},
            "containers": [box("sleep", "3600")],
        }
    )
    pod = await node.wait_ready(name)
    assert await node.run_in(name, "hostname") == "web\n"
    hosts = await node.run_in(name, "cat", "/etc/hosts")
    assert hosts.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert f"{pod['status']['podIP']}\tweb.sub.default.svc.cluster.local\tweb\n" in hosts
    assert hosts.endswith("\n# Entries added by HostAliases.\n192.0.2.7\talias.example\n")
    resolv = (await node.run_in(name, "cat", "/etc/resolv.conf")).splitlines()
    assert resolv == [
        "search default.svc.cluster.local svc.cluster.local cluster.local example.org more.example",
        "nameserver 10.96.0.10",
        "options ndots:2",
    ]
    plain = await node.create({"dnsPolicy": "Default", "containers": [box("sleep", "3600")]})
    await node.wait_ready(plain)
    assert "nameserver 192.0.2.53" in await node.run_in(plain, "cat", "/etc/resolv.conf")
    for made in (name, plain):
        await node.delete(made)


async def test_limits_reach_the_control_groups(node: TestNode) -> None:
    resources = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}}
    name = await node.create({"containers": [box("sleep", "3600", resources=resources)]})
    pod = await node.wait_ready(name)
    assert pod["status"]["qosClass"] == "Burstable"
    assert container_status(pod)["resources"] == resources
    trees = Hierarchy.detect()
    assert not trees.unified
    group = f"{node.host.cgroup_root}/kubepods/burstable/pod{pod['metadata']['uid']}"
    own = f"{group}/{container_status(pod)['containerID'].rpartition('/')[2]}"
    for path in (group, own):
        assert Path(f"{trees.mounts['cpu']}{path}/cpu.shares").read_text() == "102\n"
        assert Path(f"{trees.mounts['cpu']}{path}/cpu.cfs_quota_us").read_text() == "50000\n"
        assert Path(f"{trees.mounts['memory']}{path}/memory.limit_in_bytes").read_text() == f"{64 << 20}\n"
    await node.delete(name)


async def test_container_over_its_memory_is_killed_and_says_so(node: TestNode) -> None:
    name = await node.create(
        {
            "restartPolicy": "Never",
            "containers": [
                box(
                    "sh",
                    "-c",
                    "x=$(head -c 200m /dev/zero | tr '\\0' x); echo $x | wc -c",
                    resources={"limits": {"memory": "20Mi"}},
                )
            ],
        }
    )
    pod = await node.wait_phase(name, "Failed")
    assert container_status(pod)["state"]["terminated"]["reason"] == "OOMKilled"
    await node.delete(name)


async def test_pods_may_share_the_hosts_network_and_processes(node: TestNode) -> None:
    name = await node.create({"hostNetwork": True, "hostPID": True, "containers": [box("sleep", "3601")]})
    pod = await node.wait_ready(name)
    assert pod["status"]["podIP"] == NODE_IP
    assert "10.76.0.1" in await node.run_in(name, "ip", "addr")
    assert "agent.kubelet" in await node.run_in(name, "ps")
    assert (await node.run_in(name, "cat", "/etc/hosts")).startswith(
        "# Kubernetes-managed hosts file (host network).\n"
    )
    shared = await node.create(
        {"shareProcessNamespace": True, "containers": [box("sleep", "3601"), {**box("sleep", "3602"), "name": "d"}]}
    )
    await node.wait_ready(shared)
    assert "sleep 3602" in await node.run_in(shared, "ps")
    for made in (name, shared):
        await node.delete(made)


async def test_last_words_may_come_from_the_log(node: TestNode) -> None:
    name = await node.create(
        {
            "restartPolicy": "Never",
            "containers": [shell("echo last words; exit 1", terminationMessagePolicy="FallbackToLogsOnError")],
        }
    )
    pod = await node.wait_phase(name, "Failed")
    assert container_status(pod)["state"]["terminated"]["message"] == "last words\n"
    await node.delete(name)
