"""How long a pod took to start: counted once, when it first runs.

Source: kubelet's util/pod_startup_latency_tracker.go; the pod startup latency SLI (sig-scalability).
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.kubelet import metrics
from agent.kubelet.pods import spec
from agent.kubelet.pods.phase import RUNNING
from machinery.api import meta
from machinery.api.meta import Object
from machinery.clock import Clock


class Startup:
    """The start of one pod that this kubelet has just heard of."""

    def __init__(self, pod: Object, clock: Clock) -> None:
        self._clock, self._seen_at = clock, clock.monotonic()
        # A pod that ran before the kubelet did says nothing of how long starts take.
        self._waits = (pod.get("status") or {}).get("phase") in (None, "Pending")

    def began(self, pod: Object) -> None:
        """The pod's worker begins."""
        metrics.POD_WORKER_START.observe(self._clock.monotonic() - self._seen_at)
        metrics.CONTAINERS_PER_POD.observe(len(spec.containers(pod)))

    def seen(self, pod: Object, status: Object, pulls: Mapping[str, float]) -> None:
        """This is the pod's status now; `pulls` are seconds that pods have waited for their images."""
        if not self._waits or status.get("phase") != RUNNING:
            return
        if not all("running" in (s.get("state") or {}) for s in status.get("containerStatuses") or ()):
            return
        self._waits = False
        metrics.POD_START.observe(self._clock.monotonic() - self._seen_at)
        created = pod["metadata"].get("creationTimestamp")
        if not created or spec.is_static(pod):
            return
        total = (self._clock.now() - meta.parse_time(created)).total_seconds()
        metrics.POD_START_TOTAL.observe(total)
        metrics.POD_START_SLI.observe(max(0.0, total - pulls.get(meta.uid_of(pod), 0.0) - _init_seconds(status)))


def _init_seconds(status: Object) -> float:
    ends = [(s.get("state") or {}).get("terminated") or {} for s in status.get("initContainerStatuses") or ()]
    return sum(
        (meta.parse_time(e["finishedAt"]) - meta.parse_time(e["startedAt"])).total_seconds()
        for e in ends
        if e.get("startedAt") and e.get("finishedAt")
    )
