"""Looking at what the node has left, and at what its pods use.

Source: kubelet's eviction/helpers.go (makeSignalObservations) and stats provider.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from agent.cri.errors import CriError
from agent.kubelet.collection.images import image_path
from agent.kubelet.container import identity
from agent.kubelet.eviction.ranking import Use
from agent.kubelet.eviction.thresholds import (
    ALLOCATABLE_MEMORY,
    CONTAINERFS,
    CONTAINERFS_INODES,
    IMAGEFS,
    IMAGEFS_INODES,
    MEMORY_AVAILABLE,
    NODEFS,
    NODEFS_INODES,
    PIDS,
    Observation,
)
from agent.kubelet.kit import Kit
from agent.kubelet.node import machine
from agent.kubelet.server.usage import node_usage
from machinery.api import meta
from machinery.api.meta import Object


class Observer:
    """Reads /proc, disks and control groups. One for the whole kubelet."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._image_path = ""

    async def signals(self) -> dict[str, Observation]:
        """What is left of everything now; what can't be read is left out."""
        kit = self._kit
        found: dict[str, Observation] = {}
        used = node_usage().memory_working_set or 0
        found[MEMORY_AVAILABLE] = Observation(max(0, kit.node.memory_bytes - used), kit.node.memory_bytes)
        pods = kit.cgroups.memory_limit_and_working_set()
        if pods is not None:
            found[ALLOCATABLE_MEMORY] = Observation(max(0, pods[0] - pods[1]), pods[0])
        found |= _disk(kit.root_dir, NODEFS, NODEFS_INODES)
        if not self._image_path:
            with contextlib.suppress(CriError):
                self._image_path = await image_path(kit)
        if self._image_path:
            found |= _disk(self._image_path, IMAGEFS, IMAGEFS_INODES)
            found |= _disk(self._image_path, CONTAINERFS, CONTAINERFS_INODES)
        found[PIDS] = _pids()
        return found

    @property
    def images_have_own_disk(self) -> bool:
        """Whether images lie on another filesystem than volumes and logs."""
        with contextlib.suppress(OSError):
            return bool(self._image_path) and os.stat(self._image_path).st_dev != os.stat(self._kit.root_dir).st_dev
        return False

    async def uses(self) -> dict[str, Use]:
        """What each pod uses, by uid. Raises CriError."""
        memory: dict[str, dict[str, int]] = {}
        disk: dict[str, dict[str, int]] = {}
        inodes: dict[str, int] = {}
        for stats in await self._kit.cri.list_container_stats():
            uid, name = stats.attributes.labels.get(identity.POD_UID, ""), stats.attributes.metadata.name
            memory.setdefault(uid, {})[name] = stats.memory.working_set_bytes.value
            disk.setdefault(uid, {})[name] = stats.writable_layer.used_bytes.value
            inodes[uid] = inodes.get(uid, 0) + stats.writable_layer.inodes_used.value
        found = {}
        for pod in self._kit.active_pods():
            uid = meta.uid_of(pod)
            own = await asyncio.to_thread(self._local_volumes, pod)
            logs = await asyncio.to_thread(tree_bytes, self._kit.log_directory(pod))
            found[uid] = Use(
                memory=sum(memory.get(uid, {}).values()),
                disk=sum(disk.get(uid, {}).values()) + sum(size for size, _ in own.values()) + logs[0],
                inodes=inodes.get(uid, 0) + sum(count for _, count in own.values()) + logs[1],
                processes=len(self._kit.cgroups.processes(pod)),
                container_memory=memory.get(uid, {}),
                container_disk=disk.get(uid, {}),
            )
        return found

    def _local_volumes(self, pod: Object) -> dict[str, tuple[int, int]]:
        """(bytes, files) by volume of what a pod's volumes take of the node's disk."""
        kinds = {"emptyDir": "kubernetes.io~empty-dir", "configMap": "kubernetes.io~configmap"}
        found = {}
        for volume in pod["spec"].get("volumes") or ():
            kind = next((k for k in kinds if k in volume), None)
            if kind is None or (volume[kind] or {}).get("medium"):
                continue
            path = os.path.join(self._kit.pod_dir(meta.uid_of(pod)), "volumes", kinds[kind], volume["name"])
            found[volume["name"]] = tree_bytes(path)
        return found

    async def empty_dirs(self, pod: Object) -> Mapping[str, int]:
        """Bytes by volume of a pod's emptyDirs on disk."""
        return {name: size for name, (size, _) in (await asyncio.to_thread(self._local_volumes, pod)).items()}


def tree_bytes(path: str) -> tuple[int, int]:
    """(bytes on disk, inodes) of a directory with all below it; links are not followed."""
    size = count = 0
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        size, count = found.st_blocks * 512, 1
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below = tree_bytes(entry.path)
                    size, count = size + below[0], count + below[1]
                else:
                    with contextlib.suppress(OSError):
                        size, count = size + entry.stat(follow_symlinks=False).st_blocks * 512, count + 1
    return size, count


def _disk(path: str, of_bytes: str, of_inodes: str) -> dict[str, Observation]:
    try:
        found = machine.disk(path)
    except OSError:
        return {}
    seen = {of_bytes: Observation(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)}
    if found.f_files:  # some filesystems don't count them
        seen[of_inodes] = Observation(found.f_favail, found.f_files)
    return seen


def _pids() -> Observation:
    running = int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[2])
    limits = [int(Path(f"/proc/sys/kernel/{name}").read_text(encoding="ascii")) for name in ("pid_max", "threads-max")]
    return Observation(max(0, min(limits) - running), min(limits))
