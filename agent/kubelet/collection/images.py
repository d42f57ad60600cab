"""Images that no container uses: removed, the longest unused first, when the disk that holds them gets full.

Source: KubeletConfiguration imageGCHighThresholdPercent and its fellows; kubelet's images/image_gc_manager.go.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.cri import api_pb2 as pb
from agent.cri.errors import CriError
from agent.kubelet.kit import Kit
from agent.kubelet.node import machine
from machinery.errors import NavarchError
from machinery.log import get_logger

log = get_logger(__name__)

_PERIOD_SECONDS = 300.0


class CollectionError(NavarchError):
    """Not as much could be freed as was wanted."""


@dataclass(slots=True)
class ImageRecord:
    """What is known of an image. Times are seconds since 1970."""

    id: str
    size: int
    pinned: bool
    detected_at: float
    used_at: float
    in_use: bool = False


def removable(records: Iterable[ImageRecord], now: float, min_age_seconds: float, freed_at: float) -> list[ImageRecord]:
    """The images that may go, the longest unused first."""
    found = [r for r in records if not r.in_use and not r.pinned and r.used_at < freed_at]
    found = [r for r in found if now - r.detected_at >= min_age_seconds]
    return sorted(found, key=lambda r: (r.used_at, r.detected_at))


def to_free(capacity: int, available: int, high_percent: int, low_percent: int) -> int:
    """Bytes to free so that no more than the low share of the disk is used; 0 if it isn't too full."""
    if capacity <= 0 or high_percent >= 100:
        return 0
    if 100 - available * 100 // capacity < high_percent:
        return 0
    return max(0, capacity * (100 - low_percent) // 100 - available)


class ImageCollector:
    """Watches which images are used, and removes others. One for the whole kubelet."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._sandbox_image = ""  # which no container uses, and every pod needs
        self._records: dict[str, ImageRecord] = {}

    async def run(self) -> None:
        """Collect every five minutes until cancelled."""
        while True:
            try:
                await self.collect()
            except (CriError, CollectionError) as error:
                log.warning("image garbage collection failed", err=str(error))
            await self._kit.clock.sleep(_PERIOD_SECONDS)

    async def collect(self) -> None:
        """Free what has to be freed. Raises CriError, CollectionError."""
        await self._detect()
        settings = self._kit.settings
        if settings.image_max_age_seconds:
            await self._remove_old(settings.image_max_age_seconds)
        capacity, available = await self.disk()
        wanted = to_free(capacity, available, settings.image_gc_high_percent, settings.image_gc_low_percent)
        if wanted:
            log.info("disk of images is too full", capacity=capacity, available=available, to_free=wanted)
            freed = await self.free(wanted)
            if freed < wanted:
                told = (
                    f"Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, "
                    f"but only found {freed} bytes eligible to free."
                )
                self._kit.teller.node("Warning", "FreeDiskSpaceFailed", told)
                raise CollectionError(told)

    async def disk(self) -> tuple[int, int]:
        """(capacity, available) bytes of the disk that holds images. Raises CriError."""
        path = await image_path(self._kit)
        found = machine.disk(path)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize

    async def _detect(self) -> None:
        now = time.time()
        images = await self._kit.cri.list_images()
        used = self._used()
        await self._learn_sandbox_image()
        for image in images:
            record = self._records.get(image.id)
            if record is None:
                record = self._records[image.id] = ImageRecord(image.id, image.size, image.pinned, now, 0.0)
            record.size, record.pinned = image.size, image.pinned or self._is_exempt(image)
            names = {image.id, *image.repo_tags, *image.repo_digests}
            record.in_use = bool(names & used)
            asked = max((self._kit.images.used.get(name, 0.0) for name in names), default=0.0)
            record.used_at = now if record.in_use else max(record.used_at, asked)
        present = {image.id for image in images}
        self._records = {i: record for i, record in self._records.items() if i in present}

    def _is_exempt(self, image: pb.Image) -> bool:
        return bool(self._sandbox_image) and self._sandbox_image in image.repo_tags

    async def _learn_sandbox_image(self) -> None:
        """Newer runtimes pin it; older ones tell it among what they say in addition of a sandbox."""
        sandbox = next((s for pod in self._kit.view.pods.values() for s in pod.sandboxes), None)
        if self._sandbox_image or sandbox is None:
            return
        with contextlib.suppress(CriError, ValueError):
            told = (await self._kit.cri.pod_sandbox_status(sandbox.id, verbose=True)).info.get("info", "{}")
            self._sandbox_image = str(json.loads(told).get("image") or "")

    def _used(self) -> set[str]:
        containers = [c for pod in self._kit.view.pods.values() for c in pod.containers]
        return {name for c in containers for name in (c.image, c.image_ref, c.image_id) if name}

    async def free(self, wanted: int) -> int:
        """Remove unused images until so many bytes are free; how many were freed. Raises CriError."""
        now, freed = time.time(), 0
        for record in removable(self._records.values(), now, self._kit.settings.image_min_age_seconds, now):
            if freed >= wanted:
                break
            freed += await self._remove(record)
        return freed

    async def free_all(self) -> int:
        """Remove every unused image, for a disk that is nearly full; bytes freed. Raises CriError."""
        await self._detect()
        now = time.time()
        return sum([await self._remove(r) for r in removable(self._records.values(), now, 0.0, now)])

    async def _remove_old(self, max_age_seconds: float) -> None:
        now = time.time()
        for record in removable(self._records.values(), now, self._kit.settings.image_min_age_seconds, now):
            if now - max(record.used_at, record.detected_at) > max_age_seconds:
                await self._remove(record)

    async def _remove(self, record: ImageRecord) -> int:
        log.info("removing unused image", image=record.id, bytes=record.size)
        await self._kit.cri.remove_image(pb.ImageSpec(image=record.id))
        self._records.pop(record.id, None)
        return record.size

    @property
    def records(self) -> Mapping[str, ImageRecord]:
        """What is known of the images, by id."""
        return self._records


async def image_path(kit: Kit) -> str:
    """A directory on the disk that holds images; the kubelet's own if the runtime doesn't say. Raises CriError."""
    found = await kit.cri.image_fs_info()
    path = next((fs.fs_id.mountpoint for fs in found.image_filesystems), "")
    try:
        machine.disk(path)
    except OSError:
        return kit.root_dir
    return path
