"""TaintNodesByCondition: a new node takes no pods until it is ready.

Source: k8s.io/kubernetes/plugin/pkg/admission/nodetaint.
"""

from __future__ import annotations

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import BasePlugin, spec_of, subject
from controlplane.apiserver.admission.pods import NOT_READY
from machinery.api.catalogue import NODES


class TaintNodesByCondition(BasePlugin):
    """Taints nodes at their creation; the node lifecycle controller takes the taint away."""

    name = "TaintNodesByCondition"
    resources = (NODES,)

    async def admit(self, operation: Operation) -> None:
        """Add the taint."""
        spec = spec_of(subject(operation))
        taints = spec.get("taints") or []
        if not any(t.get("key") == NOT_READY and t.get("effect") == "NoSchedule" for t in taints):
            spec["taints"] = [*taints, {"key": NOT_READY, "effect": "NoSchedule"}]
