"""Images in the registry of every lab, and how soon pods leave a node that has died if they want to."""

from __future__ import annotations

from typing import Any

REGISTRY = "registry.navarch.local:5000"
BUSYBOX = f"{REGISTRY}/busybox:1.35"
ECHO = f"{REGISTRY}/echo:1.0"
"""Answers HTTP on port 8080 with what it was asked, and by whom."""

IMPATIENT: list[dict[str, Any]] = [
    {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    for what in ("not-ready", "unreachable")
]
