"""Short, stable names for the content of an object: what pod-template-hash and controller-revision-hash carry.

Source: k8s.io/kubernetes/pkg/controller ComputeHash (FNV-1a over template and collision count), rand.SafeEncodeString.
"""

from __future__ import annotations

import json
from typing import Any

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
# Maps whose absence means the same as their being empty; elsewhere `{}` may be a choice (emptyDir: {}).
_PLAIN_MAPS = frozenset({"labels", "annotations", "nodeSelector", "limits", "requests", "matchLabels"})


def normalised(value: Any) -> Any:
    """The value without nulls, empty lists and empty plain maps, which mean the same as nothing."""
    if isinstance(value, dict):
        made = {}
        for name, item in value.items():
            if item is None or item == [] or (item == {} and name in _PLAIN_MAPS):
                continue
            made[name] = normalised(item)
        return made
    if isinstance(value, list):
        return [normalised(item) for item in value]
    return value


def fnv1a(data: bytes) -> int:
    """The 32-bit FNV-1a hash."""
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def safe_encode(text: str) -> str:
    """The text in the alphabet of generated names, which spells no words."""
    return "".join(_ALPHABET[ord(letter) % len(_ALPHABET)] for letter in text)


def content_hash(content: Any, collision_count: int | None = None) -> str:
    """The hash of JSON content; another `collision_count` gives another hash of the same content."""
    data = json.dumps(normalised(content), sort_keys=True, separators=(",", ":")).encode()
    if collision_count is not None:
        data += str(collision_count).encode()
    return safe_encode(str(fnv1a(data)))
