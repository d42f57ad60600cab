"""Namespaces: changed like other objects, and gone with all that is in them, pods first."""

from __future__ import annotations

import time
from typing import Any

import pytest
import pytest_asyncio
from cluster import Cluster, eventually, requirement, shows, sleeper
from cluster import pod as a_pod
from objects import replace

from machinery.api.catalogue import CONFIGMAPS, NAMESPACES, PODS, SERVICEACCOUNTS, SERVICES
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.client.rest import STRATEGIC
from machinery.errors import NotFound

pytest_plugins = ["cluster_fixture"]


@pytest_asyncio.fixture
async def name(cluster: Cluster) -> str:
    """A namespace for the test to change and to delete."""
    made = await cluster.create(NAMESPACES, {"metadata": {"name": f"{cluster.namespace}-more"}})
    name = str(made["metadata"]["name"])

    async def accounts() -> bool:
        return bool((await cluster.client.list(SERVICEACCOUNTS, name)).items)

    await eventually(accounts, "the default service account")
    return name


@pytest.mark.parametrize(
    ("resource", "obj"),
    [
        shows(
            PODS,
            a_pod("test", sleeper()),
            name="[sig-api-machinery] Namespaces [Serial] should ensure that all pods are removed when a namespace is deleted [Conformance]",
        ),
        shows(
            SERVICES,
            {"metadata": {"name": "test"}, "spec": {"selector": {"foo": "bar"}, "ports": [{"port": 80}]}},
            name="[sig-api-machinery] Namespaces [Serial] should ensure that all services are removed when a namespace is deleted [Conformance]",
        ),
    ],
)
async def test_what_is_in_a_namespace_goes_with_it(
    cluster: Cluster, name: str, resource: ResourceType, obj: Object
) -> None:
    another = Cluster(cluster.lab, cluster.client, name)
    await (another.start(obj) if resource == PODS else another.create(resource, obj))
    await cluster.delete(NAMESPACES, name)
    await cluster.create(NAMESPACES, {"metadata": {"name": name}})
    with pytest.raises(NotFound):
        await another.get(resource, "test")
    assert (await cluster.client.list(resource, name)).items == []
    await cluster.delete(NAMESPACES, name)


@requirement("[sig-api-machinery] Namespaces [Serial] should patch a Namespace [Conformance]")
async def test_patch(cluster: Cluster, name: str) -> None:
    patch = {"metadata": {"labels": {"testLabel": "testValue"}}}
    await cluster.patch(NAMESPACES, name, patch, content_type=STRATEGIC)
    assert (await cluster.get(NAMESPACES, name))["metadata"]["labels"]["testLabel"] == "testValue"
    await cluster.delete(NAMESPACES, name)


@requirement("[sig-api-machinery] Namespaces [Serial] should apply an update to a Namespace [Conformance]")
async def test_update(cluster: Cluster, name: str) -> None:
    def label(found: Object) -> None:
        found["metadata"]["labels"][name] = "updated"

    updated = await replace(cluster, NAMESPACES, name, label)
    assert updated["metadata"]["labels"][name] == "updated"
    await cluster.delete(NAMESPACES, name)


@requirement("[sig-api-machinery] Namespaces [Serial] should apply changes to a namespace status [Conformance]")
async def test_status(cluster: Cluster, name: str) -> None:
    read = await cluster.client.get(NAMESPACES, name, subresource="status")
    assert read["status"]["phase"] == "Active"
    patch = {
        "metadata": {"annotations": {"e2e-patched-ns-status": name}},
        "status": {"conditions": [_condition("StatusPatch", "Patched by an e2e test")]},
    }
    patched = await cluster.patch(NAMESPACES, name, patch, subresource="status")
    assert [each["type"] for each in patched["status"]["conditions"]] == ["StatusPatch"]
    assert patched["metadata"]["annotations"]["e2e-patched-ns-status"] == name

    def add(found: Object) -> None:
        found["status"]["conditions"].append(_condition("StatusUpdate", "Updated by an e2e test"))

    updated = await replace(cluster, NAMESPACES, name, add, subresource="status")
    assert [each["type"] for each in updated["status"]["conditions"]] == ["StatusPatch", "StatusUpdate"]
    assert updated["status"]["conditions"][1]["message"] == "Updated by an e2e test"
    await cluster.delete(NAMESPACES, name)


def _condition(kind: str, message: str) -> Object:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"type": kind, "status": "True", "reason": "E2E", "message": message, "lastTransitionTime": now}


@requirement("[sig-api-machinery] Namespaces [Serial] should apply a finalizer to a Namespace [Conformance]")
async def test_finalizer(cluster: Cluster, name: str) -> None:
    finalizer = "e2e.example.com/fakeFinalizer"
    kubernetes = {"kubernetes"}

    async def finalize(change: Any) -> Object:
        found = await cluster.get(NAMESPACES, name)
        change(found["spec"]["finalizers"])
        return await cluster.client.request("PUT", NAMESPACES.path(name=name, subresource="finalize"), body=found)

    assert set((await cluster.get(NAMESPACES, name))["spec"]["finalizers"]) == kubernetes
    made = await finalize(lambda finalizers: finalizers.append(finalizer))
    assert set(made["spec"]["finalizers"]) == kubernetes | {finalizer}
    made = await finalize(lambda finalizers: finalizers.remove(finalizer))
    assert set(made["spec"]["finalizers"]) == kubernetes
    await cluster.delete(NAMESPACES, name)


@requirement("[sig-api-machinery] OrderedNamespaceDeletion namespace deletion should delete pod first [Conformance]")
async def test_pods_go_first(cluster: Cluster, name: str) -> None:
    another = Cluster(cluster.lab, cluster.client, name)
    held = a_pod("held", sleeper())
    held["metadata"]["finalizers"] = ["e2e.example.com/finalizer"]
    await another.start(held)
    await another.create(CONFIGMAPS, {"metadata": {"name": "test-configmap"}})
    await cluster.client.delete(NAMESPACES, name)

    def waits_for_the_pod(found: Object) -> bool:
        told = {each["type"]: each for each in found["status"].get("conditions", ())}
        remaining = told.get("NamespaceContentRemaining", {})
        return remaining.get("status") == "True" and "pods. has 1 resource instances" in remaining["message"]

    await cluster.object_that(NAMESPACES, name, waits_for_the_pod, "waits for the pod")
    assert (await another.get(PODS, "held"))["metadata"]["deletionTimestamp"]
    assert "deletionTimestamp" not in (await another.get(CONFIGMAPS, "test-configmap"))["metadata"]
    await another.patch(PODS, "held", {"metadata": {"finalizers": None}})

    async def gone() -> bool:
        return name not in {each["metadata"]["name"] for each in (await cluster.client.list(NAMESPACES)).items}

    await eventually(gone, "the namespace is gone")
    with pytest.raises(NotFound):
        await another.get(CONFIGMAPS, "test-configmap")
