"""CSI volumes on this node: staged once for each volume, published once for each pod, and undone in the other order.

What was done is written beside it (vol_data.json, as upstream), so that a kubelet that knows nothing more can undo it.

Source: KEP-178 (CSI), csi.v1 Node service; k8s.io/kubernetes pkg/volume/csi.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from agent.cri.errors import CriError
from agent.kubelet import mounts
from agent.kubelet.container.errors import VolumeError
from agent.kubelet.jsonfile import JsonFile
from agent.kubelet.plugins.api import csi_pb2 as pb
from agent.kubelet.plugins.csidrivers import CsiDriver, CsiDrivers
from agent.kubelet.volumes import atomicwriter
from agent.kubelet.volumes.csiobjects import CsiObjects
from machinery.api import meta, quantity
from machinery.api.meta import Object
from machinery.log import get_logger

log = get_logger(__name__)

KIND = "kubernetes.io~csi"
_DATA = "vol_data.json"
_MODES = {
    "ReadWriteOnce": pb.VolumeCapability.AccessMode.SINGLE_NODE_WRITER,
    "ReadOnlyMany": pb.VolumeCapability.AccessMode.MULTI_NODE_READER_ONLY,
    "ReadWriteMany": pb.VolumeCapability.AccessMode.MULTI_NODE_MULTI_WRITER,
    "ReadWriteOncePod": pb.VolumeCapability.AccessMode.SINGLE_NODE_SINGLE_WRITER,
}


@dataclass(frozen=True)
class CsiVolume:
    """A volume as a driver knows it."""

    driver: str
    handle: str
    name: str  # of the PersistentVolume, or of the volume in the pod
    attributes: Mapping[str, str] = field(default_factory=dict)
    fs_type: str = ""
    read_only: bool = False
    access_mode: str = "ReadWriteOnce"
    mount_options: tuple[str, ...] = ()
    inline: bool = False
    block: bool = False
    stage_secret: Object | None = None
    publish_secret: Object | None = None

    @classmethod
    def of_persistent(cls, volume: Object) -> CsiVolume:
        """From a PersistentVolume."""
        spec, source = volume["spec"], volume["spec"]["csi"]
        modes = spec.get("accessModes") or ["ReadWriteOnce"]
        return cls(
            driver=source["driver"],
            handle=source["volumeHandle"],
            name=meta.name_of(volume),
            attributes=source.get("volumeAttributes") or {},
            fs_type=source.get("fsType") or "",
            read_only=bool(source.get("readOnly")),
            access_mode=modes[0],
            mount_options=tuple(spec.get("mountOptions") or ()),
            block=spec.get("volumeMode") == "Block",
            stage_secret=source.get("nodeStageSecretRef"),
            publish_secret=source.get("nodePublishSecretRef"),
        )

    @classmethod
    def of_inline(cls, pod: Object, volume: Object) -> CsiVolume:
        """From a volume of a pod's spec that lives as long as the pod."""
        source = volume["csi"]
        name = volume["name"]
        digest = hashlib.sha256(f"{name}{meta.namespace_of(pod)}{meta.uid_of(pod)}".encode()).hexdigest()
        secret = source.get("nodePublishSecretRef")
        return cls(
            driver=source["driver"],
            handle=f"csi-{digest}",
            name=name,
            attributes=source.get("volumeAttributes") or {},
            fs_type=source.get("fsType") or "",
            read_only=bool(source.get("readOnly")),
            inline=True,
            publish_secret={**secret, "namespace": meta.namespace_of(pod)} if secret else None,
        )

    def capability(self, driver: CsiDriver, group: int | None) -> pb.VolumeCapability:
        """How it is to be used."""
        mode = _MODES[self.access_mode]
        if driver.has("SINGLE_NODE_MULTI_WRITER") and self.access_mode == "ReadWriteOnce":
            mode = pb.VolumeCapability.AccessMode.SINGLE_NODE_MULTI_WRITER
        elif not driver.has("SINGLE_NODE_MULTI_WRITER") and self.access_mode == "ReadWriteOncePod":
            mode = pb.VolumeCapability.AccessMode.SINGLE_NODE_WRITER
        made = pb.VolumeCapability(access_mode=pb.VolumeCapability.AccessMode(mode=mode))
        if self.block:
            made.block.SetInParent()
        else:
            made.mount.fs_type = self.fs_type
            made.mount.mount_flags.extend(self.mount_options)
            if group is not None and driver.has("VOLUME_MOUNT_GROUP"):
                made.mount.volume_mount_group = str(group)
            made.mount.SetInParent()
        return made


class CsiVolumes:
    """Mounts and unmounts. One for the whole kubelet."""

    def __init__(self, root_dir: str, drivers: CsiDrivers, objects: CsiObjects) -> None:
        self._root_dir, self._drivers, self._objects = root_dir, drivers, objects

    def staging_dir(self, driver: str, handle: str) -> str:
        """Where a volume is staged, whichever pods use it."""
        digest = hashlib.sha256(handle.encode()).hexdigest()
        return os.path.join(self._root_dir, "plugins", "kubernetes.io", "csi", driver, digest)

    async def mount(self, pod: Object, name: str, volume: CsiVolume) -> str:
        """Make a volume ready for a pod; the path for its containers (the device's, of a block volume).

        Raises VolumeError.
        """
        driver = self._drivers.get(volume.driver)
        policy = await self._objects.driver(volume.driver)
        if volume.inline and "Ephemeral" not in (policy.get("volumeLifecycleModes") or ["Persistent"]):
            raise VolumeError(
                f"mounter.SetUpAt failed to get CSI client: driver {volume.driver} does not support ephemeral volumes"
            )
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        context: Mapping[str, str] = {}
        if not volume.inline and policy.get("attachRequired", True):
            context = await self._objects.attachment_metadata(volume.name, volume.driver, volume.handle)
        capability = volume.capability(driver, group)
        try:
            staged = await self._stage(driver, volume, capability, context)
            return await self._publish(pod, name, volume, driver, capability, context, staged, policy)
        except CriError as error:
            raise VolumeError(f"rpc error: code = {error.code} desc = {error.detail}") from error
        except OSError as error:
            raise VolumeError(str(error)) from error

    async def _stage(
        self, driver: CsiDriver, volume: CsiVolume, capability: pb.VolumeCapability, context: Mapping[str, str]
    ) -> str:
        if volume.inline or not driver.has("STAGE_UNSTAGE_VOLUME"):
            return ""
        base = self.staging_dir(volume.driver, volume.handle)
        target = os.path.join(base, "globalmount")
        os.makedirs(target, mode=0o750, exist_ok=True)
        record = JsonFile(Path(base, _DATA))
        if (record.read() or {}).get("staged") == "true":
            return target
        told = {"driverName": volume.driver, "volumeHandle": volume.handle, "specVolID": volume.name}
        record.write(told)
        request = pb.NodeStageVolumeRequest(
            volume_id=volume.handle,
            publish_context=context,
            staging_target_path=target,
            volume_capability=capability,
            secrets=await self._objects.secret(volume.stage_secret),
            volume_context=volume.attributes,
        )
        await driver.call("NodeStageVolume", request, pb.NodeStageVolumeResponse)
        record.write({**told, "staged": "true"})
        return target

    async def _publish(
        self,
        pod: Object,
        name: str,
        volume: CsiVolume,
        driver: CsiDriver,
        capability: pb.VolumeCapability,
        context: Mapping[str, str],
        staged: str,
        policy: Object,
    ) -> str:
        base = os.path.join(self._root_dir, "pods", meta.uid_of(pod), "volumes", KIND, volume.name)
        target = os.path.join(base, "mount")
        os.makedirs(base, mode=0o750, exist_ok=True)
        record = JsonFile(Path(base, _DATA))
        published = (record.read() or {}).get("published") == "true"
        if published and not policy.get("requiresRepublish"):
            return target
        told = {
            "specVolID": volume.name,
            "volumeHandle": volume.handle,
            "driverName": volume.driver,
            "nodeName": self._objects.node_name,
            "attachmentID": self._objects.attachment_name(volume.handle, volume.driver),
            "volumeLifecycleMode": "Ephemeral" if volume.inline else "Persistent",
        }
        record.write(told)
        attributes = dict(volume.attributes)
        if policy.get("podInfoOnMount"):
            attributes |= pod_info(pod, inline=volume.inline)
        attributes |= await self._objects.tokens(pod, policy.get("tokenRequests") or ())
        request = pb.NodePublishVolumeRequest(
            volume_id=volume.handle,
            publish_context=context,
            staging_target_path=staged,
            target_path=target,
            volume_capability=capability,
            readonly=volume.read_only,
            secrets=await self._objects.secret(volume.publish_secret),
            volume_context=attributes,
        )
        await driver.call("NodePublishVolume", request, pb.NodePublishVolumeResponse)
        record.write({**told, "published": "true"})
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        if not published and group is not None and _gives_group(volume, driver, policy):
            atomicwriter.give_to_group(target, int(group))
        return target

    # -- undoing -----------------------------------------------------------------------------------------------------

    async def unmount(self, uid: str) -> None:
        """Unpublish all volumes of a pod, and unstage what no other pod uses. Raises VolumeError."""
        for base, record in self._records(uid):
            driver, handle = record.get("driverName", ""), record.get("volumeHandle", "")
            target = os.path.join(base, "mount")
            request = pb.NodeUnpublishVolumeRequest(volume_id=handle, target_path=target)
            try:
                await self._drivers.get(driver).call("NodeUnpublishVolume", request, pb.NodeUnpublishVolumeResponse)
                shutil.rmtree(base)
                if record.get("volumeLifecycleMode") != "Ephemeral" and not self._is_used(driver, handle):
                    await self._unstage(driver, handle)
            except CriError as error:
                raise VolumeError(f"rpc error: code = {error.code} desc = {error.detail}") from error
            except OSError as error:
                raise VolumeError(str(error)) from error

    async def _unstage(self, driver: str, handle: str) -> None:
        base = self.staging_dir(driver, handle)
        if not os.path.isdir(base):
            return
        target = os.path.join(base, "globalmount")
        request = pb.NodeUnstageVolumeRequest(volume_id=handle, staging_target_path=target)
        await self._drivers.get(driver).call("NodeUnstageVolume", request, pb.NodeUnstageVolumeResponse)
        for point in list(mounts.below(base)):
            mounts.unmount(point)
        shutil.rmtree(base)

    def _records(self, uid: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        top = os.path.join(self._root_dir, "pods", uid, "volumes", KIND)
        with contextlib.suppress(FileNotFoundError):
            for entry in sorted(os.scandir(top), key=lambda e: e.name):
                with contextlib.suppress(OSError, ValueError):
                    yield entry.path, orjson.loads(Path(entry.path, _DATA).read_bytes())

    def _is_used(self, driver: str, handle: str) -> bool:
        return any((d, h) == (driver, handle) for d, h, _ in self.in_use())

    def in_use(self) -> Iterator[tuple[str, str, bool]]:
        """(driver, handle, whether it lives only as long as its pod) of every volume of every pod."""
        with contextlib.suppress(FileNotFoundError):
            for pod in os.scandir(os.path.join(self._root_dir, "pods")):
                for _, record in self._records(pod.name):
                    inline = record.get("volumeLifecycleMode") == "Ephemeral"
                    yield record.get("driverName", ""), record.get("volumeHandle", ""), inline

    # -- growing -----------------------------------------------------------------------------------------------------

    async def expand(self, volume: Object, path: str, claim: Object) -> str | None:
        """Let a mounted volume grow to what its PersistentVolume says; the new size for the claim, None if it has it.

        Raises VolumeError.
        """
        wanted = quantity.parse(volume["spec"]["capacity"]["storage"])
        present = quantity.parse(((claim.get("status") or {}).get("capacity") or {}).get("storage") or "0")
        described = CsiVolume.of_persistent(volume)
        driver = self._drivers.get(described.driver)
        if wanted.nanos <= present.nanos or not driver.has("EXPAND_VOLUME"):
            return None
        staged = self.staging_dir(described.driver, described.handle)
        request = pb.NodeExpandVolumeRequest(
            volume_id=described.handle,
            volume_path=path,
            capacity_range=pb.CapacityRange(required_bytes=wanted.value()),
            staging_target_path=os.path.join(staged, "globalmount") if os.path.isdir(staged) else "",
            volume_capability=described.capability(driver, None),
        )
        try:
            await driver.call("NodeExpandVolume", request, pb.NodeExpandVolumeResponse)
        except CriError as error:
            raise VolumeError(f"NodeExpandVolume failed: {error}", reason="VolumeResizeFailed") from error
        return str(volume["spec"]["capacity"]["storage"])


def pod_info(pod: Object, *, inline: bool) -> dict[str, str]:
    """What drivers that ask for it are told of the pod."""
    return {
        "csi.storage.k8s.io/pod.name": meta.name_of(pod),
        "csi.storage.k8s.io/pod.namespace": meta.namespace_of(pod),
        "csi.storage.k8s.io/pod.uid": meta.uid_of(pod),
        "csi.storage.k8s.io/serviceAccount.name": pod["spec"].get("serviceAccountName") or "",
        "csi.storage.k8s.io/ephemeral": "true" if inline else "false",
    }


def _gives_group(volume: CsiVolume, driver: CsiDriver, policy: Object) -> bool:
    """Whether the kubelet gives the files of a volume to the pod's fsGroup."""
    if volume.block or volume.read_only or driver.has("VOLUME_MOUNT_GROUP"):
        return False
    chosen = policy.get("fsGroupPolicy") or "ReadWriteOnceWithFSType"
    if chosen == "ReadWriteOnceWithFSType":
        return bool(volume.fs_type) and volume.access_mode in ("ReadWriteOnce", "ReadWriteOncePod")
    return bool(chosen == "File")
