"""Memory that the system keeps on each NUMA node, which has to add up to what Node Allocatable says in all.

Source: kubelet's cm/memorymanager memory_manager.go; apis/config/validation/validation_reserved_memory.go; KEP-1769.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.kubelet.resources.topology import Topology
from agent.kubelet.settings import Settings
from machinery.api import quantity
from machinery.api.quantity import Quantity
from machinery.errors import SettingsError

MEMORY, HUGEPAGES = "memory", "hugepages-"


def is_memory(resource: str) -> bool:
    """Whether a resource is memory or huge pages."""
    return resource == MEMORY or resource.startswith(HUGEPAGES)


def reserved_memory(settings: Settings, machine: Topology, in_all: Mapping[str, Quantity]) -> dict[int, dict[str, int]]:
    """Bytes by node and kind of memory. `in_all` is kept from pods on the whole node. Raises SettingsError."""
    by_node: dict[int, dict[str, int]] = {number: {} for number in machine.nodes}
    totals: dict[str, Quantity] = {}
    for entry in settings.reserved_memory:
        number = int(entry.get("numaNode") or 0)
        if number not in by_node:
            raise SettingsError(
                f"the reserved memory configuration references a NUMA node {number} that does not exist on this machine"
            )
        for kind, text in (entry.get("limits") or {}).items():
            amount = quantity.parse(text)
            totals[kind] = totals[kind] + amount if kind in totals else amount
            by_node[number][kind] = amount.value()
    for kind in sorted({*totals, *(name for name in in_all if is_memory(name))}):
        wanted, reserved = in_all.get(kind, quantity.ZERO), totals.get(kind, quantity.ZERO)
        if wanted.nanos != reserved.nanos:
            raise SettingsError(
                f'the total amount "{reserved}" of type "{kind}" is not equal to the value "{wanted}" determined by '
                "Node Allocatable feature"
            )
    if not any(kinds.get(MEMORY) for kinds in by_node.values()):
        raise SettingsError("[memorymanager] you should specify the system reserved memory")
    return by_node
