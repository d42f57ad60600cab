"""The scheduling loop: take a pod, find its node, have it bound; or say why it fits nowhere.

Source: k8s.io/kubernetes/pkg/scheduler/schedule_one.go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence

import numpy as np

from controlplane.scheduler import metrics
from controlplane.scheduler.algorithm import Algorithm
from controlplane.scheduler.binding import Binder
from controlplane.scheduler.cluster import Cluster
from controlplane.scheduler.columns import Mask
from controlplane.scheduler.extender import Extender, ExtenderFailed
from controlplane.scheduler.failure import Failures
from controlplane.scheduler.framework import Diagnosis, Profile, Scores
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.queue import Waiting
from controlplane.scheduler.recorder import Recorder
from machinery.api.meta import Object
from machinery.client.rest import Client
from machinery.clock import Clock, SystemClock
from machinery.errors import NavarchError
from machinery.log import get_logger

log = get_logger(__name__)

Work = Coroutine[None, None, None]


class Scheduler:
    """Schedules the pods of `profiles`, by schedulerName."""

    def __init__(
        self,
        cluster: Cluster,
        client: Client,
        recorder: Recorder,
        profiles: Mapping[str, Profile],
        extenders: Sequence[Extender] = (),
        *,
        clock: Clock | None = None,
    ) -> None:
        self._cluster = cluster
        self._profiles = profiles
        self._extenders = extenders
        random = np.random.default_rng()
        self._algorithm = Algorithm(cluster.nodes, random)
        clock = clock or SystemClock()
        self._failures = Failures(cluster, client, recorder, random, clock, extenders)
        self._binder = Binder(cluster, client, recorder, self._failures, extenders)

    async def run(self) -> None:
        """Schedule until cancelled; bindings under way are finished first or cancelled with it."""
        async with asyncio.TaskGroup() as group:
            while True:
                entry = await self._cluster.queue.get()
                slots = self._binder.slots
                await slots.acquire()
                try:
                    work = await self._next(entry)
                except BaseException:
                    slots.release()
                    raise
                task = group.create_task(work)
                task.add_done_callback(lambda _: self._binder.slots.release())
                await asyncio.sleep(0)  # let bindings and events proceed between two decisions

    async def _next(self, entry: Waiting) -> Work:
        profile = self._profiles[entry.pod.scheduler_name]
        asked = [extender for extender in self._extenders if extender.interested(entry.pod)]
        started = time.perf_counter()
        try:
            if asked:
                return await self._decide_with(asked, profile, entry, started)
            return self._decide(profile, entry, started)
        except NavarchError as exc:  # a plugin or an extender failed: the pod is tried again
            return self._failures.error(entry, str(exc), started)
        except Exception as exc:  # a defect met by one pod must not keep all others from being scheduled
            log.error("scheduling failed", error=exc, trace=True, pod=entry.pod.key)
            return self._failures.error(entry, f"{type(exc).__name__}: {exc}", started)

    def _decide(self, profile: Profile, entry: Waiting, started: float) -> Work:
        """Decide for one pod, at once; returns the work that carries the decision out."""
        pod = entry.pod
        left, diagnosis = self._feasible(profile, pod)
        if diagnosis is not None:
            metrics.ALGORITHM_SECONDS.observe(time.perf_counter() - started)
            return self._failures.unschedulable(profile, entry, diagnosis, started)
        return self._place(profile, entry, left, started)

    def _place(self, profile: Profile, entry: Waiting, left: Mask, started: float, extra: Scores | None = None) -> Work:
        scoring = time.perf_counter()
        row = self._algorithm.best(profile, entry.pod, left, extra)
        now = time.perf_counter()
        metrics.extension_point("Score", profile.name).observe(now - scoring)
        metrics.ALGORITHM_SECONDS.observe(now - started)
        return self._binder.take(profile, entry, self._cluster.nodes.name(row), started)

    def _feasible(self, profile: Profile, pod: Pod) -> tuple[Mask, Diagnosis | None]:
        filtering = time.perf_counter()
        found = self._algorithm.feasible(profile, pod, self._cluster.ahead_of(pod))
        metrics.extension_point("Filter", profile.name).observe(time.perf_counter() - filtering)
        return found

    # -- extenders ---------------------------------------------------------------------------------------------------

    async def _decide_with(
        self, extenders: Sequence[Extender], profile: Profile, entry: Waiting, started: float
    ) -> Work:
        pod, nodes = entry.pod, self._cluster.nodes
        left, diagnosis = self._feasible(profile, pod)
        if diagnosis is None:
            left, diagnosis = await self._filter_with(extenders, pod, left)
        if diagnosis is not None:
            return self._failures.unschedulable(profile, entry, diagnosis, started)
        extra: Scores = np.zeros(nodes.capacity, np.int64)
        for extender in extenders:
            if not extender.settings.prioritize_verb:
                continue
            try:
                scores = await extender.prioritize(pod, self._objects(left))
            except ExtenderFailed as exc:  # the others decide
                log.debug("extender gave no scores", extender=extender.settings.url_prefix, err=str(exc))
                continue
            for name, score in scores.items():
                if (row := nodes.row(name)) is not None:
                    extra[row] += score
        left = left & nodes.exists
        if not left.any():  # while the extenders thought
            raise ExtenderFailed("the nodes that extenders chose are gone")
        return self._place(profile, entry, left, started, extra)

    async def _filter_with(self, extenders: Sequence[Extender], pod: Pod, left: Mask) -> tuple[Mask, Diagnosis | None]:
        nodes = self._cluster.nodes
        reasons: dict[str, int] = {}
        final: Mask = np.zeros(nodes.capacity, np.bool_)
        for extender in extenders:
            if not extender.settings.filter_verb or not left.any():
                continue
            try:
                passed, failed, hopeless = await extender.filter(pod, self._objects(left))
            except ExtenderFailed as exc:
                if extender.settings.ignorable:
                    log.info("skipping extender", extender=extender.settings.url_prefix, err=str(exc))
                    continue
                raise
            for name, reason in (failed | hopeless).items():
                reasons[reason] = reasons.get(reason, 0) + 1
                if name in hopeless and (row := nodes.row(name)) is not None:
                    final[row] = True
            left = left & nodes.labels.named(passed)
        if left.any():
            return left, None
        return left, Diagnosis(len(nodes), reasons, frozenset(("Extender",)), nodes.exists & ~final)

    def _objects(self, rows: Mask) -> dict[str, Object]:
        nodes = self._cluster.nodes
        found = [nodes.node(row) for row in np.flatnonzero(rows & nodes.exists).tolist()]
        return {node["metadata"]["name"]: node for node in found}
