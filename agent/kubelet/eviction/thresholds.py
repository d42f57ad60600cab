"""Eviction thresholds: what is configured, and which of them are met by what was observed. Pure.

Source: Node-pressure Eviction; kubelet's eviction/helpers.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.kubelet.node.conditions import DISK, MEMORY, PID
from agent.kubelet.settings import Settings
from machinery import settings as common
from machinery.api import quantity
from machinery.api.quantity import BINARY_SI, Quantity
from machinery.errors import SettingsError

MEMORY_AVAILABLE, ALLOCATABLE_MEMORY = "memory.available", "allocatableMemory.available"
NODEFS, NODEFS_INODES = "nodefs.available", "nodefs.inodesFree"
IMAGEFS, IMAGEFS_INODES = "imagefs.available", "imagefs.inodesFree"
CONTAINERFS, CONTAINERFS_INODES = "containerfs.available", "containerfs.inodesFree"
PIDS = "pid.available"

_PRECISION = 1_000_000  # of percentages, in parts of one

CONDITIONS = {
    MEMORY_AVAILABLE: MEMORY,
    ALLOCATABLE_MEMORY: MEMORY,
    NODEFS: DISK,
    NODEFS_INODES: DISK,
    IMAGEFS: DISK,
    IMAGEFS_INODES: DISK,
    CONTAINERFS: DISK,
    CONTAINERFS_INODES: DISK,
    PIDS: PID,
}
RESOURCES = {
    MEMORY_AVAILABLE: "memory",
    ALLOCATABLE_MEMORY: "memory",
    NODEFS: "ephemeral-storage",
    IMAGEFS: "ephemeral-storage",
    CONTAINERFS: "ephemeral-storage",
    NODEFS_INODES: "inodes",
    IMAGEFS_INODES: "inodes",
    CONTAINERFS_INODES: "inodes",
    PIDS: "pids",
}


@dataclass(frozen=True, slots=True)
class Observation:
    """How much of something there is, and how much of that is free (bytes, inodes or process ids)."""

    available: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """When pods are evicted: less than this is free, for at least `grace_seconds` (0: hard)."""

    signal: str
    text: str  # as configured: `100Mi`, `10%`
    grace_seconds: float = 0.0
    min_reclaim: str = ""

    def amount(self, capacity: int) -> int:
        """The threshold in bytes, inodes or ids."""
        return parsed(self.text, capacity)

    @property
    def is_hard(self) -> bool:
        """Whether it acts at once."""
        return self.grace_seconds == 0


def parsed(text: str, capacity: int) -> int:
    """An amount or a percentage of a capacity. Raises SettingsError."""
    try:
        return int(capacity * float(text[:-1]) / 100) if text.endswith("%") else quantity.parse(text).value()
    except ValueError as error:
        raise SettingsError(f"eviction threshold {text!r}: {error}") from error


def configured(settings: Settings) -> list[Threshold]:
    """The thresholds of a configuration. Raises SettingsError naming what is wrong."""
    found = [Threshold(signal, text) for signal, text in settings.eviction_hard.items() if _counts(signal, text)]
    for signal, text in settings.eviction_soft.items():
        grace = settings.eviction_soft_grace.get(signal)
        if grace is None:
            raise SettingsError(
                f"evictionSoftGracePeriod: grace period must be specified for the soft eviction threshold {signal}"
            )
        if _counts(signal, text):
            found.append(Threshold(signal, text, common.duration(grace)))
    reclaims = settings.eviction_minimum_reclaim
    for signal, grace in settings.eviction_soft_grace.items():
        _check(signal)
        if common.duration(grace) < 0:
            raise SettingsError(f"invalid eviction grace period specified: {signal}, must be a positive value")
    for signal, text in reclaims.items():
        _check_reclaim(signal, text)
    found = [Threshold(t.signal, t.text, t.grace_seconds, reclaims.get(t.signal, "")) for t in found]
    if "pods" in settings.enforce_allocatable:
        memory = next((t for t in found if t.is_hard and t.signal == MEMORY_AVAILABLE), None)
        if memory is not None:
            found.append(Threshold(ALLOCATABLE_MEMORY, memory.text, 0.0, memory.min_reclaim))
    return found


def _counts(signal: str, text: str) -> bool:
    _check(signal)
    if text in ("0%", "100%"):
        return False
    if not text.endswith("%") and parsed(text, 1) <= 0:
        raise SettingsError(f"eviction threshold {signal} must be positive: {text}")
    parts = parsed(text, 100 * _PRECISION) if text.endswith("%") else 0
    if parts < 0:
        raise SettingsError(f"eviction percentage threshold {signal} must be >= 0%: {text}")
    if parts > 100 * _PRECISION:
        raise SettingsError(f"eviction percentage threshold {signal} must be <= 100%: {text}")
    return True


def _check_reclaim(signal: str, text: str) -> None:
    _check(signal)
    if text.endswith("%") and parsed(text, 100 * _PRECISION) <= 0:
        raise SettingsError(f"eviction percentage minimum reclaim {signal} must be positive: {text}")
    if not text.endswith("%") and parsed(text, 1) < 0:
        raise SettingsError(f"negative eviction minimum reclaim specified for {signal}")


def _check(signal: str) -> None:
    if signal not in CONDITIONS:
        raise SettingsError(f"unsupported eviction signal {signal}")


def met(
    thresholds: Iterable[Threshold], seen: Mapping[str, Observation], *, with_reclaim: bool = False
) -> list[Threshold]:
    """The thresholds that are met; with `with_reclaim` also those whose minimum has not been reclaimed yet."""
    found = []
    for threshold in thresholds:
        observation = seen.get(threshold.signal)
        if observation is None:
            continue
        limit = threshold.amount(observation.capacity)
        if with_reclaim and threshold.min_reclaim:
            limit += parsed(threshold.min_reclaim, observation.capacity)
        if observation.available < limit:
            found.append(threshold)
    return found


def shown(signal: str, amount: int) -> str:
    """An amount as eviction messages show it."""
    return str(quantity.of(amount, BINARY_SI) if RESOURCES[signal] != "pids" else quantity.of(amount))


def as_bytes(amount: int) -> Quantity:
    """Bytes as a quantity that shows Ki, Mi, Gi."""
    return quantity.of(amount, BINARY_SI)
