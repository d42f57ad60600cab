"""When a pod fits nowhere, or something failed: what users are told, and the room that is made.

Source: k8s.io/kubernetes/pkg/scheduler/schedule_one.go (handleSchedulingFailure); framework/preemption.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.scheduler import metrics
from controlplane.scheduler.cluster import Cluster
from controlplane.scheduler.extender import Extender, ExtenderFailed
from controlplane.scheduler.framework import Diagnosis, Profile, Remedy
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.preemption import Candidate, Preemptor, Search, best, ineligible
from controlplane.scheduler.queue import Waiting
from controlplane.scheduler.recorder import FAILED, PREEMPTED, Recorder
from machinery.api import meta
from machinery.api.catalogue import PODS
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC, Client
from machinery.clock import Clock
from machinery.errors import NavarchError, NotFound
from machinery.log import get_logger

log = get_logger(__name__)

KEEP = None
"""The pod's nominatedNodeName stays what it is."""


@dataclass(frozen=True)
class _Told:
    """What came of an attempt: what the user is told, where the pod may go, and what may help it."""

    message: str
    nominated: str | None
    remedies: Sequence[Remedy]


def _afterthoughts(profile: Profile, pod: Pod, diagnosis: Diagnosis) -> tuple[list[str], list[Remedy], bool]:
    """(words, remedies, whether preemption comes next) of plugins that are asked before preemption is."""
    words: list[str] = []
    remedies: list[Remedy] = []
    if not diagnosis.nodes:
        return words, remedies, False
    for plugin in profile.afterthoughts:
        if diagnosis.pre_filter and not diagnosis.asked_claims:
            # Upstream's plugin misses the notes that it would have made in its turn, and nobody is asked after it.
            return ["not found"], remedies, False
        said, remedy = plugin.when_unschedulable(pod)
        words.append(said)
        if remedy is not None:
            remedies.append(remedy)
    return words, remedies, True


class Failures:
    """Deals with pods that could not be placed."""

    def __init__(
        self,
        cluster: Cluster,
        client: Client,
        recorder: Recorder,
        random: np.random.Generator,
        clock: Clock,
        extenders: Sequence[Extender],
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._recorder = recorder
        self._random = random
        self._clock = clock
        self._extenders = [extender for extender in extenders if extender.settings.preempt_verb]
        self._preparing: dict[str, asyncio.Timeout] = {}

    # -- fits nowhere ------------------------------------------------------------------------------------------------

    def unschedulable(
        self, profile: Profile, entry: Waiting, diagnosis: Diagnosis, started: float
    ) -> Coroutine[None, None, None]:
        """Look for room to make; returns the work that makes it and tells the user."""
        pod = entry.pod
        looking = time.perf_counter()
        words, remedies, going_on = _afterthoughts(profile, pod, diagnosis)
        search: Search | None = None
        nominated: str | None = "" if not diagnosis.nodes else KEEP
        if going_on and profile.preemption:
            metrics.PREEMPTION_ATTEMPTS.inc()
            told = ineligible(pod, self._cluster.nodes, diagnosis)
            if not told:
                preemptor = Preemptor(profile, self._cluster.nodes, self._random)
                search = preemptor.search(pod, diagnosis, self._cluster.budgets(), self._cluster.ahead_of(pod))
                if not search.candidates:
                    told, nominated = preemptor.explain(search), ""
            words.append(f"preemption: {told}" if told else "")
        candidate = best(search.candidates) if search is not None and search.candidates else None
        if candidate is not None:
            words.clear()
            nominated = self._cluster.nodes.name(candidate.row)
        metrics.extension_point("PostFilter", profile.name).observe(time.perf_counter() - looking)
        metrics.attempted("unschedulable", profile.name, time.perf_counter() - started)
        if nominated is not KEEP:
            self._cluster.nominate(pod, nominated)
        self._cluster.queue.unschedulable(entry, diagnosis.plugins)
        message = " ".join(filter(None, (diagnosis.message(), ", ".join(filter(None, words)))))
        return self._carry_out(pod, _Told(message, nominated, remedies), search, candidate)

    async def _carry_out(self, pod: Pod, told: _Told, search: Search | None, candidate: Candidate | None) -> None:
        nominated = told.nominated
        for remedy in told.remedies:
            try:
                await remedy()
            except NavarchError as exc:
                log.warning("could not deallocate a claim", pod=pod.key, err=str(exc))
        if candidate is not None and search is not None and self._extenders:
            candidate = await self._ask_extenders(pod, search)
            nominated = self._cluster.nodes.name(candidate.row) if candidate else ""
            self._cluster.nominate(pod, nominated)
        if not await self._report(pod, "Unschedulable", told.message, nominated) or candidate is None:
            return
        try:
            await self._evict(pod, candidate, nominated or "")
        except NavarchError as exc:
            log.warning("preemption failed", pod=pod.key, err=str(exc))
            self._cluster.nominate(pod, "")
            self._cluster.queue.activate(pod.key)

    async def _ask_extenders(self, pod: Pod, search: Search) -> Candidate | None:
        left = {self._cluster.nodes.name(each.row): each for each in search.candidates}
        for extender in self._extenders:
            if not extender.interested(pod):
                continue
            try:
                left = await extender.preempt(pod, left)
            except ExtenderFailed as exc:
                if not extender.settings.ignorable:
                    log.warning("extender refused preemption", pod=pod.key, err=str(exc))
                    return None
                log.info("skipping extender in preemption", extender=extender.settings.url_prefix, err=str(exc))
        return best(left.values()) if left else None

    # -- something failed --------------------------------------------------------------------------------------------

    async def error(self, entry: Waiting, message: str, started: float) -> None:
        """Tell the user, and have the pod tried again after its back-off."""
        pod = entry.pod
        metrics.attempted("error", pod.scheduler_name, time.perf_counter() - started)
        current = self._cluster.pods.get(pod.key)
        if current is None or meta.uid_of(current) != pod.uid or current["spec"].get("nodeName"):
            self._cluster.queue.remove(pod.key)  # gone, or bound after all
            return
        self._cluster.nominate(pod, "")
        self._cluster.queue.retry(entry)
        await self._report(pod, "SchedulerError", message, "")

    # -- telling -----------------------------------------------------------------------------------------------------

    async def set_nominated(self, pod: Pod, node_name: str) -> None:
        """Write down where the pod is about to go; a failure to do so does not matter."""
        try:
            await self._patch(pod, {"nominatedNodeName": node_name})
        except NavarchError as exc:
            log.debug("could not nominate", pod=pod.key, err=str(exc))

    async def _report(self, pod: Pod, reason: str, message: str, nominated: str | None) -> bool:
        """Record the event, the condition and where room is made; False if the pod is gone."""
        self._recorder.record(pod.object, pod.scheduler_name, FAILED, message)
        status = self._changes(pod, reason, message)
        if nominated is not KEEP and pod.nominated_node != nominated:
            status["nominatedNodeName"] = nominated or None
        try:
            if status:
                await self._patch(pod, status)
        except NotFound:
            return False
        except NavarchError as exc:
            log.warning("could not report that a pod fits nowhere", pod=pod.key, err=str(exc))
        return True

    def _changes(self, pod: Pod, reason: str, message: str) -> Object:
        condition: Object = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
        if generation := pod.object["metadata"].get("generation"):
            condition["observedGeneration"] = generation
        current = self._cluster.pods.get(pod.key) or pod.object
        standing = meta.condition((current.get("status") or {}).get("conditions"), "PodScheduled") or {}
        if all(standing.get(part) == value for part, value in condition.items()):
            return {}
        now = meta.format_time(self._clock.now())
        same = standing.get("status") == "False" and standing.get("lastTransitionTime")
        condition |= {"lastProbeTime": None, "lastTransitionTime": standing["lastTransitionTime"] if same else now}
        return {"conditions": [condition]}

    async def _patch(self, pod: Pod, status: Object) -> None:
        change = {"metadata": {"uid": pod.uid}, "status": status}
        await self._client.patch(PODS, pod.name, change, pod.namespace, content_type=STRATEGIC, subresource="status")

    # -- making room: those that are not bound yet -------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def preparing(self, pod: Pod) -> AsyncIterator[None]:
        """Within it the pod waits for what its binding needs; TimeoutError if it has to make room meanwhile."""
        async with asyncio.timeout(None) as scope:
            self._preparing[pod.uid] = scope
            try:
                yield
            finally:
                del self._preparing[pod.uid]

    def _turn_back(self, victim: Pod) -> bool:
        """Have a pod that is not bound yet tried again, which makes room as well as its end would."""
        scope = self._preparing.get(victim.uid)
        if scope is None:
            return False
        scope.reschedule(asyncio.get_running_loop().time())
        return True

    # -- making room -------------------------------------------------------------------------------------------------

    async def _evict(self, pod: Pod, candidate: Candidate, node_name: str) -> None:
        metrics.VICTIMS.observe(len(candidate.victims))
        for victim in candidate.victims:
            if meta.is_deleting(victim.object):
                continue
            condition: Object = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": f"{pod.scheduler_name}: preempting to accommodate a higher priority pod",
                "lastProbeTime": None,
                "lastTransitionTime": meta.format_time(self._clock.now()),
            }
            if generation := victim.object["metadata"].get("generation"):
                condition["observedGeneration"] = generation
            try:
                if not self._turn_back(victim):
                    await self._patch(victim, {"conditions": [condition]})
                    await self._client.delete(PODS, victim.name, victim.namespace, uid=victim.uid)
            except NotFound:
                continue
            note = f"Preempted by pod {pod.uid} on node {node_name}"
            self._recorder.record(victim.object, pod.scheduler_name, PREEMPTED, note, related=pod.object)
            log.info("pod preempted", victim=victim.key, by=pod.key, node=node_name)
        for other in self._cluster.outranked(pod, node_name):
            self._cluster.nominate(other, "")
            await self._patch(other, {"nominatedNodeName": None})
            self._cluster.queue.activate(other.key)
