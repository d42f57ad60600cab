"""What the conformance suite requires of the API of [sig-node]'s kinds, pods apart."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cluster import Cluster, requirement, shows
from objects import delete_collection, labelled, replace
from watching import watching

from machinery.api.catalogue import CONFIGMAPS, LEASES, NODES, PODTEMPLATES, RUNTIMECLASSES, SECRETS
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.client.rest import STRATEGIC
from machinery.errors import AlreadyExists, Invalid, NotFound

pytest_plugins = ["cluster_fixture"]


@pytest.mark.parametrize(
    ("resource", "data"),
    [
        shows(
            CONFIGMAPS,
            {"": "value-1"},
            name="[sig-node] ConfigMap should fail to create ConfigMap with empty key [Conformance]",
        ),
        shows(
            SECRETS,
            {"": "dmFsdWUtMQ=="},
            name="[sig-node] Secrets should fail to create secret due to empty secret key [Conformance]",
        ),
    ],
)
async def test_an_empty_key_is_refused(cluster: Cluster, resource: ResourceType, data: Object) -> None:
    with pytest.raises(Invalid, match="a valid config key must consist of"):
        await cluster.create(resource, {"metadata": {"name": "empty"}, "data": data})
    assert "empty" not in [each["metadata"]["name"] for each in await labelled(cluster, resource, "")]


@requirement("[sig-node] ConfigMap should update ConfigMap successfully [NodeConformance] [Conformance]")
async def test_config_map_is_updated(cluster: Cluster) -> None:
    made = await cluster.create(CONFIGMAPS, {"metadata": {"name": "c"}, "data": {"data-1": "value-1"}})
    await cluster.client.update(CONFIGMAPS, made | {"data": {"data": "value"}})
    assert (await cluster.get(CONFIGMAPS, "c"))["data"] == {"data": "value"}


@requirement("[sig-node] ConfigMap should run through a ConfigMap lifecycle [Conformance]")
async def test_config_map_lifecycle(cluster: Cluster) -> None:
    mine = cluster.namespace
    metadata = {"name": "c", "labels": {"static": mine}}
    await cluster.create(CONFIGMAPS, {"metadata": metadata, "data": {"valueName": "value"}})
    found = await cluster.get(CONFIGMAPS, "c")
    assert (found["data"], found["metadata"]["labels"]) == ({"valueName": "value"}, {"static": mine})
    change = {"metadata": {"labels": {"patched": mine}}, "data": {"valueName": "value1"}}
    await cluster.patch(CONFIGMAPS, "c", change, content_type=STRATEGIC)
    (found,) = await labelled(cluster, CONFIGMAPS, f"patched={mine}", everywhere=True)
    assert (found["metadata"]["name"], found["metadata"]["namespace"]) == ("c", mine)
    assert (found["data"], found["metadata"]["labels"]["static"]) == ({"valueName": "value1"}, mine)
    await delete_collection(cluster, CONFIGMAPS, f"static={mine}")
    assert not await labelled(cluster, CONFIGMAPS, f"static={mine}")


@requirement("[sig-node] Secrets should patch a secret [Conformance]")
async def test_secret_lifecycle(cluster: Cluster) -> None:
    mine = cluster.namespace
    metadata = {"name": "s", "labels": {"constant": mine}}
    await cluster.create(SECRETS, {"metadata": metadata, "data": {"key": "dmFsdWU="}, "type": "Opaque"})
    (found,) = await labelled(cluster, SECRETS, f"constant={mine}", everywhere=True)
    assert (found["metadata"]["name"], found["metadata"]["namespace"]) == ("s", mine)
    changed = base64.b64encode(b"value1").decode()
    change = {"metadata": {"labels": {"patched": mine}}, "data": {"key": changed}}
    await cluster.patch(SECRETS, "s", change, content_type=STRATEGIC)
    found = await cluster.get(SECRETS, "s")
    assert (found["data"], found["type"]) == ({"key": changed}, "Opaque")
    await delete_collection(cluster, SECRETS, f"patched={mine}")
    assert not await labelled(cluster, SECRETS, f"constant={mine}", everywhere=True)


def _lease(holder: str, seconds: int, acquired: int, renewed: int, transitions: int) -> Object:
    return {
        "holderIdentity": holder,
        "leaseDurationSeconds": seconds,
        "acquireTime": f"0001-01-01T00:{acquired // 60:02}:{acquired % 60:02}.000000Z",
        "renewTime": f"0001-01-01T00:{renewed // 60:02}:{renewed % 60:02}.000000Z",
        "leaseTransitions": transitions,
    }


@requirement("[sig-node] Lease lease API should be available [Conformance]")
async def test_leases(cluster: Cluster) -> None:
    async def names() -> list[str]:
        return [each["metadata"]["name"] for each in (await cluster.client.list(LEASES, cluster.namespace)).items]

    spec = _lease("holder", 30, 2, 5, 0)
    made = await cluster.create(LEASES, {"metadata": {"name": "lease"}, "spec": spec})
    assert (await cluster.get(LEASES, "lease"))["spec"] == spec
    spec = _lease("holder2", 30, 20, 50, 1)
    await cluster.client.update(LEASES, made | {"spec": spec})
    assert (await cluster.get(LEASES, "lease"))["spec"] == spec
    spec = _lease("holder3", 60, 50, 70, 2)
    await cluster.patch(LEASES, "lease", {"spec": spec}, content_type=STRATEGIC)
    assert (await cluster.get(LEASES, "lease"))["spec"] == spec
    metadata = {"name": "lease2", "labels": {"collection": "true"}}
    await cluster.create(LEASES, {"metadata": metadata, "spec": _lease("holder", 30, 2, 5, 0)})
    assert sorted(await names()) == ["lease", "lease2"]
    await delete_collection(cluster, LEASES, "collection=true")
    assert await names() == ["lease"]
    await cluster.client.delete(LEASES, "lease", cluster.namespace)
    with pytest.raises(NotFound):
        await cluster.get(LEASES, "lease")
    assert (await cluster.client.list(LEASES)).items, "every kubelet has one"


def _template(name: str, **labels: str) -> Object:
    containers = [{"name": "nginx", "image": "nginx"}]
    return {"metadata": {"name": name, "labels": labels}, "template": {"spec": {"containers": containers}}}


@requirement("[sig-node] PodTemplates should run the lifecycle of PodTemplates [Conformance]")
async def test_pod_template_lifecycle(cluster: Cluster) -> None:
    selector = f"static={cluster.namespace}"
    assert not await labelled(cluster, PODTEMPLATES, selector, everywhere=True)
    await cluster.create(PODTEMPLATES, _template("t", static=cluster.namespace))
    assert (await cluster.get(PODTEMPLATES, "t"))["metadata"]["name"] == "t"
    await cluster.patch(PODTEMPLATES, "t", {"metadata": {"labels": {"podtemplate": "patched"}}}, content_type=STRATEGIC)
    found = await cluster.get(PODTEMPLATES, "t")
    assert found["metadata"]["labels"] == {"static": cluster.namespace, "podtemplate": "patched"}
    (found,) = await labelled(cluster, PODTEMPLATES, selector, everywhere=True)
    assert found["template"]["spec"]["containers"][0]["image"] == "nginx"
    await cluster.client.delete(PODTEMPLATES, "t", cluster.namespace)
    assert not await labelled(cluster, PODTEMPLATES, selector, everywhere=True)


@requirement("[sig-node] PodTemplates should replace a pod template [Conformance]")
async def test_pod_template_is_replaced(cluster: Cluster) -> None:
    made = await cluster.create(PODTEMPLATES, _template("t"))
    made["metadata"]["annotations"] = {"updated": "true"}
    assert (await cluster.client.update(PODTEMPLATES, made))["metadata"]["annotations"] == {"updated": "true"}
    assert (await cluster.get(PODTEMPLATES, "t"))["metadata"]["annotations"] == {"updated": "true"}


@requirement("[sig-node] PodTemplates should delete a collection of pod templates [Conformance]")
async def test_pod_templates_are_deleted_together(cluster: Cluster) -> None:
    for name in ("t1", "t2", "t3"):
        await cluster.create(PODTEMPLATES, _template(name, set="true"))
    assert len(await labelled(cluster, PODTEMPLATES, "set=true")) == 3
    await delete_collection(cluster, PODTEMPLATES, "set=true")
    assert not await labelled(cluster, PODTEMPLATES, "set=true")


@requirement("[sig-node] RuntimeClass should support RuntimeClasses API operations [Conformance]")
async def test_runtime_class_api(cluster: Cluster) -> None:
    mine = cluster.namespace

    def runtime_class(number: int) -> Object:
        name = f"{mine}-{number}"
        return {"metadata": {"name": name, "labels": {"test": mine}}, "handler": f"handler-{number}"}

    async def ask(path: str) -> Any:
        return await cluster.client.request("GET", path)

    groups = {group["name"]: group for group in (await ask("/apis"))["groups"]}
    for group in (groups["node.k8s.io"], await ask("/apis/node.k8s.io")):
        assert {"groupVersion": "node.k8s.io/v1", "version": "v1"} in group["versions"]
    served = {each["name"]: each for each in (await ask("/apis/node.k8s.io/v1"))["resources"]}
    verbs = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
    assert set(served["runtimeclasses"]["verbs"]) == verbs

    made = await cluster.create(RUNTIMECLASSES, runtime_class(1))
    name = made["metadata"]["name"]
    with pytest.raises(AlreadyExists):
        await cluster.create(RUNTIMECLASSES, runtime_class(1))
    await cluster.create(RUNTIMECLASSES, runtime_class(2))
    selector = f"test={mine}"
    async with watching(cluster, RUNTIMECLASSES, label_selector=selector) as watched:
        await cluster.create(RUNTIMECLASSES, runtime_class(3))
        assert (await cluster.get(RUNTIMECLASSES, name))["metadata"]["uid"] == made["metadata"]["uid"]
        assert len(await labelled(cluster, RUNTIMECLASSES, selector)) == 3
        patched = await cluster.patch(RUNTIMECLASSES, name, {"metadata": {"annotations": {"patched": "true"}}})
        assert patched["metadata"]["annotations"] == {"patched": "true"}
        patched["metadata"]["annotations"]["updated"] = "true"
        replaced = await cluster.client.update(RUNTIMECLASSES, patched)
        assert replaced["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
        await watched.one("ADDED", lambda seen: seen["metadata"]["name"] == f"{mine}-3")
        await watched.one("MODIFIED", lambda seen: seen["metadata"]["annotations"] == {"patched": "true"})
        await watched.one("MODIFIED", lambda seen: seen["metadata"]["annotations"].get("updated") == "true")
        await cluster.client.delete(RUNTIMECLASSES, name)
        await watched.one("DELETED", lambda seen: seen["metadata"]["uid"] == made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await cluster.get(RUNTIMECLASSES, name)
    assert len(await labelled(cluster, RUNTIMECLASSES, selector)) == 2
    await delete_collection(cluster, RUNTIMECLASSES, selector)
    assert not await labelled(cluster, RUNTIMECLASSES, selector)


@requirement("[sig-node] Node Lifecycle should run through the lifecycle of a node [Conformance]")
async def test_node_lifecycle(cluster: Cluster) -> None:
    name = f"fake-node-{cluster.namespace}"
    ready = {"type": "Ready", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
    node = {"metadata": {"name": name}, "spec": {"unschedulable": True}}
    made = await cluster.create(NODES, node | {"status": {"phase": "Running", "conditions": [ready]}})
    assert made["metadata"]["name"] == name
    assert int(made["metadata"]["resourceVersion"]) > 0
    assert (await cluster.get(NODES, name))["metadata"]["name"] == name
    patched = await cluster.patch(NODES, name, {"metadata": {"labels": {name: "patched"}}}, content_type=STRATEGIC)
    assert patched["metadata"]["labels"][name] == "patched"
    assert int(patched["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    assert len(await labelled(cluster, NODES, f"{name}=patched")) == 1

    changed = await replace(cluster, NODES, name, lambda node: node["metadata"]["labels"].update({name: "updated"}))
    assert changed["metadata"]["labels"][name] == "updated"
    await cluster.delete(NODES, name)
