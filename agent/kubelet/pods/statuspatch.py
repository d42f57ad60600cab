"""The smallest patch that turns one pod status into another.

Lists that the API merges by key (conditions by type, addresses by ip) are patched entry by entry, so that what others
wrote there stays.

Source: strategic merge patch; pod API patchMergeKey.
"""

from __future__ import annotations

from agent.kubelet.pods.conditions import OWNED
from machinery.api.meta import Object

# What the kubelet writes, and so may take away again.
_FIELDS = (
    "phase",
    "reason",
    "message",
    "hostIP",
    "podIP",
    "startTime",
    "qosClass",
    "observedGeneration",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
    "resize",
)
_ADDRESSES = ("hostIPs", "podIPs")


def between(old: Object, new: Object) -> Object:
    """A strategic merge patch for pods/status; empty if nothing has changed."""
    patch: Object = {}
    for name in _FIELDS:
        if _bare(old.get(name)) != _bare(new.get(name)) and (name in old or name in new):
            patch[name] = new.get(name)
    for name in _ADDRESSES:
        before, after = old.get(name) or [], new.get(name) or []
        if before != after:
            gone = [{"ip": e["ip"], "$patch": "delete"} for e in before if e not in after]
            patch[name] = [*gone, *after]
    changed = _conditions(old.get("conditions") or [], new.get("conditions") or [])
    if changed:
        patch["conditions"] = changed
    return {"status": patch} if patch else {}


def _conditions(old: list[Object], new: list[Object]) -> list[Object]:
    before = {c["type"]: c for c in old}
    after = {c["type"]: c for c in new}
    changed = []
    for condition in new:
        known = before.get(condition["type"], {})
        if _bare(known) != _bare(condition):
            cleared: Object = {name: None for name in ("reason", "message") if name in known and name not in condition}
            changed.append({**condition, **cleared})
    gone = [kind for kind in before if kind not in after and kind in OWNED]
    return changed + [{"type": kind, "$patch": "delete"} for kind in gone]


def _bare(value: object) -> object:
    """Without what says nothing: null and empty values are the same as absent."""
    if isinstance(value, dict):
        return {k: bare for k, v in value.items() if (bare := _bare(v)) not in (None, {}, [])}
    if isinstance(value, list):
        return [_bare(part) for part in value]
    return value
