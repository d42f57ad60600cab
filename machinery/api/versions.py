"""Which API version is better.

Source: k8s.io/apimachinery/pkg/version CompareKubeAwareVersionStrings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_VERSION = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?", re.ASCII)
_STAGES = {None: 0, "beta": 1, "alpha": 2}


def rank(version: str) -> tuple[int, int, int, str]:
    """Sorts better versions first: v10, v2, v1, v11beta2, v3beta1, v12alpha1, then others by name."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return (3, 0, 0, version)
    return (_STAGES[match[2]], -int(match[1]), -int(match[3] or 0), "")


def by_priority(versions: Iterable[str]) -> list[str]:
    """Versions, the best first."""
    return sorted(versions, key=rank)
