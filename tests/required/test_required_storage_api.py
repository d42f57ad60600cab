"""The lives of the kinds of storage.k8s.io, of volumes and of claims."""

from __future__ import annotations

import contextlib
import secrets
from typing import Any

import pytest
from cluster import Cluster, container, eventually, pod, requirement, shows
from objects import delete_collection, replace
from operations import Kind, contains, operate
from volumes import mount

from machinery.api.catalogue import (
    CSIDRIVERS,
    CSINODES,
    CSISTORAGECAPACITIES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    STORAGECLASSES,
    VOLUMEATTACHMENTS,
    VOLUMEATTRIBUTESCLASSES,
)
from machinery.api.meta import Object, name_of
from machinery.api.resource import ResourceType
from machinery.client.rest import MERGE, STRATEGIC
from machinery.errors import AlreadyExists, NotFound

pytest_plugins = ["cluster_fixture"]


async def labelled(cluster: Cluster, resource: ResourceType, key: str, value: str) -> list[Object]:
    return (await cluster.client.list(resource, label_selector=f"{key}={value}")).items


async def none_labelled(cluster: Cluster, resource: ResourceType, key: str, value: str) -> None:
    async def none() -> bool:
        return not await labelled(cluster, resource, key, value)

    await eventually(none, f"no {resource.plural} with {key}={value}", 30)


async def patch_label(cluster: Cluster, resource: ResourceType, made: Object, content_type: str) -> Object:
    """Label an object with its own name."""
    name = name_of(made)
    before = await cluster.get(resource, name)
    assert before["metadata"]["uid"] == made["metadata"]["uid"]
    patch = {"metadata": {"labels": {name: "patched"}}}
    patched = await cluster.patch(resource, name, patch, content_type=content_type)
    assert patched["metadata"]["labels"][name] == "patched"
    assert int(patched["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])
    return patched


async def update_label(cluster: Cluster, resource: ResourceType, name: str, key: str) -> None:
    updated = await replace(
        cluster, resource, name, lambda found: found["metadata"].setdefault("labels", {}).update({key: "updated"})
    )
    assert updated["metadata"]["labels"][key] == "updated"


async def through_its_life(cluster: Cluster, resource: ResourceType, body: Object, content_type: str) -> None:
    """One is patched and deleted; others are updated and deleted together."""
    key = f"e2e-{secrets.token_hex(4)}"

    async def make(serial: int) -> str:
        obj = {**body, "metadata": {"name": f"{key}-{serial}", "labels": {"e2e": key}}}
        made = await cluster.create(resource, obj)
        assert contains(made, obj)
        with pytest.raises(AlreadyExists):
            await cluster.create(resource, obj)
        return name_of(made)

    first = await make(1)
    await patch_label(cluster, resource, await cluster.get(resource, first), content_type)
    assert len(await labelled(cluster, resource, first, "patched")) == 1
    await cluster.client.delete(resource, first)
    await none_labelled(cluster, resource, first, "patched")
    for serial in (2, 3):
        await update_label(cluster, resource, await make(serial), key)
    assert len(await labelled(cluster, resource, key, "updated")) == 2
    await delete_collection(cluster, resource, f"{key}=updated")
    await none_labelled(cluster, resource, key, "updated")


@pytest.mark.parametrize(
    ("resource", "body", "content_type"),
    [
        shows(STORAGECLASSES, {"provisioner": "e2e-fake-provisioner"}, STRATEGIC, name="[sig-storage] StorageClasses CSI Conformance should run through the lifecycle of a StorageClass [Conformance]"),
        shows(VOLUMEATTRIBUTESCLASSES, {"driverName": "e2e-fake-csi-driver", "parameters": {"foo": "bar"}}, STRATEGIC, name="[sig-storage] VolumeAttributesClass [FeatureGate:VolumeAttributesClass] should run through the lifecycle of a VolumeAttributesClass [Conformance]"),
        shows(CSINODES, {"spec": {"drivers": None}}, STRATEGIC, name="[sig-storage] CSINodes CSI Conformance should run through the lifecycle of a csinode [Conformance]"),
        shows(CSIDRIVERS, {"spec": {"volumeLifecycleModes": ["Persistent", "Ephemeral"], "fsGroupPolicy": "ReadWriteOnceWithFSType"}}, STRATEGIC, name="[sig-storage] CSIInlineVolumes should run through the lifecycle of a CSIDriver [Conformance]"),
    ],
)  # fmt: skip
async def test_a_kind_is_lived_through(
    cluster: Cluster, resource: ResourceType, body: Object, content_type: str
) -> None:
    await through_its_life(cluster, resource, body, content_type)


async def attachment(cluster: Cluster) -> Object:
    node = name_of((await cluster.client.list(NODES)).items[-1])
    source = {"persistentVolumeName": f"pv-{cluster.namespace}"}
    spec = {"attacher": "e2e-test.storage.k8s.io", "nodeName": node, "source": source}
    return {"spec": spec, "status": {"attached": False}}


@requirement(
    "[sig-storage] VolumeAttachment Conformance should run through the lifecycle of a VolumeAttachment [Conformance]"
)
async def test_an_attachment_is_lived_through(cluster: Cluster) -> None:
    await through_its_life(cluster, VOLUMEATTACHMENTS, await attachment(cluster), MERGE)


@requirement(
    "[sig-storage] VolumeAttachment Conformance should apply changes to a volumeattachment status [Conformance]"
)
async def test_an_attachments_status_is_changed(cluster: Cluster) -> None:
    name = f"va-{cluster.namespace}"
    made = await cluster.create(
        VOLUMEATTACHMENTS, {**await attachment(cluster), "metadata": {"name": name, "uid": name}}
    )
    await patch_label(cluster, VOLUMEATTACHMENTS, made, MERGE)
    read = await cluster.client.get(VOLUMEATTACHMENTS, name, subresource="status")
    assert (read["kind"], read["status"]["attached"]) == ("VolumeAttachment", False)
    patched = await cluster.patch(VOLUMEATTACHMENTS, name, {"status": {"attached": True}}, subresource="status")
    assert patched["status"]["attached"] is True
    updated = await replace(
        cluster, VOLUMEATTACHMENTS, name, lambda found: found["status"].update(attached=False), subresource="status"
    )
    assert updated["status"]["attached"] is False
    await cluster.client.delete(VOLUMEATTACHMENTS, name)
    await none_labelled(cluster, VOLUMEATTACHMENTS, name, "patched")


@requirement("[sig-storage] CSIStorageCapacity should support CSIStorageCapacities API operations [Conformance]")
async def test_capacities_are_operated_on(cluster: Cluster) -> None:
    await operate(cluster, Kind(CSISTORAGECAPACITIES, {"storageClassName": "e2e.example.com"}))
    csc = {"metadata": {"name": "twice"}, "storageClassName": "e2e.example.com"}
    await cluster.create(CSISTORAGECAPACITIES, csc)
    with pytest.raises(AlreadyExists):
        await cluster.create(CSISTORAGECAPACITIES, csc)


@requirement("[sig-storage] CSIInlineVolumes should support CSIVolumeSource in Pod API [Conformance]")
async def test_a_pod_has_inline_volumes(cluster: Cluster) -> None:
    volumes: list[Object] = [
        {"name": "vol1", "csi": {"driver": "e2e.example.com"}},
        {"name": "vol2", "csi": {"driver": "e2e.example.com", "fsType": "ext4", "readOnly": True}},
    ]
    mounts = [mount("/mnt/vol1", "vol1"), mount("/mnt/vol2", "vol2")]
    body = pod("inline", container("sh", "-c", "ls /mnt/*", volumeMounts=mounts), volumes=volumes)
    made = await cluster.create(PODS, body)
    assert contains(dict(enumerate(made["spec"]["volumes"])), dict(enumerate(volumes)))
    with pytest.raises(AlreadyExists):
        await cluster.create(PODS, body)
    found = await cluster.get(PODS, "inline")
    assert found["metadata"]["uid"] == made["metadata"]["uid"]
    assert len((await cluster.client.list(PODS, cluster.namespace)).items) == 1
    patched = await cluster.patch(PODS, "inline", {"metadata": {"annotations": {"patched": "true"}}})
    assert patched["metadata"]["annotations"]["patched"] == "true"
    await cluster.client.delete(PODS, "inline", cluster.namespace)
    with contextlib.suppress(NotFound):
        assert "deletionTimestamp" in (await cluster.get(PODS, "inline"))["metadata"]


async def volume_and_claim(cluster: Cluster) -> tuple[Object, Object]:
    """Made for each other by their class, which is the namespace's name."""
    csi = {"driver": f"inline-driver-{cluster.namespace}", "volumeHandle": "e2e-conformance"}
    labels = {"e2e-pv-pool": cluster.namespace}
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
        "capacity": {"storage": "2Gi"},
        "csi": csi,
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": cluster.namespace,
    }
    volume = {"metadata": {"generateName": f"{cluster.namespace}-", "labels": labels}, "spec": spec}
    claim = {
        "metadata": {"generateName": "pvc-"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "2Gi"}},
            "storageClassName": cluster.namespace,
        },
    }
    return await cluster.create(PERSISTENTVOLUMES, volume), await cluster.create(PERSISTENTVOLUMECLAIMS, claim)


async def bound(cluster: Cluster, volume: Object, claim: Object) -> None:
    for resource, obj in ((PERSISTENTVOLUMES, volume), (PERSISTENTVOLUMECLAIMS, claim)):
        await cluster.object_that(resource, name_of(obj), lambda o: o["status"].get("phase") == "Bound", "bound")


@requirement(
    "[sig-storage] PersistentVolumes CSI Conformance should run through the lifecycle of a PV and a PVC [Conformance]"
)
async def test_a_volume_and_its_claim_are_lived_through(cluster: Cluster) -> None:
    client, pool = cluster.client, ("e2e-pv-pool", cluster.namespace)
    volume, claim = await volume_and_claim(cluster)
    assert [name_of(each) for each in await labelled(cluster, PERSISTENTVOLUMES, *pool)] == [name_of(volume)]
    assert len((await client.list(PERSISTENTVOLUMECLAIMS, cluster.namespace)).items) == 1
    await bound(cluster, volume, claim)
    await patch_label(cluster, PERSISTENTVOLUMES, volume, STRATEGIC)
    await patch_label(cluster, PERSISTENTVOLUMECLAIMS, claim, STRATEGIC)
    await client.delete(PERSISTENTVOLUMECLAIMS, name_of(claim), cluster.namespace)

    async def no_claims() -> bool:
        return not (await client.list(PERSISTENTVOLUMECLAIMS, cluster.namespace)).items

    await eventually(no_claims, "no claims", 30)
    await client.delete(PERSISTENTVOLUMES, name_of(volume))
    await none_labelled(cluster, PERSISTENTVOLUMES, *pool)
    volume, claim = await volume_and_claim(cluster)
    await update_label(cluster, PERSISTENTVOLUMES, name_of(volume), name_of(volume))
    await update_label(cluster, PERSISTENTVOLUMECLAIMS, name_of(claim), name_of(claim))
    assert len(await labelled(cluster, PERSISTENTVOLUMECLAIMS, name_of(claim), "updated")) == 1
    await delete_collection(cluster, PERSISTENTVOLUMECLAIMS, f"{name_of(claim)}=updated")
    await none_labelled(cluster, PERSISTENTVOLUMECLAIMS, name_of(claim), "updated")
    await delete_collection(cluster, PERSISTENTVOLUMES, f"{name_of(volume)}=updated")
    await none_labelled(cluster, PERSISTENTVOLUMES, name_of(volume), "updated")


@requirement("[sig-storage] PersistentVolumes CSI Conformance should apply changes to a pv/pvc status [Conformance]")
async def test_the_statuses_of_a_volume_and_its_claim_are_changed(cluster: Cluster) -> None:
    volume, claim = (name_of(each) for each in await volume_and_claim(cluster))
    read = await cluster.client.get(PERSISTENTVOLUMECLAIMS, claim, cluster.namespace, subresource="status")
    assert read["status"]["phase"] in ("Pending", "Bound")
    read = await cluster.client.get(PERSISTENTVOLUMES, volume, subresource="status")
    assert read["status"]["phase"] in ("Available", "Bound", "Pending")
    condition = {
        "type": "StatusPatched",
        "status": "True",
        "reason": "E2E patchedStatus",
        "message": "Set from e2e test",
    }
    patched = await cluster.patch(
        PERSISTENTVOLUMECLAIMS, claim, {"status": {"conditions": [condition]}}, subresource="status"
    )
    assert any(contains(each, condition) for each in patched["status"]["conditions"])
    told = {"message": "StatusPatched", "reason": "E2E patchStatus"}
    patched = await cluster.patch(PERSISTENTVOLUMES, volume, {"status": told}, subresource="status")
    assert contains(patched["status"], told)

    another = condition | {"type": "StatusUpdated", "reason": "E2E updateStatus"}
    updated = await replace(
        cluster,
        PERSISTENTVOLUMECLAIMS,
        claim,
        lambda found: found["status"].setdefault("conditions", []).append(another),
        subresource="status",
    )
    assert any(contains(each, another) for each in updated["status"]["conditions"])
    told = {"message": "StatusUpdated", "reason": "E2E updateStatus"}
    updated = await replace(
        cluster, PERSISTENTVOLUMES, volume, lambda found: found["status"].update(told), subresource="status"
    )
    assert contains(updated["status"], told)
    await cluster.delete(PERSISTENTVOLUMECLAIMS, claim)
    await cluster.delete(PERSISTENTVOLUMES, volume)
