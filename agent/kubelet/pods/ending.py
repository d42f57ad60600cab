"""The end of a pod: stop what runs, say so, free what it held, and forget it.

Source: kubelet's syncTerminatingPod, syncTerminatedPod, and removal from the API with grace 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import shutil
from collections.abc import Container
from typing import Protocol

from agent.cri.errors import CriError
from agent.kubelet.container.lifecycle import Hooks
from agent.kubelet.kit import Kit
from agent.kubelet.pods import spec
from agent.kubelet.pods.mirror import Mirrors
from agent.kubelet.pods.reporter import Reporter
from agent.kubelet.pods.status import Verdict
from machinery.api import meta
from machinery.api.meta import Object
from machinery.log import get_logger

log = get_logger(__name__)

_RETRY_SECONDS = 2.0
_FREE_RETRY_SECONDS = 0.2


class EndingPod(Protocol):
    """What has to be known of a worker whose pod ends."""

    pod: Object
    uid: str
    reporter: Reporter

    @property
    def grace_seconds(self) -> float:
        """How long containers have to end; may get shorter meanwhile."""
        ...

    @property
    def verdict(self) -> Verdict | None:
        """Why the pod was ended from outside."""
        ...

    @property
    def changes(self) -> asyncio.Event:
        """Set when the pod's object changes."""
        ...

    @property
    def log_directory(self) -> str:
        """Where the pod's logs are."""
        ...


async def terminate(kit: Kit, hooks: Hooks, worker: EndingPod) -> None:
    """Stop everything of the pod and free what it held; its records in the runtime stay, for logs."""
    worker.reporter.publish(worker.pod, verdict=worker.verdict)
    await stop(kit, hooks, worker)
    kit.probes.forget_pod(worker.uid)
    worker.reporter.publish(worker.pod, verdict=worker.verdict, is_terminal=True, final=True)
    await _free(kit, worker.uid)


async def stop(kit: Kit, hooks: Hooks, worker: EndingPod) -> None:
    """Stop what runs of the pod; tried until nothing does."""
    while True:
        try:
            await kit.view.look()  # what was interrupted may have left something behind
            runtime = kit.view.pod(worker.uid)
            if not runtime.has_live_parts:
                return
            await _stop_watching_grace(hooks, worker, kit)
        except* CriError as group:
            error = group.exceptions[0]
            told = f"error killing pod: {error}"
            kit.teller.pod(worker.pod, "Warning", "FailedKillPod", told)
            await kit.clock.sleep(_RETRY_SECONDS)


async def _stop_watching_grace(hooks: Hooks, worker: EndingPod, kit: Kit) -> None:
    """Stop all; start over with less time when somebody becomes impatient."""
    while True:
        grace = worker.grace_seconds
        stop = asyncio.ensure_future(hooks.stop_all(worker.pod, kit.view.pod(worker.uid), grace))
        try:
            while not stop.done() and worker.grace_seconds >= grace:
                worker.changes.clear()
                change = asyncio.ensure_future(worker.changes.wait())
                await asyncio.wait((stop, change), return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
            if stop.done():
                stop.result()
                return
        finally:
            if not stop.done():
                stop.cancel()
                await asyncio.gather(stop, return_exceptions=True)


async def _free(kit: Kit, uid: str) -> None:
    """Volumes and control group; tried until they are gone."""
    pause = _FREE_RETRY_SECONDS
    kit.topology.forget(uid)
    while not (await kit.volumes.tear_down(uid) and kit.cgroups.remove(uid) and await kit.claims.release(uid)):
        await kit.clock.sleep(pause)
        pause = min(pause * 2, _RETRY_SECONDS)


async def forget(kit: Kit, hooks: Hooks, mirrors: Mirrors, worker: EndingPod, *, in_api: bool) -> None:
    """Remove an ended pod from the API (if it is still there), from the runtime, and from memory."""
    uid, pod = worker.uid, worker.pod
    if spec.is_static(pod):
        await mirrors.remove(pod)
    elif in_api:
        await kit.statuses.delete(pod)
    kit.statuses.forget(uid)
    kit.user_namespaces.forget(uid)
    kit.allocations.forget(uid, kit.view.pod(uid).containers)
    await _remove_records(kit, hooks, uid)
    kit.images.forget_pod(uid)
    kit.tokens.forget_pod(uid)
    kit.crashes.forget_prefix(f"{uid}_")
    await kit.references.release(uid)
    with contextlib.suppress(OSError):
        await asyncio.to_thread(shutil.rmtree, worker.log_directory, ignore_errors=True)
    remove_log_links(kit.log_links_dir, pod)


async def _remove_records(kit: Kit, hooks: Hooks, uid: str) -> None:
    while True:
        runtime = kit.view.pod(uid)
        if runtime.is_empty:
            return
        try:
            await hooks.remove_all(runtime)
        except CriError as error:
            log.warning("cannot remove pod from the runtime", pod_uid=uid, err=str(error))
            await kit.clock.sleep(_RETRY_SECONDS)


def remove_orphan_logs(directory: str, links: str, known: Container[str]) -> None:
    """Remove the log directories (NAMESPACE_NAME_UID) of pods that are not known, and links that lead nowhere."""
    with contextlib.suppress(FileNotFoundError):
        for entry in list(os.scandir(directory)):
            parts = entry.name.split("_")
            if len(parts) == 3 and parts[2] not in known and entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        for entry in list(os.scandir(links)):
            if entry.is_symlink() and not os.path.exists(entry.path):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def remove_log_links(directory: str, pod: Object) -> None:
    """Remove the links to the logs of a pod that is gone."""
    stem = f"{meta.name_of(pod)}_{meta.namespace_of(pod)}_"
    for link in glob.glob(os.path.join(directory, glob.escape(stem) + "*.log")):
        if not os.path.exists(link):
            with contextlib.suppress(OSError):
                os.unlink(link)
