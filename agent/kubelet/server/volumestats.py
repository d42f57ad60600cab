"""How full the volumes of pods are, for /stats/summary.

To add up a tree takes long, so it is done once a minute at most, and only when somebody asks.

Source: Summary API (VolumeStats, PVCReference); kubelet's server/stats/volume_stat_calculator.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping

from agent.kubelet.eviction.observing import tree_bytes
from agent.kubelet.pods import spec
from agent.kubelet.server.filesystem import filesystem
from agent.kubelet.volumes.model import MountedVolume
from machinery.api import meta
from machinery.api.meta import Object

_AGAIN_SECONDS = 60.0  # volumeStatsAggPeriod

Volumes = Callable[[str], Mapping[str, MountedVolume]]
"""The volumes that are ready of the pod with a uid, by name."""


class VolumeStatistics:
    """Measures volumes. One for the whole kubelet."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes
        self._known: dict[str, tuple[float, list[Object]]] = {}

    async def of_pods(self, pods: list[Object]) -> dict[str, list[Object]]:
        """VolumeStats of pods, by their uid."""
        found = {meta.uid_of(pod): await self._of_pod(pod) for pod in pods}
        self._known = {uid: self._known[uid] for uid in found}
        return found

    async def _of_pod(self, pod: Object) -> list[Object]:
        uid = meta.uid_of(pod)
        at, known = self._known.get(uid, (float("-inf"), []))
        now = time.monotonic()
        if now - at < _AGAIN_SECONDS:
            return known
        mounted = self._volumes(uid)
        measured = []
        for volume in pod["spec"].get("volumes") or ():
            place = mounted.get(volume["name"])
            if place is None or place.device or not place.path or "hostPath" in volume:
                continue
            with contextlib.suppress(OSError):
                measured.append(await asyncio.to_thread(_measure, pod, volume, place.path))
        self._known[uid] = now, measured
        return measured


def _measure(pod: Object, volume: Object, path: str) -> Object:
    claim = spec.claim_of(pod, volume)
    shown = {**filesystem(path), "name": volume["name"]}
    if claim:  # a filesystem of its own
        return shown | {"pvcRef": {"name": claim, "namespace": meta.namespace_of(pod)}}
    size, inodes = tree_bytes(path)
    return shown | {"usedBytes": size, "inodesUsed": inodes}
