"""NodeDeclaredFeatureValidator: a pod on a node is not changed in a way that its node has not said it can follow.

Source: k8s.io/kubernetes/plugin/pkg/admission/nodedeclaredfeatures, k8s.io/component-helpers/nodedeclaredfeatures/
features/inplacepodresize; KEP-5328.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from controlplane.apiserver.admission.boundpods import node_named, node_of_change
from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import UPDATE, BasePlugin, refuse, subject
from controlplane.apiserver.reader import Reader
from machinery.api import quantity
from machinery.api.catalogue import PODS
from machinery.api.fielderror import show
from machinery.api.meta import Object

CPUS_OF_GUARANTEED_PODS = "GuaranteedQoSPodCPUResize"
PODS_AS_A_WHOLE = "InPlacePodLevelResourcesVerticalScaling"
INIT_CONTAINERS = "InPlacePodVerticalScalingInitContainers"


class NodeDeclaredFeatureValidator(BasePlugin):
    """Looks at changes of pods and at their resizes."""

    name = "NodeDeclaredFeatureValidator"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, operation: Operation) -> bool:
        """Updates of pods, and their resize subresource."""
        return operation.verb == UPDATE and operation.resource == PODS and operation.subresource in ("", "resize")

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden."""
        name = node_of_change(operation)
        needed = list(_needed(operation.old or {}, subject(operation)["spec"])) if name else []
        if not needed:
            return
        node = node_named(self._reader, operation, name)
        declared = (node.get("status") or {}).get("declaredFeatures") or ()
        lacking = [feature for feature in needed if feature not in declared]
        if lacking:
            told = f"pod update requires features {', '.join(lacking)} which are not available on node {show(name)}"
            raise refuse(operation, told)


def _needed(old: Object, spec: Object) -> Iterator[str]:
    """The features that a change of a pod asks of its node, by name."""
    before = old.get("spec") or {}
    if (old.get("status") or {}).get("qosClass") == "Guaranteed" and any(
        _cpu(was) != _cpu(now) for was, now in _pairs(before, spec, "containers")
    ):
        yield CPUS_OF_GUARANTEED_PODS
    if before.get("resources") != spec.get("resources"):
        yield PODS_AS_A_WHOLE
    if any(
        was.get("restartPolicy") != "Always" and (was.get("resources") or {}) != (now.get("resources") or {})
        for was, now in _pairs(before, spec, "initContainers")
    ):
        yield INIT_CONTAINERS


def _pairs(before: Object, after: Object, kind: str) -> Iterable[tuple[Any, Any]]:
    return zip(before.get(kind) or (), after.get(kind) or (), strict=False)


def _cpu(container: Any) -> quantity.Quantity:
    requests = (container.get("resources") or {}).get("requests") or {}
    return quantity.parse(requests.get("cpu") or "0")
