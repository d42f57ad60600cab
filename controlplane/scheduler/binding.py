"""Carrying out a decision: the pod is assumed on its node at once, and bound there by the API server.

Source: k8s.io/kubernetes/pkg/scheduler/schedule_one.go (bindingCycle); plugins/defaultbinder.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence

from controlplane.scheduler import metrics
from controlplane.scheduler.cluster import Cluster
from controlplane.scheduler.extender import Extender, ExtenderFailed, binders
from controlplane.scheduler.failure import Failures
from controlplane.scheduler.framework import Profile, Reserve
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.queue import Waiting
from controlplane.scheduler.recorder import SCHEDULED, Recorder
from machinery.api.catalogue import PODS
from machinery.client.rest import Client
from machinery.errors import NavarchError
from machinery.log import get_logger

log = get_logger(__name__)


class Binder:
    """Binds pods to the nodes that were chosen for them."""

    def __init__(
        self, cluster: Cluster, client: Client, recorder: Recorder, failures: Failures, extenders: Sequence[Extender]
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._recorder = recorder
        self._failures = failures
        self._extenders = extenders

    def take(self, profile: Profile, entry: Waiting, node_name: str, started: float) -> Coroutine[None, None, None]:
        """Count the pod on its node from now on; returns the work that binds it. Raises NavarchError."""
        pod = entry.pod
        self._cluster.assume(pod, node_name)
        busy: list[Reserve] = []
        if pod.shape.claims or pod.may_want_devices:
            try:
                busy = [plugin for plugin in profile.reserves if plugin.reserve(pod, node_name)]
            except NavarchError:
                self._cluster.forget(pod)
                raise
        return self._bind(profile, entry, node_name, busy, started)

    async def _bind(
        self, profile: Profile, entry: Waiting, node_name: str, busy: Sequence[Reserve], started: float
    ) -> None:
        pod = entry.pod
        doing = "PreBind plugin"
        name = ""
        try:
            if busy:
                async with self._failures.preparing(pod):
                    await self._failures.set_nominated(pod, node_name)  # so that others know before it is bound
                    for plugin in busy:
                        name = plugin.name
                        await plugin.before_binding(pod, node_name)
            doing, name = "Bind plugin", "DefaultBinder"
            binding = time.perf_counter()
            await self._store(pod, node_name)
        except asyncio.CancelledError:
            await self._give_up(pod, node_name, busy)
            raise
        except (NavarchError, TimeoutError) as exc:
            why = "preempted" if isinstance(exc, TimeoutError) else str(exc)
            log.warning("binding failed", pod=pod.key, node=node_name, err=why)
            await self._give_up(pod, node_name, busy)
            await self._failures.error(entry, f'running {doing} "{name}": {why}', started)
            return
        now = time.perf_counter()
        self._cluster.confirm(pod)
        metrics.extension_point("Bind", profile.name).observe(now - binding)
        metrics.attempted("scheduled", profile.name, now - started)
        metrics.POD_ATTEMPTS.observe(entry.attempts)
        if entry.first_attempt is not None:
            waited = asyncio.get_running_loop().time() - entry.first_attempt
            metrics.SLI_SECONDS.labels(metrics.attempts_label(entry.attempts)).observe(waited)
        self._recorder.record(
            pod.object, pod.scheduler_name, SCHEDULED, f"Successfully assigned {pod.key} to {node_name}"
        )

    async def _store(self, pod: Pod, node_name: str) -> None:
        for extender in binders(self._extenders, pod):
            try:
                await extender.bind(pod, node_name)
            except ExtenderFailed as exc:
                if not extender.settings.ignorable:
                    raise
                log.info("skipping extender in bind", extender=extender.settings.url_prefix, err=str(exc))
            else:
                return
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"kind": "Node", "name": node_name},
        }
        await self._client.create_subresource(PODS, pod.name, "binding", binding, pod.namespace)

    async def _give_up(self, pod: Pod, node_name: str, busy: Sequence[Reserve]) -> None:
        for plugin in busy:
            await plugin.unreserve(pod, node_name)
        self._cluster.forget(pod)
