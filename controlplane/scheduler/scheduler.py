"""The scheduling loop: take a pod, find its node, bind it; or say why it fits nowhere, and make room if it may.

Source: k8s.io/kubernetes/pkg/scheduler/schedule_one.go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from controlplane.scheduler import metrics
from controlplane.scheduler.cluster import Cluster
from controlplane.scheduler.framework import Diagnosis, Profile, best_row, feasible_rows
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.preemption import Candidate, preempt
from controlplane.scheduler.queue import Waiting
from controlplane.scheduler.volumebinder import VolumeBinder
from machinery.api import meta
from machinery.api.catalogue import PODS
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC, Client
from machinery.clock import Clock, SystemClock
from machinery.errors import NavarchError, NotFound
from machinery.events import EventRecorder
from machinery.log import get_logger

log = get_logger(__name__)

_IN_FLIGHT = 128
_REMEMBERED_FAILURES = 4096


class Scheduler:
    """Schedules the pods of `profiles`, by schedulerName."""

    def __init__(
        self,
        cluster: Cluster,
        client: Client,
        recorder: EventRecorder,
        profiles: Mapping[str, Profile],
        *,
        clock: Clock | None = None,
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._recorder = recorder
        self._profiles = profiles
        self._clock = clock or SystemClock()
        self._volumes = VolumeBinder(cluster.volumes, client)
        self._random = np.random.default_rng()
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._failures: dict[bytes, tuple[int, Diagnosis]] = {}

    async def run(self) -> None:
        """Schedule until cancelled; bindings under way are finished first or cancelled with it."""
        async with asyncio.TaskGroup() as group:
            while True:
                entry = await self._cluster.queue.get()
                await self._slots.acquire()
                task = group.create_task(self.schedule(entry))
                task.add_done_callback(lambda _: self._slots.release())
                await asyncio.sleep(0)  # let bindings and events proceed between two decisions

    def schedule(self, entry: Waiting) -> Coroutine[None, None, None]:
        """Decide for one pod, at once; returns the work that carries the decision out."""
        pod = entry.pod
        profile = self._profiles[pod.spec.get("schedulerName") or "default-scheduler"]
        started = time.perf_counter()
        row, diagnosis = self._find(profile, pod)
        metrics.ALGORITHM_SECONDS.observe(time.perf_counter() - started)
        if row is not None:
            node_name = self._cluster.nodes.name(row)
            self._cluster.assume(pod, node_name)
            return self._bind(entry, node_name)
        return self._fail(profile, entry, diagnosis)

    def _find(self, profile: Profile, pod: Pod) -> tuple[int | None, Diagnosis]:
        nodes = self._cluster.nodes
        known = self._failures.get(pod.signature)
        if known is not None and known[0] == nodes.changes and not pod.spec.get("volumes"):
            return None, known[1]  # a pod just like it was refused, and nothing has changed since
        ahead = [
            (other, row)
            for other, name in self._cluster.nominated.values()
            if other.key != pod.key and other.priority >= pod.priority and (row := nodes.row(name)) is not None
        ]
        with ExitStack() as stack:
            if ahead:
                stack.enter_context(nodes.with_pods(ahead))
            left, diagnosis = feasible_rows(profile, pod, nodes)
            if diagnosis is None:
                return best_row(profile, pod, nodes, left, self._random), Diagnosis(len(nodes))
        if len(self._failures) >= _REMEMBERED_FAILURES:
            self._failures.clear()
        self._failures[pod.signature] = (nodes.changes, diagnosis)
        return None, diagnosis

    # -- binding -----------------------------------------------------------------------------------------------------

    async def _bind(self, entry: Waiting, node_name: str) -> None:
        pod = entry.pod
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"kind": "Node", "name": node_name},
        }
        try:
            await self._volumes.bind(pod, self._cluster.nodes, node_name)
            await self._client.create_subresource(PODS, pod.name, "binding", binding, pod.namespace)
        except NavarchError as exc:
            metrics.ATTEMPTS.labels("error", pod.spec.get("schedulerName", "")).inc()
            log.warning("binding failed", pod=pod.key, node=node_name, err=str(exc))
            self._cluster.forget(pod)
            if isinstance(exc, NotFound):
                self._cluster.queue.remove(pod.key)
                return
            self._recorder.warning(pod.object, "FailedScheduling", f"binding rejected: {exc}")
            self._cluster.queue.retry(entry)
            return
        self._cluster.confirm(pod)
        metrics.ATTEMPTS.labels("scheduled", pod.spec.get("schedulerName", "")).inc()
        metrics.SLI_SECONDS.observe(asyncio.get_running_loop().time() - entry.first_seen)
        self._recorder.normal(pod.object, "Scheduled", f"Successfully assigned {pod.key} to {node_name}")
        log.debug("pod bound", pod=pod.key, node=node_name)

    # -- failing -----------------------------------------------------------------------------------------------------

    def _fail(self, profile: Profile, entry: Waiting, diagnosis: Diagnosis) -> Coroutine[None, None, None]:
        pod = entry.pod
        metrics.ATTEMPTS.labels("unschedulable", pod.spec.get("schedulerName", "")).inc()
        outcome = preempt(profile, pod, self._cluster.nodes, diagnosis, self._cluster.budgets(), self._random)
        nominated = ""
        if outcome.candidate is not None:
            nominated = self._cluster.nodes.name(outcome.candidate.row)
            self._cluster.nominated[pod.key] = (pod, nominated)
        message = diagnosis.message() + (f" {outcome.message}" if outcome.message else "")
        self._cluster.queue.unschedulable(entry, diagnosis.plugins)
        return self._report(entry, message, nominated, outcome.candidate)

    async def _report(self, entry: Waiting, message: str, nominated: str, candidate: Candidate | None) -> None:
        """Tell the user, and evict the victims of a preemption."""
        pod = entry.pod
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": meta.format_time(self._clock.now()),
        }
        status: Object = {}
        standing = meta.condition((pod.object.get("status") or {}).get("conditions"), "PodScheduled") or {}
        if any(standing.get(part) != condition[part] for part in ("status", "reason", "message")):
            if standing.get("status") == "False" and standing.get("lastTransitionTime"):
                condition["lastTransitionTime"] = standing["lastTransitionTime"]
            status["conditions"] = [condition]
        if nominated and (pod.object.get("status") or {}).get("nominatedNodeName") != nominated:
            status["nominatedNodeName"] = nominated
        try:
            if status:
                await self._client.patch(
                    PODS, pod.name, {"status": status}, pod.namespace, content_type=STRATEGIC, subresource="status"
                )
            if candidate is not None:
                await self._evict(pod, candidate.victims, nominated)
        except NotFound:
            return
        except NavarchError as exc:
            log.warning("could not report that a pod fits nowhere", pod=pod.key, err=str(exc))
            self._cluster.queue.activate(pod.key)
            return
        self._recorder.warning(pod.object, "FailedScheduling", message)

    async def _evict(self, pod: Pod, victims: Sequence[Pod], node_name: str) -> None:
        for victim in victims:
            if meta.is_deleting(victim.object):
                continue
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": f"{pod.spec.get('schedulerName')}: preempting to accommodate a higher priority pod",
                "lastTransitionTime": meta.format_time(self._clock.now()),
            }
            change = {"status": {"conditions": [condition]}}
            try:
                await self._client.patch(
                    PODS, victim.name, change, victim.namespace, content_type=STRATEGIC, subresource="status"
                )
                await self._client.delete(PODS, victim.name, victim.namespace, uid=victim.uid)
            except NotFound:
                continue
            metrics.VICTIMS.inc()
            self._recorder.normal(victim.object, "Preempted", f"Preempted by pod {pod.uid} on node {node_name}")
            log.info("pod preempted", victim=victim.key, by=pod.key, node=node_name)
