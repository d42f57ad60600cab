"""Volumes, devices and claims of plugins, from their registration to the end of the pods that use them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from kubelet_node import NODE, TestNode, box, container_status, eventually, running_node, shell
from kubelet_plugins import CsiPlugin, DevicePlugin, DraPlugin

from agent.kubelet import mounts
from agent.kubelet.plugins.api import podresources_pb2 as podresources
from machinery.api.catalogue import (
    CSIDRIVERS,
    CSINODES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    RESOURCECLAIMS,
    VOLUMEATTACHMENTS,
)
from machinery.api.meta import Object
from machinery.client.rest import MERGE

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[TestNode]:
    async with running_node() as made:
        yield made


def _directory(node: TestNode, name: str) -> Path:
    return node.directory / "kubelet" / name


async def _make(node: TestNode, kind: Any, name: str, **fields: Any) -> Object:
    metadata = {"name": name} | ({"namespace": node.namespace} if kind.namespaced else {})
    obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **fields}
    return await node.client.create(kind, obj)


async def _bound_claim(node: TestNode, name: str, source: Object, *, mode: str = "Filesystem") -> Object:
    """A claim bound to a volume of this source, as the controllers would have bound them."""
    size = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteOnce"], "volumeMode": mode, "storageClassName": ""}
    claim = await _make(
        node,
        PERSISTENTVOLUMECLAIMS,
        name,
        spec={**common, "resources": {"requests": size}, "volumeName": f"pv-{name}"},
    )
    reference = {"namespace": node.namespace, "name": name, "uid": claim["metadata"]["uid"]}
    volume = {**common, "capacity": size, "claimRef": reference, **source}
    made = await _make(node, PERSISTENTVOLUMES, f"pv-{name}", spec=volume)
    status = {"status": {"phase": "Bound", "capacity": size}}
    await node.client.patch(
        PERSISTENTVOLUMECLAIMS, name, status, node.namespace, content_type=MERGE, subresource="status"
    )
    return made


async def test_csi_volume_from_attachment_to_unstaging(node: TestNode) -> None:
    """CSIInlineVolumes, and persistent volumes of a CSI driver."""
    async with CsiPlugin(node.directory / "csi-volumes").running(_directory(node, "plugins_registry")) as plugin:

        async def registered() -> bool:
            return bool(plugin.told)

        await eventually(registered, "the driver to be registered")
        assert plugin.told[0].plugin_registered, plugin.told[0].error
        shown = (await node.client.get(CSINODES, NODE))["spec"]["drivers"]
        assert [(d["name"], d["nodeID"], d["allocatable"]) for d in shown] == [(plugin.name, "node-1", {"count": 7})]
        await _make(node, CSIDRIVERS, plugin.name, spec={"podInfoOnMount": True, "fsGroupPolicy": "File"})
        source = {"csi": {"driver": plugin.name, "volumeHandle": "vol-1", "volumeAttributes": {"k": "v"}}}
        volume = await _bound_claim(node, "data", source)
        pod = {
            "securityContext": {"fsGroup": 2222},
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}],
            "containers": [shell("echo kept > /d/f; sleep 3600", volumeMounts=[{"name": "d", "mountPath": "/d"}])],
        }
        name = await node.create(pod)
        assert "is not attached yet" in await node.wait_event(name, "FailedAttachVolume")
        await _attach(node, volume)
        await node.wait_ready(name, 40)
        assert plugin.names() == ["stage", "publish"]
        published = plugin.calls[1][1]
        assert published.volume_context["csi.storage.k8s.io/pod.name"] == name
        assert published.volume_context["k"] == "v"
        assert published.publish_context["where"] == "here"
        stat = await node.run_in(name, "stat", "-c", "%g %a", "/d")
        assert stat.split()[0] == "2222"
        assert (await node.client.get(NODES, NODE))["status"].get("volumesInUse") is not None or await _in_use(node)
        await _grow(node, volume)

        async def grown() -> bool:
            claim = await node.client.get(PERSISTENTVOLUMECLAIMS, "data", node.namespace)
            return bool(claim["status"]["capacity"]["storage"] == "2Gi")

        await node.client.patch(
            PODS, name, {"metadata": {"annotations": {"look": "again"}}}, node.namespace, content_type=MERGE
        )
        await eventually(grown, "the claim to have grown")
        await node.delete(name)
        assert plugin.names()[-2:] == ["unpublish", "unstage"]
        assert (node.directory / "csi-volumes" / "vol-1" / "f").read_text() == "kept\n"
        assert not list(mounts.below(str(_directory(node, "pods"))))


async def _in_use(node: TestNode) -> bool:
    async def shown() -> bool:
        return bool((await node.client.get(NODES, NODE))["status"].get("volumesInUse"))

    return await eventually(shown, "the volume to be shown in use")


async def _attach(node: TestNode, volume: Object) -> None:
    handle, driver = volume["spec"]["csi"]["volumeHandle"], volume["spec"]["csi"]["driver"]
    name = "csi-" + hashlib.sha256(f"{handle}{driver}{NODE}".encode()).hexdigest()
    wanted = {"attacher": driver, "nodeName": NODE, "source": {"persistentVolumeName": volume["metadata"]["name"]}}
    await _make(node, VOLUMEATTACHMENTS, name, spec=wanted)
    status = {"status": {"attached": True, "attachmentMetadata": {"where": "here"}}}
    await node.client.patch(VOLUMEATTACHMENTS, name, status, content_type=MERGE, subresource="status")


async def _grow(node: TestNode, volume: Object) -> None:
    size = {"spec": {"capacity": {"storage": "2Gi"}}}
    await node.client.patch(PERSISTENTVOLUMES, volume["metadata"]["name"], size, content_type=MERGE)


async def test_devices_are_counted_given_and_taken_back(node: TestNode) -> None:
    wanted = {"limits": {DevicePlugin.resource: "1"}}
    async with DevicePlugin().running(_directory(node, "device-plugins")) as plugin:

        async def allocatable(count: str) -> bool:
            status = (await node.client.get(NODES, NODE))["status"]
            shown = [status[section].get(plugin.resource) for section in ("capacity", "allocatable")]
            return shown == ["2", count]

        await eventually(lambda: allocatable("2"), "two devices to be shown")
        script = "echo $THINGS; head -c 1 /dev/thing | wc -c; sleep 3600"
        first = await node.create({"containers": [shell(script, resources=wanted)]})
        await node.wait_ready(first)
        assert (await node.logs(first)).split() == [plugin.allocated[0][0], "1"]
        shown = await _pod_resources(node)
        entry = next(p for p in shown.pod_resources if p.name == first).containers[0]
        assert [(d.resource_name, list(d.device_ids)) for d in entry.devices] == [
            (plugin.resource, plugin.allocated[0])
        ]
        left = ({"thing-a", "thing-b"} - set(plugin.allocated[0])).pop()
        plugin.change(left, "Unhealthy")
        await eventually(lambda: allocatable("1"), "one device to be shown as usable")
        second = await node.create({"containers": [box("sleep", "3600", resources=wanted)]})
        pod = await node.wait_phase(second, "Failed")
        assert pod["status"]["reason"] in ("UnexpectedAdmissionError", f"OutOf{plugin.resource}")
        await node.delete(second)
        plugin.change(left, "Healthy")
        await eventually(lambda: allocatable("2"), "both devices to be usable again")
        third = await node.create({"containers": [shell(script, resources=wanted)]})
        await node.wait_ready(third)
        assert (await node.logs(third)).split()[0] == left
        await node.delete(first)
        plugin.refuses = True
        refused = await node.create({"containers": [box("sleep", "3600", resources=wanted)]})
        status = (await node.wait_phase(refused, "Failed"))["status"]
        assert status["reason"] == "UnexpectedAdmissionError"
        assert "no containers return in allocation response" in status["message"]
        for name in (refused, third):
            await node.delete(name)
    await eventually(lambda: allocatable("0"), "no device to be usable without its plugin")


async def _pod_resources(node: TestNode) -> Any:
    async with grpc.aio.insecure_channel(f"unix:{_directory(node, 'pod-resources')}/kubelet.sock") as channel:
        ask = channel.unary_unary(
            "/v1.PodResourcesLister/List",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=podresources.ListPodResourcesResponse.FromString,
        )
        return await ask(podresources.ListPodResourcesRequest())


async def test_claims_are_prepared_before_and_given_back_after(node: TestNode) -> None:
    async with DraPlugin().running(_directory(node, "plugins_registry")) as plugin:

        async def registered() -> bool:
            return bool(plugin.told)

        await eventually(registered, "the driver to be registered")
        assert plugin.told[0].plugin_registered, plugin.told[0].error
        claim = await _make(
            node,
            RESOURCECLAIMS,
            "claim",
            spec={"devices": {"requests": [{"name": "req", "exactly": {"deviceClassName": "c"}}]}},
        )
        name = await node.create(
            {
                "resourceClaims": [{"name": "r", "resourceClaimName": "claim"}],
                "containers": [box("sleep", "3600", resources={"claims": [{"name": "r"}]})],
            }
        )
        assert "not allocated" in await node.wait_event(name, "FailedPrepareDynamicResources")
        pod = await node.get(name)
        result = {"request": "req", "driver": plugin.name, "pool": "pool", "device": "dev-1"}
        user = {"resource": "pods", "name": name, "uid": pod["metadata"]["uid"]}
        status = {"status": {"allocation": {"devices": {"results": [result]}}, "reservedFor": [user]}}
        await node.client.patch(
            RESOURCECLAIMS, "claim", status, node.namespace, content_type=MERGE, subresource="status"
        )
        await node.wait_ready(name)
        assert plugin.prepared == ["claim"]
        entry = next(p for p in (await _pod_resources(node)).pod_resources if p.name == name).containers[0]
        assert [r.claim_name for r in entry.dynamic_resources] == ["claim"]
        assert container_status(await node.get(name))["ready"]
        await node.delete(name)
        assert plugin.released == ["claim"]
        assert claim["metadata"]["name"] == "claim"


async def test_a_claim_for_extended_resources_is_prepared_too(node: TestNode) -> None:
    """The scheduler makes it, and says in the pod's status which container uses it."""
    async with DraPlugin().running(_directory(node, "plugins_registry")) as plugin:

        async def registered() -> bool:
            return bool(plugin.told)

        await eventually(registered, "the driver to be registered")
        request = {"name": "req", "exactly": {"deviceClassName": "c"}}
        await _make(node, RESOURCECLAIMS, "special", spec={"devices": {"requests": [request]}})
        limits = {"limits": {"example.com/other": "1"}}
        name = await node.create({"containers": [box("sleep", "3600", resources=limits)], "nodeName": ""})
        pod = await node.get(name)
        uses = {
            "containerName": pod["spec"]["containers"][0]["name"],
            "resourceName": "example.com/other",
            "requestName": "req",
        }
        told = {"status": {"extendedResourceClaimStatus": {"resourceClaimName": "special", "requestMappings": [uses]}}}
        await node.client.patch(PODS, name, told, node.namespace, content_type=MERGE, subresource="status")
        result = {"request": "req", "driver": plugin.name, "pool": "pool", "device": "dev-1"}
        user = {"resource": "pods", "name": name, "uid": pod["metadata"]["uid"]}
        status = {"status": {"allocation": {"devices": {"results": [result]}}, "reservedFor": [user]}}
        await node.client.patch(
            RESOURCECLAIMS, "special", status, node.namespace, content_type=MERGE, subresource="status"
        )
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"name": NODE}}
        await node.client.create_subresource(PODS, name, "binding", binding, node.namespace)
        await node.wait_ready(name)
        assert plugin.prepared == ["special"]
        entry = next(p for p in (await _pod_resources(node)).pod_resources if p.name == name).containers[0]
        assert [(r.claim_name, [d.device_name for d in r.claim_resources]) for r in entry.dynamic_resources] == [
            ("special", ["dev-1"])
        ]
        assert (await node.get(name))["status"]["extendedResourceClaimStatus"]["resourceClaimName"] == "special"
        await node.delete(name)
        assert plugin.released == ["special"]
