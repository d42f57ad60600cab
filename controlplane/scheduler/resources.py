"""Resources as integers: which column of the node table a resource is, and what a pod asks of it.

Units: cpu in millis, everything else in whole units (bytes, pods, devices).

Source: k8s.io/kubernetes/pkg/scheduler/framework/types.go (Resource), util/pod_resources.go (non-zero requests).
"""

from __future__ import annotations

from machinery.api import podresources, quantity
from machinery.api.meta import Object
from machinery.api.quantity import Quantity

CPU, MEMORY, EPHEMERAL, PODS = 0, 1, 2, 3
"""Columns that every table has."""

_FIXED = ("cpu", "memory", "ephemeral-storage", "pods")

# Scores count a container that asks for nothing as if it asked for this, so that such pods spread too.
DEFAULT_CPU_MILLIS = 100
DEFAULT_MEMORY_BYTES = 200 * 1024 * 1024


class ResourceNames:
    """Numbers resource names as they are met; a number is never given twice."""

    def __init__(self) -> None:
        self.names = list(_FIXED)
        self._columns = {name: column for column, name in enumerate(_FIXED)}

    def column(self, name: str) -> int:
        """The column of a resource, a new one if it has none yet."""
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = len(self.names)
            self.names.append(name)
        return column

    def __len__(self) -> int:
        return len(self.names)


def amount(name: str, given: Quantity) -> int:
    """A quantity in the table's unit for that resource, rounded up."""
    return given.milli_value() if name == "cpu" else given.value()


def allocatable(node: Object, names: ResourceNames) -> dict[int, int]:
    """Column → what the node has for pods."""
    given = (node.get("status") or {}).get("allocatable") or {}
    return {names.column(name): amount(name, quantity.parse(text)) for name, text in given.items()}


def requested(pod: Object, names: ResourceNames) -> dict[int, int]:
    """Column → what the pod asks for; zero amounts are left out, one of `pods` is in."""
    asked = {names.column(name): amount(name, given) for name, given in podresources.of_pod(pod).items()}
    return {column: number for column, number in asked.items() if number} | {PODS: 1}


def scored(pod: Object, asked: dict[int, int]) -> tuple[int, int]:
    """(cpu, memory) as scoring counts them: defaults for containers that name none."""
    spec = pod["spec"]
    if (spec.get("resources") or {}).get("requests"):
        return asked.get(CPU, 0) or DEFAULT_CPU_MILLIS, asked.get(MEMORY, 0) or DEFAULT_MEMORY_BYTES
    cpu, memory = asked.get(CPU, 0), asked.get(MEMORY, 0)
    for container in spec.get("containers") or ():
        requests = (container.get("resources") or {}).get("requests") or {}
        cpu += 0 if "cpu" in requests else DEFAULT_CPU_MILLIS
        memory += 0 if "memory" in requests else DEFAULT_MEMORY_BYTES
    return cpu, memory
