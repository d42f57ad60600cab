"""RuntimeClass: what a class of runtimes costs, and where it can run.

Source: k8s.io/kubernetes/plugin/pkg/admission/runtimeclass.
"""

from __future__ import annotations

from controlplane.apiserver.admission import tolerations
from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import BasePlugin, refuse, spec_of, subject
from controlplane.apiserver.reader import Reader
from machinery.api import quantity
from machinery.api.catalogue import PODS, RUNTIMECLASSES
from machinery.api.fielderror import show
from machinery.api.meta import Object

_MISMATCH = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"


class RuntimeClass(BasePlugin):
    """Fills in overhead, node selector and tolerations of the pod's runtime class."""

    name = "RuntimeClass"
    resources = (PODS,)

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def admit(self, operation: Operation) -> None:
        """Raises Forbidden for a class that is not there or does not go with the pod."""
        runtime_class = await self._class(operation)
        if runtime_class is None:
            return
        spec = spec_of(subject(operation))
        overhead = (runtime_class.get("overhead") or {}).get("podFixed")
        if overhead:
            if spec.get("overhead") and not _same(spec["overhead"], overhead):
                raise refuse(operation, _MISMATCH)
            spec["overhead"] = dict(overhead)
        scheduling = runtime_class.get("scheduling") or {}
        self._select(operation, spec, scheduling.get("nodeSelector") or {})
        if scheduling.get("tolerations"):
            spec["tolerations"] = tolerations.merge(spec.get("tolerations") or [], scheduling["tolerations"])

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden where the overhead is not the class's."""
        runtime_class = await self._class(operation)
        has = (subject(operation).get("spec") or {}).get("overhead") or {}
        overhead = ((runtime_class or {}).get("overhead") or {}).get("podFixed") or {}
        if overhead and not _same(has, overhead):
            raise refuse(operation, _MISMATCH)
        if has and not overhead:
            raise refuse(
                operation, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            )

    async def _class(self, operation: Operation) -> Object | None:
        name = (subject(operation).get("spec") or {}).get("runtimeClassName")
        if not name:
            return None
        found = self._reader.get(RUNTIMECLASSES, "", name) or await self._reader.get_latest(RUNTIMECLASSES, "", name)
        if found is None:
            raise refuse(operation, f"pod rejected: RuntimeClass {show(name)} not found")
        return found

    def _select(self, operation: Operation, spec: Object, selector: dict[str, str]) -> None:
        has = spec.get("nodeSelector") or {}
        for key, value in sorted(selector.items()):
            if has.get(key, value) != value:
                told = (
                    f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                    f"pod.spec.nodeSelector[{key}] = {has[key]}"
                )
                raise refuse(operation, told)
        if selector:
            spec["nodeSelector"] = has | selector


def _same(one: dict[str, str], other: dict[str, str]) -> bool:
    return {k: quantity.parse(v) for k, v in one.items()} == {k: quantity.parse(v) for k, v in other.items()}
