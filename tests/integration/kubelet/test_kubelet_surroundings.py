"""What containers find around them: environment, names, limits, the host's namespaces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from kubelet_node import NODE, NODE_IP, TestNode, box, container_status, eventually, running_node, shell

from agent.kubelet.cgroups.hierarchy import Hierarchy
from machinery.api.catalogue import CONFIGMAPS, SERVICES
from machinery.api.meta import Object

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[TestNode]:
    async with running_node() as made:
        yield made


def config_map(name: str, data: dict[str, str]) -> Object:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


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
