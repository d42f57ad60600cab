"""What the node has, and what of it pods may use.

Source: Reserve Compute Resources for System Daemons; kubelet's cm (GetNodeAllocatableReservation).
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.kubelet.node.machine import Machine
from agent.kubelet.resources.cpuset import CpuSet, parse_set
from agent.kubelet.settings import Settings
from machinery.api import podresources, quantity
from machinery.api.meta import Object
from machinery.api.quantity import BINARY_SI, Quantity
from machinery.errors import SettingsError

Amounts = dict[str, Quantity]


def capacity(machine: Machine, settings: Settings, disk_bytes: int) -> Amounts:
    """status.capacity."""
    pods = settings.max_pods
    if settings.pods_per_core > 0:
        pods = min(pods, settings.pods_per_core * machine.cpus)
    found: Amounts = {
        "cpu": quantity.of(machine.cpus),
        "memory": quantity.of(machine.memory_bytes, BINARY_SI),
        "pods": quantity.of(pods),
    }
    if settings.local_storage_isolation:
        found["ephemeral-storage"] = quantity.of(disk_bytes, BINARY_SI)
    for size, total in machine.hugepages.items():
        found[f"hugepages-{size}"] = quantity.of(total, BINARY_SI)
    return found


def allocatable(of_node: Amounts, settings: Settings) -> Amounts:
    """status.allocatable: capacity without what is reserved and what is kept free by eviction."""
    kept = kept_from_pods(of_node, settings)
    found: Amounts = {}
    for name, amount in of_node.items():
        left = amount - kept[name] if name in kept else amount
        found[name] = left if left.nanos > 0 else quantity.ZERO
    # Huge pages are taken out of the memory that everybody can use.
    for name, amount in of_node.items():
        if name.startswith("hugepages-") and amount:
            found["memory"] = found["memory"] - amount
    return found


def kept_from_pods(of_node: Amounts, settings: Settings) -> Amounts:
    """What is reserved, and what eviction keeps free, of what the node has. Raises SettingsError."""
    reserved = reservations(settings)
    found: Amounts = {}
    for name, amount in of_node.items():
        kept = reserved.get(name, quantity.ZERO)
        signal = {"memory": "memory.available", "ephemeral-storage": "nodefs.available"}.get(name)
        threshold = settings.eviction_hard.get(signal or "")
        if threshold:
            free = threshold_amount(threshold, amount)
            kept = kept + free if kept else free
        if kept:
            found[name] = kept
    return found


def reservations(settings: Settings) -> Amounts:
    """systemReserved and kubeReserved together; reservedSystemCPUs says by itself how many. Raises SettingsError."""
    total: Amounts = {}
    for source in (settings.system_reserved, settings.kube_reserved):
        for name, amount in amounts("systemReserved or kubeReserved", source).items():
            total[name] = total[name] + amount if name in total else amount
    if settings.reserved_cpus:
        total["cpu"] = quantity.of(len(_cpus(settings.reserved_cpus)))
    return total


def amounts(field: str, source: Mapping[str, str]) -> Amounts:
    """A field's quantities. Raises SettingsError."""
    found = {}
    for name, text in source.items():
        try:
            found[name] = quantity.parse(text)
        except ValueError as error:
            raise SettingsError(f"{field}: {name}: {error}") from error
    return found


def _cpus(text: str) -> CpuSet:
    try:
        return parse_set(text)
    except ValueError as error:
        raise SettingsError(
            f"invalid configuration: unable to parse reservedSystemCPUs (--reserved-cpus) {text}, error: {error}"
        ) from error


def threshold_amount(text: str, of_total: Quantity) -> Quantity:
    """An eviction threshold (`100Mi` or `10%`) as an amount. Raises SettingsError."""
    try:
        if text.endswith("%"):
            return quantity.of(int(of_total.value() * float(text[:-1]) / 100), BINARY_SI)
        return quantity.parse(text)
    except ValueError as error:
        raise SettingsError(f"eviction threshold {text!r}: {error}") from error


def with_advertised(reported: Object, has: Amounts, usable: Amounts) -> tuple[Object, Object]:
    """(capacity, allocatable) as the API shows them, with the extended resources that others put in `reported`.

    Whoever gives a node a resource of their own writes its capacity; all of it can be used. What they took away again
    is None in allocatable. Source: Advertise Extended Resources for a Node.
    """
    capacity_shown, usable_shown = shown(has), shown(usable)
    before = reported.get("capacity") or {}
    others = {name: amount for name, amount in before.items() if _of_others(name, capacity_shown)}
    gone = [n for n in reported.get("allocatable") or {} if _of_others(n, capacity_shown) and n not in others]
    return {**capacity_shown, **others}, {**usable_shown, **others, **dict.fromkeys(gone)}


def _of_others(name: str, ours: Object) -> bool:
    return name not in ours and podresources.is_extended(name)


def shown(amounts: Amounts) -> dict[str, str]:
    """As the API shows them: memory in Ki."""
    found = {}
    for name, amount in sorted(amounts.items()):
        value = amount.value()
        in_kibi = name == "memory" or (name == "ephemeral-storage" and value % 1024 == 0)
        found[name] = f"{value // 1024}Ki" if in_kibi and value >= 1024 else str(amount)
    return found
