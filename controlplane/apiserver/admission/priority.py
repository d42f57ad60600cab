"""Priority: the number behind a pod's priority class.

Source: k8s.io/kubernetes/plugin/pkg/admission/priority.
"""

from __future__ import annotations

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import CREATE, UPDATE, BasePlugin, refuse, spec_of, subject
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import PODS, PRIORITYCLASSES
from machinery.api.meta import Object, name_of

_PREEMPT = "PreemptLowerPriority"


class Priority(BasePlugin):
    """Computes a pod's priority; sees to it that only one class is the default."""

    name = "Priority"
    verbs = (CREATE, UPDATE)
    resources = (PODS, PRIORITYCLASSES)

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def admit(self, operation: Operation) -> None:
        """Raises Forbidden for a class that is not there, and for a priority that is not the class's."""
        if operation.resource != PODS:
            return
        spec = spec_of(subject(operation))
        if operation.verb == UPDATE:
            # What was computed at the creation stays, also when the client leaves it out.
            before = (operation.old or {}).get("spec") or {}
            for key in ("priority", "preemptionPolicy"):
                if spec.get(key) is None and before.get(key) is not None:
                    spec[key] = before[key]
            return
        name, value, policy = await self._class(operation, spec.get("priorityClassName") or "")
        if name:
            spec["priorityClassName"] = name
        given = spec.get("priority")
        told = "must not be provided in pod spec; priority admission controller computed"
        if given is not None and given != value:
            raise refuse(
                operation,
                f"the integer value of priority ({given}) {told} {value} from the given PriorityClass name",
            )
        spec["priority"] = value
        given = spec.get("preemptionPolicy")
        if given is not None and given != policy:
            raise refuse(
                operation,
                f"the string value of PreemptionPolicy ({given}) {told} {policy} from the given PriorityClass name",
            )
        spec["preemptionPolicy"] = policy

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden for a second default class."""
        if operation.resource != PRIORITYCLASSES or not subject(operation).get("globalDefault"):
            return
        default = self._default()
        if default is not None and (operation.verb == CREATE or name_of(default) != operation.name):
            told = f"PriorityClass {name_of(default)} is already marked as default. Only one default can exist"
            raise refuse(operation, told)

    async def _class(self, operation: Operation, name: str) -> tuple[str, int, str]:
        if name:
            found = self._reader.get(PRIORITYCLASSES, "", name)
            if found is None:
                found = await self._reader.get_latest(PRIORITYCLASSES, "", name)
            if found is None:
                raise refuse(operation, f"no PriorityClass with name {name} was found")
        else:
            found = self._default()
        if found is None:
            return "", 0, _PREEMPT
        return name_of(found), found.get("value") or 0, found.get("preemptionPolicy") or _PREEMPT

    def _default(self) -> Object | None:
        defaults = [c for c in self._reader.list(PRIORITYCLASSES) if c.get("globalDefault")]
        return min(defaults, key=lambda c: c.get("value") or 0, default=None)
