"""Merging and comparing tolerations.

Source: k8s.io/kubernetes/pkg/util/tolerations.
"""

from __future__ import annotations

from collections.abc import Sequence

from machinery.api.meta import Object


def merge(first: Sequence[Object], second: Sequence[Object]) -> list[Object]:
    """All of both but those that another one covers."""
    every = [*first, *second]
    merged: list[Object] = []
    for index, one in enumerate(every):
        if any(covers(kept, one) for kept in merged):
            continue
        if any(covers(later, one) and not covers(one, later) for later in every[index + 1 :]):
            continue
        merged.append(one)
    return merged


def covers(wide: Object, narrow: Object) -> bool:
    """Whether whatever `narrow` tolerates, `wide` does too."""
    if wide == narrow:
        return True
    if _get(wide, "key") not in ("", _get(narrow, "key")):
        return False
    if _get(wide, "effect") not in ("", _get(narrow, "effect")):
        return False
    seconds = wide.get("tolerationSeconds")
    if seconds is not None:
        others = narrow.get("tolerationSeconds")
        if others is None or others > seconds:
            return False
    if _get(wide, "operator") in ("", "Equal"):
        return _get(narrow, "operator") in ("", "Equal") and _get(wide, "value") == _get(narrow, "value")
    return _get(wide, "operator") == "Exists"


def _get(toleration: Object, key: str) -> str:
    return str(toleration.get(key) or "")
