"""PodResizeValidator: a pod is not resized to what its node could never give it.

Source: k8s.io/kubernetes/plugin/pkg/admission/podresize.
"""

from __future__ import annotations

from controlplane.apiserver.admission.boundpods import node_named, node_of_change
from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import UPDATE, BasePlugin, refuse, subject
from controlplane.apiserver.reader import Reader
from machinery.api import podresources, quantity
from machinery.api.catalogue import PODS
from machinery.api.fielderror import show
from machinery.api.meta import Object, labels_of
from machinery.errors import Forbidden

_SYSTEM = "kubernetes.io/os"


class PodResizeValidator(BasePlugin):
    """Refuses at once what the kubelet would call infeasible."""

    name = "PodResizeValidator"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, operation: Operation) -> bool:
        """Resizes of pods."""
        return operation.verb == UPDATE and operation.resource == PODS and operation.subresource == "resize"

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden."""
        name = node_of_change(operation)
        if not name:
            return
        node = node_named(self._reader, operation, name)
        system = labels_of(node).get(_SYSTEM, "linux")
        if system != "linux":
            told = f"pod resize is only supported on linux nodes, node {show(name)} is {show(system)}"
            raise _refusal(operation, told, "UnsupportedPlatform")
        lacking = "; ".join(_lacking(subject(operation), (node.get("status") or {}).get("allocatable") or {}))
        if lacking:
            raise _refusal(operation, f"node didn't have enough allocatable resources: {lacking}", "NodeCapacity")


def _lacking(pod: Object, allocatable: Object) -> list[str]:
    requests = podresources.of_pod(pod)
    told = []
    for name in ("cpu", "memory"):
        asked, most = requests.get(name, quantity.ZERO), quantity.parse(allocatable.get(name) or "0")
        if asked > most:
            shown = [amount.milli_value() if name == "cpu" else amount.value() for amount in (asked, most)]
            told.append(f"{name}, requested: {shown[0]}, allocatable: {shown[1]}")
    return told


def _refusal(operation: Operation, told: str, reason: str) -> Forbidden:
    refusal = refuse(operation, told)
    refusal.details = {**(refusal.details or {}), "causes": [{"reason": reason}]}
    return refusal
