"""All volumes of all pods: set up before containers start, refreshed while they run, torn down after them.

What is on disk is the only record: after a restart volumes are set up again over what is there, and torn down from it.

Source: kubelet's volumemanager; directory layout as upstream's (pods/UID/volumes/kubernetes.io~KIND/NAME).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Iterator

from agent.kubelet import metrics, mounts
from agent.kubelet.container.errors import StartError, VolumeError
from agent.kubelet.pods import spec
from agent.kubelet.pods.fieldref import PodFacts
from agent.kubelet.volumes import atomicwriter, hostpath, projection, subpath
from agent.kubelet.volumes.csi import CsiVolume, CsiVolumes
from agent.kubelet.volumes.model import MountedVolume
from agent.kubelet.volumes.persistent import PersistentVolumes
from agent.kubelet.volumes.projection import Sources
from machinery.api import meta, podresources, quantity
from machinery.api.meta import Object
from machinery.log import get_logger

log = get_logger(__name__)

_KINDS = {
    "emptyDir": "kubernetes.io~empty-dir",
    "configMap": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "downwardAPI": "kubernetes.io~downward-api",
    "projected": "kubernetes.io~projected",
    "nfs": "kubernetes.io~nfs",
    "local": "kubernetes.io~local-volume",
}
# Contents that must not reach a disk.
_IN_MEMORY = ("secret", "downwardAPI", "projected")


class VolumeManager:
    """Sets volumes up and tears them down. One for the whole kubelet."""

    def __init__(self, root_dir: str, sources: Sources, persistent: PersistentVolumes, csi: CsiVolumes) -> None:
        self._root_dir = root_dir
        self._csi = csi
        self._sources = sources
        self._persistent = persistent
        self._ready: dict[str, set[str]] = {}  # names of volumes that were ready once, by pod uid

    def pod_dir(self, uid: str) -> str:
        """The directory of everything that belongs to a pod."""
        return os.path.join(self._root_dir, "pods", uid)

    async def set_up(self, pod: Object, facts: PodFacts) -> dict[str, MountedVolume]:
        """Make every volume of a pod ready, with its present contents. Raises VolumeError for the first that can't."""
        volumes = pod["spec"].get("volumes") or []
        tasks = [self._counted(pod, volume, facts) for volume in volumes]
        done = await asyncio.gather(*tasks, return_exceptions=True)
        ready: dict[str, MountedVolume] = {}
        for volume, result in zip(volumes, done, strict=True):
            if isinstance(result, VolumeError | StartError):
                reason = result.reason if isinstance(result, VolumeError) else "FailedMount"
                step = "AttachVolume.Attach" if reason == "FailedAttachVolume" else "MountVolume.SetUp"
                told = f'{step} failed for volume "{volume["name"]}" : {result}'
                raise VolumeError(told, reason=reason) from result
            if isinstance(result, BaseException):
                raise result
            ready[volume["name"]] = result
        return ready

    async def _counted(self, pod: Object, volume: Object, facts: PodFacts) -> MountedVolume:
        """One volume; its first time is counted, until it is ready."""
        uid, name = meta.uid_of(pod), volume["name"]
        if name in self._ready.get(uid, ()):
            return await self._set_up_one(pod, volume, facts)
        began, outcome = time.monotonic(), "fail-unknown"
        try:
            mounted = await self._set_up_one(pod, volume, facts)
            self._ready.setdefault(uid, set()).add(name)
            outcome = "success"
            return mounted
        finally:
            plugin = spec.volume_plugin(volume)
            metrics.STORAGE_OPERATION.labels(plugin, "volume_mount", outcome, "false").observe(time.monotonic() - began)

    async def _set_up_one(self, pod: Object, volume: Object, facts: PodFacts) -> MountedVolume:
        name = volume["name"]
        if "hostPath" in volume:
            return MountedVolume(name, hostpath.prepare(volume["hostPath"]))
        if "image" in volume:
            return MountedVolume(name, "", read_only=True, image=volume["image"])
        if "persistentVolumeClaim" in volume or "ephemeral" in volume:
            return await self._set_up_claim(pod, volume)
        if "csi" in volume:
            described = CsiVolume.of_inline(pod, volume)
            path = await self._csi.mount(pod, name, described)
            return MountedVolume(name, path, read_only=described.read_only)
        kind = next((k for k in _KINDS if k in volume), None)
        if kind is None:
            raise VolumeError(f"no volume plugin matched: {', '.join(k for k in volume if k != 'name')}")
        directory = os.path.join(self.pod_dir(meta.uid_of(pod)), "volumes", _KINDS[kind], name)
        try:
            if kind == "emptyDir":
                self._make_empty_dir(pod, volume["emptyDir"] or {}, directory, facts)
            elif kind == "nfs":
                await self._persistent.mount_nfs(volume["nfs"], directory)
            else:
                await self._project(pod, volume, kind, directory, facts)
        except (OSError, ValueError) as error:
            raise VolumeError(str(error)) from error
        return MountedVolume(name, directory, read_only=kind in ("secret", "configMap", "downwardAPI", "projected"))

    async def _set_up_claim(self, pod: Object, volume: Object) -> MountedVolume:
        name = volume["name"]
        claimed, source = await self._persistent.resolve(pod, spec.claim_of(pod, volume), own="ephemeral" in volume)
        read_only = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
        base = os.path.join(self.pod_dir(meta.uid_of(pod)), "volumes")
        path = await self._persistent.mount(pod, name, source, base)
        await self._persistent.grow(source, claimed, path)
        if source["spec"].get("volumeMode") == "Block":
            return MountedVolume(name, "", read_only=read_only, device=path)
        return MountedVolume(name, path, read_only=read_only)

    def _make_empty_dir(self, pod: Object, source: Object, directory: str, facts: PodFacts) -> None:
        os.makedirs(directory, mode=0o750, exist_ok=True)
        medium = source.get("medium") or ""
        if medium == "Memory":
            if not mounts.is_mount_point(directory):
                mounts.tmpfs(directory, size_bytes=_memory_size(pod, source, facts), mode=0o777)
        elif medium.startswith("HugePages"):
            if not mounts.is_mount_point(directory):
                _, _, size = medium.partition("-")
                mounts.mount("nodev", directory, "hugetlbfs", 0, f"pagesize={size}" if size else "")
        elif medium:
            raise VolumeError(f'unknown storage medium "{medium}"')
        mode = os.stat(directory).st_mode & 0o7777
        if mode & 0o777 != 0o777:
            os.chmod(directory, 0o777)  # noqa: S103 - containers of any user write to it
        gid = _fs_group(pod)
        # Once: later the contents are the pod's own business.
        if gid is not None and os.stat(directory).st_gid != gid:
            atomicwriter.give_to_group(directory, gid)

    async def _project(self, pod: Object, volume: Object, kind: str, directory: str, facts: PodFacts) -> None:
        files = await projection.files_of(pod, volume, facts, self._sources)
        os.makedirs(directory, mode=0o750, exist_ok=True)
        if kind in _IN_MEMORY and not mounts.is_mount_point(directory):
            mounts.tmpfs(directory, mode=0o777)
        elif kind not in _IN_MEMORY:
            os.chmod(directory, 0o777)  # noqa: S103 - as upstream; nobody else gets into the pod directory
        atomicwriter.write(directory, files, gid=_fs_group(pod))

    # -- tearing down ------------------------------------------------------------------------------------------------

    async def tear_down(self, uid: str) -> bool:
        """Unmount and remove everything of a pod; False if something is still in the way and must be tried again."""
        pod_dir = self.pod_dir(uid)
        self._ready.pop(uid, None)
        if not os.path.isdir(pod_dir):
            return True
        try:
            subpath.clean(pod_dir)
            await self._csi.unmount(uid)
            for point in list(mounts.below(pod_dir)):
                mounts.unmount(point)
            if any(True for _ in mounts.below(pod_dir)):
                return False
            await asyncio.to_thread(_remove_tree, pod_dir)
        except (OSError, VolumeError) as error:
            log.warning("cannot remove pod directory", pod_uid=uid, err=str(error))
            return False
        return True

    def known(self) -> set[str]:
        """The uids of all pods that have a directory."""
        with contextlib.suppress(FileNotFoundError):
            return {entry.name for entry in os.scandir(os.path.join(self._root_dir, "pods")) if entry.is_dir()}
        return set()


def _remove_tree(path: str) -> None:
    # A volume on the host's disk may be large: this runs in a thread. It does not cross into other filesystems.
    shutil.rmtree(path)


def _fs_group(pod: Object) -> int | None:
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    return None if group is None else int(group)


def _memory_size(pod: Object, source: Object, facts: PodFacts) -> int:
    """The least of the volume's size limit, the pod's memory limit and the node's memory."""
    sizes: list[int] = []
    if source.get("sizeLimit"):
        sizes.append(quantity.parse(source["sizeLimit"]).value())
    limits = podresources.of_pod(pod, "limits")
    if "memory" in limits and all("memory" in podresources.of_container(c, "limits") for c in _long_lived(pod)):
        sizes.append(limits["memory"].value())
    if "memory" in facts.allocatable:
        sizes.append(facts.allocatable["memory"].value())
    return min((size for size in sizes if size > 0), default=0)


def _long_lived(pod: Object) -> Iterator[Object]:
    yield from spec.containers(pod)
    yield from spec.init_containers(pod)
