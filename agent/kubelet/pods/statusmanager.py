"""Sending pod statuses to the API server: the latest one of each pod, in the background, only what has changed.

Source: kubelet's status/status_manager.go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.kubelet import metrics
from agent.kubelet.pods import spec, statuspatch
from machinery.api import meta
from machinery.api.catalogue import PODS
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC, Client
from machinery.errors import Conflict, NotFound, StatusError, TransportError
from machinery.log import get_logger
from machinery.workqueue import WorkQueue

log = get_logger(__name__)

_WORKERS = 4
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.2, 10.0
OTHERS_SECONDS = 10.0
"""How long what others write over a status stays, unless the pod changes meanwhile: time for controllers to see it (a
DaemonSet replaces a pod that somebody declared failed). Source: status_manager.go syncPeriod."""


@dataclass(slots=True)
class _Known:
    pod: Object  # the API object that shows the status: for a static pod its mirror
    status: Object  # what is to be shown
    shown: Object | None  # what the API server has, as far as we know
    version: int = 0  # the resource version of that
    retry_seconds: float = _FIRST_RETRY_SECONDS
    changed_at: float = 0.0  # monotonic; 0 when everything has been sent


class StatusManager:
    """One for the whole kubelet. Without a client statuses are only kept."""

    def __init__(self, client: Client | None, mirror_of: Callable[[str], Object | None]) -> None:
        """`mirror_of(pod key)` is the mirror pod of a static pod, once there is one."""
        self._client = client
        self._mirror_of = mirror_of
        self._known: dict[str, _Known] = {}
        self._queue = WorkQueue("pod_status")

    def get(self, uid: str) -> Object | None:
        """The last status that was set for this pod."""
        known = self._known.get(uid)
        return known.status if known is not None else None

    def set(self, pod: Object, status: Object) -> None:
        """Show this status of a pod soon."""
        uid = meta.uid_of(pod)
        known = self._known.get(uid)
        if known is None:
            shown = None if spec.is_static(pod) else pod.get("status") or {}
            known = self._known[uid] = _Known(pod, status, shown)
        else:
            known.pod, known.status = pod, status
        known.changed_at = known.changed_at or time.monotonic()
        self._queue.add(uid)

    def touch(self, uid: str) -> None:
        """What the API server has may be different from what we think (a mirror pod is new)."""
        known = self._known.get(uid)
        if known is not None:
            known.shown = None
            self._queue.add(uid)

    def seen(self, uid: str, shown: Object) -> None:
        """The API server shows this object of the pod: what others wrote over our status is put right in a while."""
        known = self._known.get(uid)
        version = _version(shown)
        if known is None or version <= known.version:
            return
        known.version, known.shown = version, shown.get("status") or {}
        if statuspatch.between(known.shown, known.status):
            self._queue.add_after(uid, OTHERS_SECONDS)

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._known.pop(uid, None)

    async def run(self) -> None:
        """Send statuses until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_WORKERS):
                    group.create_task(self._work())
        finally:
            self._queue.close()

    async def _work(self) -> None:
        while True:
            uid = await self._queue.get()
            with self._queue.working(uid):
                known = self._known.get(uid)
                if known is None or self._client is None:
                    continue
                try:
                    await self._send(uid, known)
                    known.retry_seconds = _FIRST_RETRY_SECONDS
                except (StatusError, TransportError) as error:
                    log.warning("cannot send pod status", pod=meta.key_of(known.pod), err=str(error))
                    self._queue.add_after(uid, known.retry_seconds)
                    known.retry_seconds = min(known.retry_seconds * 2, _LONGEST_RETRY_SECONDS)

    async def flush(self, uid: str) -> None:
        """Send this pod's status now, trying until it is done or the pod is gone."""
        pause = _FIRST_RETRY_SECONDS
        while True:
            known = self._known.get(uid)
            if known is None or self._client is None:
                return
            try:
                await self._send(uid, known)
            except (StatusError, TransportError) as error:
                log.warning("cannot send last pod status", pod=meta.key_of(known.pod), err=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_RETRY_SECONDS)
            else:
                return

    async def _send(self, uid: str, known: _Known) -> None:
        target = known.pod
        if spec.is_static(target):
            mirror = self._mirror_of(meta.key_of(target))
            if mirror is None:
                return
            if known.shown is None:
                known.shown = mirror.get("status") or {}
            target = mirror
        status = known.status
        patch = statuspatch.between(known.shown or {}, status)
        if not patch or self._client is None:
            return
        patch["metadata"] = {"uid": meta.uid_of(target)}
        name, namespace = meta.name_of(target), meta.namespace_of(target)
        try:
            answer = await self._client.patch(
                PODS, name, patch, namespace, content_type=STRATEGIC, subresource="status"
            )
        except NotFound:
            known.shown = status  # gone: whoever deleted it will tell us
            return
        except Conflict as error:
            # Another pod has this name now; ours is gone.
            log.info("pod status not sent", pod=meta.key_of(target), err=str(error))
            known.shown = status
            return
        if _version(answer) > known.version:
            known.shown, known.version = answer.get("status") or {}, _version(answer)
        if known.status is status and known.changed_at:
            metrics.POD_STATUS_SYNC.observe(time.monotonic() - known.changed_at)
            known.changed_at = 0.0

    async def delete(self, pod: Object) -> None:
        """Show the last status, then remove the pod from the API: everything of it has ended here."""
        uid = meta.uid_of(pod)
        await self.flush(uid)
        if self._client is None:
            return
        pause = _FIRST_RETRY_SECONDS
        while True:
            try:
                await self._client.delete(PODS, meta.name_of(pod), meta.namespace_of(pod), grace_seconds=0, uid=uid)
            except (NotFound, Conflict):
                return
            except (StatusError, TransportError) as error:
                log.warning("cannot delete pod", pod=meta.key_of(pod), err=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_RETRY_SECONDS)
            else:
                log.info("pod deleted", pod=meta.key_of(pod), uid=uid)
                return


def _version(pod: Object) -> int:
    """Versions of one kind of object can be compared. Source: KEP-5504."""
    text = str(pod["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isdecimal() else 0
