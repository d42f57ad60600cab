"""What a pod's worker says of it: its status, made afresh from everything that is known now."""

from __future__ import annotations

from agent.kubelet.kit import Kit
from agent.kubelet.pods.containerstatus import Readiness, StatusInputs, Waiting
from agent.kubelet.pods.resize import Resizing
from agent.kubelet.pods.status import PodInputs, Verdict, not_yet_ended, pod_status, terminated
from machinery.api import meta
from machinery.api.meta import Object


class Reporter:
    """Makes and publishes the status of one pod."""

    def __init__(self, kit: Kit, uid: str, resizing: Resizing) -> None:
        self._kit = kit
        self._uid = uid
        self._resizing = resizing
        self.waiting: dict[str, Waiting] = {}  # by container name: why it isn't running

    def publish(
        self, pod: Object, *, verdict: Verdict | None = None, is_terminal: bool = False, final: bool = False
    ) -> Object:
        """Make the status and have it sent if it is new; returns it. `final`: nothing of the pod runs any more.

        What is sent says that a pod has ended only when that is true of everything in it.
        """
        kit = self._kit
        runtime = kit.view.pod(self._uid)
        old = kit.statuses.get(self._uid) or pod.get("status") or {}
        readiness = Readiness(
            lambda name, container_id: kit.probes.is_started(pod, name, container_id),
            lambda name, container_id: kit.probes.is_ready(pod, name, container_id),
        )
        inputs = PodInputs(
            host_ips=kit.node.ips,
            containers=StatusInputs(
                kit.node.runtime_name,
                {} if is_terminal else self.waiting,
                readiness,
                lambda status: kit.allocations.given_to(pod, status),
            ),
            is_terminal=is_terminal,
            verdict=verdict,
            extra_conditions=() if is_terminal else self._resizing.conditions(pod, runtime),
        )
        status = pod_status(pod, runtime, old, inputs, meta.format_time(kit.clock.now()))
        if final:
            status = terminated(pod, status)
        shown = status if final or not runtime.has_live_parts else not_yet_ended(status, old)
        if shown != kit.statuses.get(self._uid):
            kit.statuses.set(pod, shown)
        return status

    def reject(self, pod: Object, verdict: Verdict) -> None:
        """The status of a pod that this node doesn't take."""
        shown = pod.get("status") or {}
        status: Object = {
            "phase": "Failed",
            "reason": verdict.reason,
            "message": f"Pod was rejected: {verdict.message}",
            "startTime": shown.get("startTime") or meta.format_time(self._kit.clock.now()),
            "conditions": shown.get("conditions") or [],
        }
        if shown.get("qosClass"):
            status["qosClass"] = shown["qosClass"]
        if pod["metadata"].get("generation"):
            status["observedGeneration"] = pod["metadata"]["generation"]
        self._kit.statuses.set(pod, status)
