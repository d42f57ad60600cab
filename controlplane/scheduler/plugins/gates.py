"""SchedulingGates: pods that somebody holds back. Source: KEP-3521; plugins/schedulinggates."""

from __future__ import annotations

from controlplane.scheduler.pod import Pod


class SchedulingGates:
    """Keeps pods out of the queue while they have gates."""

    name = "SchedulingGates"

    def gate(self, pod: Pod) -> str | None:
        """What the pod waits for."""
        gates = [gate["name"] for gate in pod.spec.get("schedulingGates") or ()]
        return f"waiting for scheduling gates: [{' '.join(gates)}]" if gates else None
