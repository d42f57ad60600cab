"""The conditions of the node that the kubelet reports.

Source: kubelet's nodestatus/setters.go; node reference, "Conditions".
"""

from __future__ import annotations

from collections.abc import Sequence

from machinery.api import meta
from machinery.api.meta import Object

MEMORY, DISK, PID, READY = "MemoryPressure", "DiskPressure", "PIDPressure", "Ready"

_PRESSURES = {
    MEMORY: (
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ),
    DISK: (
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ),
    PID: (
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ),
}


def build(pressures: frozenset[str], problems: Sequence[str], before: Sequence[Object], now: str) -> list[Object]:
    """All four conditions; `problems` keep the node from being ready."""
    found = []
    for kind, (bad, good) in _PRESSURES.items():
        under = kind in pressures
        reason, message = bad if under else good
        found.append(_condition(kind, under, reason, message, before, now))
    if problems:
        told = problems[0] if len(problems) == 1 else "[" + ", ".join(problems) + "]"
        found.append(_condition(READY, False, "KubeletNotReady", told, before, now))
    else:
        found.append(_condition(READY, True, "KubeletReady", "kubelet is posting ready status", before, now))
    return found


def _condition(kind: str, holds: bool, reason: str, message: str, before: Sequence[Object], now: str) -> Object:
    status = "True" if holds else "False"
    old = meta.condition(before, kind)
    same = old is not None and old.get("status") == status
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": old["lastTransitionTime"] if same and old is not None else now,
    }
