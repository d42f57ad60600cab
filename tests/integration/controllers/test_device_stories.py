"""Attachments of volumes, claims of devices and their taints against a real API server."""

from __future__ import annotations

from controllers_cluster import Cluster, pod_template, story

from machinery.api.catalogue import (
    CSIDRIVERS,
    CSINODES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    RESOURCECLAIMS,
    RESOURCECLAIMTEMPLATES,
    RESOURCESLICES,
    SERVICEACCOUNTS,
    VOLUMEATTACHMENTS,
)
from machinery.api.meta import Object, annotations_of, condition, controller_of, is_deleting, name_of, uid_of

DRIVER = "disk.example.com"


async def disk(cluster: Cluster) -> None:
    """A CSI volume bound to a claim called c, its driver, and a node that has it."""
    admin = cluster.admin
    managed = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
    for name in ("n1", "n2"):
        node = await cluster.node(name, annotations=managed)
        reference = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid_of(node)}
        drivers = [{"name": DRIVER, "nodeID": name}]
        await admin.create(
            CSINODES, {"metadata": {"name": name, "ownerReferences": [reference]}, "spec": {"drivers": drivers}}
        )
    await admin.create(CSIDRIVERS, {"metadata": {"name": DRIVER}, "spec": {"attachRequired": True}})
    size = {"storage": "1Gi"}
    volume = {
        "capacity": size,
        "accessModes": ["ReadWriteOnce"],
        "csi": {"driver": DRIVER, "volumeHandle": "h"},
        "claimRef": {"namespace": "default", "name": "c"},
    }
    await admin.create(PERSISTENTVOLUMES, {"metadata": {"name": "pv"}, "spec": volume})
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": size},
        "storageClassName": "",
        "volumeName": "pv",
    }
    await admin.create(PERSISTENTVOLUMECLAIMS, {"metadata": {"name": "c"}, "spec": claim}, "default")
    await cluster.object(PERSISTENTVOLUMECLAIMS, "c", lambda c: c["status"].get("phase") == "Bound")


def user(name: str, node: str) -> Object:
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}
    return {"metadata": {"name": name}, "spec": {**pod_template()["spec"], "nodeName": node, "volumes": [volume]}}


async def test_volumes_are_attached_and_detached_and_never_in_two_places() -> None:
    names = "attachdetach,persistentvolume-binder,serviceaccount"
    async with story(names, hollow=False) as cluster:
        admin = cluster.admin
        await disk(cluster)
        await cluster.object(SERVICEACCOUNTS, "default", bool)
        await admin.create(PODS, user("a", "n1"), "default")
        (attachment,) = await cluster.until(VOLUMEATTACHMENTS, bool)
        assert name_of(attachment).startswith("csi-")
        assert attachment["spec"] == {
            "attacher": DRIVER,
            "nodeName": "n1",
            "source": {"persistentVolumeName": "pv"},
        }
        await cluster.status(VOLUMEATTACHMENTS, name_of(attachment), {"attached": True}, "")
        attached = {"name": f"kubernetes.io/csi/{DRIVER}^h", "devicePath": ""}
        await cluster.object(NODES, "n1", lambda n: n["status"].get("volumesAttached") == [attached], "")
        event = await cluster.event("SuccessfulAttachVolume")
        assert event["message"] == 'AttachVolume.Attach succeeded for volume "pv" '
        await admin.patch(NODES, "n1", {"status": {"volumesInUse": [attached["name"]]}}, subresource="status")

        await admin.create(PODS, user("b", "n2"), "default")
        event = await cluster.event("FailedAttachVolume")
        assert event["message"] == 'Multi-Attach error for volume "pv" Volume is already used by pod(s) a'

        await admin.delete(PODS, "a", "default", grace_seconds=0)
        await admin.patch(NODES, "n1", {"metadata": {"labels": {"seen": "true"}}})
        found = (await admin.list(VOLUMEATTACHMENTS)).items
        assert [a["spec"]["nodeName"] for a in found] == ["n1"], "the node still uses it"
        await admin.patch(NODES, "n1", {"status": {"volumesInUse": None}}, subresource="status")
        await cluster.until(VOLUMEATTACHMENTS, lambda found: [a["spec"]["nodeName"] for a in found] == ["n2"])
        await cluster.object(NODES, "n1", lambda n: not n["status"].get("volumesAttached"), "")


async def test_claims_are_made_for_pods_freed_after_them_and_taints_drive_pods_out() -> None:
    names = "resourceclaim-controller,device-taint-eviction-controller,serviceaccount,garbagecollector"
    async with story(names, hollow=False) as cluster:
        admin = cluster.admin
        await cluster.object(SERVICEACCOUNTS, "default", bool)
        requests = {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}
        template = {"metadata": {"name": "t"}, "spec": {"spec": {"devices": requests}}}
        await admin.create(RESOURCECLAIMTEMPLATES, template, "default")
        wanted = [{"name": "gpu", "resourceClaimTemplateName": "t"}]
        spec = {**pod_template()["spec"], "resourceClaims": wanted}
        pod = await admin.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
        (claim,) = await cluster.until(RESOURCECLAIMS, bool, "default")
        assert (controller_of(claim) or {})["uid"] == uid_of(pod)
        assert annotations_of(claim)["resource.kubernetes.io/pod-claim-name"] == "gpu"
        assert name_of(claim).startswith("p-gpu-")
        told = await cluster.object(PODS, "p", lambda p: p["status"].get("resourceClaimStatuses"))
        assert told["status"]["resourceClaimStatuses"] == [{"name": "gpu", "resourceClaimName": name_of(claim)}]

        device = {"request": "r", "driver": "gpu.example.com", "pool": "n1", "device": "gpu-0"}
        status = {
            "allocation": {"devices": {"results": [device]}},
            "reservedFor": [{"resource": "pods", "name": "p", "uid": uid_of(pod)}],
        }
        hold = {"metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"]}}
        await admin.patch(RESOURCECLAIMS, name_of(claim), hold, "default")
        await cluster.status(RESOURCECLAIMS, name_of(claim), status)
        await cluster.node("n1")
        target = {"apiVersion": "v1", "kind": "Node", "name": "n1"}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": target}
        await admin.create_subresource(PODS, "p", "binding", binding, "default")

        taint = {"key": "broken", "effect": "NoExecute"}
        slice_ = {
            "driver": "gpu.example.com",
            "nodeName": "n1",
            "pool": {"name": "n1", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "gpu-0", "taints": [taint]}],
        }
        await admin.create(RESOURCESLICES, {"metadata": {"name": "s"}, "spec": slice_})
        leaving = await cluster.object(PODS, "p", is_deleting)
        found = condition(leaving["status"]["conditions"], "DisruptionTarget")
        assert found is not None
        assert found["reason"] == "DeletionByDeviceTaintManager"
        await cluster.event("DeviceTaintManagerEviction")
        await cluster.status(PODS, "p", {"phase": "Failed"})
        await cluster.gone(RESOURCECLAIMS, name_of(claim))


async def test_a_claim_for_extended_resources_goes_when_its_pod_is_done() -> None:
    """It is the scheduler's work; nobody but its controller looks after it when the pod stays as it ended."""
    async with story("resourceclaim-controller,serviceaccount", hollow=False) as cluster:
        admin = cluster.admin
        await cluster.object(SERVICEACCOUNTS, "default", bool)
        amount = {"example.com/gpu": "1"}
        container = {"name": "c", "image": "i", "resources": {"requests": amount, "limits": amount}}
        pod = await admin.create(PODS, {"metadata": {"name": "p"}, "spec": {"containers": [container]}}, "default")
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid_of(pod), "controller": True}
        metadata = {
            "name": "special",
            "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
            "ownerReferences": [owner],
            "finalizers": ["resource.kubernetes.io/delete-protection"],
        }
        requests = {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}
        await admin.create(RESOURCECLAIMS, {"metadata": metadata, "spec": {"devices": requests}}, "default")
        device = {"request": "r", "driver": "gpu.example.com", "pool": "n1", "device": "gpu-0"}
        user_ = {"resource": "pods", "name": "p", "uid": uid_of(pod)}
        status = {"allocation": {"devices": {"results": [device]}}, "reservedFor": [user_]}
        await cluster.status(RESOURCECLAIMS, "special", status)
        uses = {"containerName": "c", "resourceName": "example.com/gpu", "requestName": "r"}
        told = {"resourceClaimName": "special", "requestMappings": [uses]}
        await cluster.status(PODS, "p", {"extendedResourceClaimStatus": told, "phase": "Succeeded"})
        await cluster.gone(RESOURCECLAIMS, "special")


async def test_a_missing_template_is_told_of() -> None:
    async with story("resourceclaim-controller,serviceaccount", hollow=False) as cluster:
        await cluster.object(SERVICEACCOUNTS, "default", bool)
        wanted = [{"name": "gpu", "resourceClaimTemplateName": "t"}]
        spec = {**pod_template()["spec"], "resourceClaims": wanted}
        await cluster.admin.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
        event = await cluster.event("FailedResourceClaimCreation")
        assert event["message"] == 'PodResourceClaim gpu: resource claim template "t": not found'
