"""Objects as YAML text that every reader understands alike, whether it follows YAML 1.1 or 1.2.

A scalar is written bare only if no version of YAML could take it for anything but a string; else as JSON writes it.
"""

from __future__ import annotations

import json
import re
from typing import Any

_BARE = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@%+-]*")
_WORDS = frozenset({"y", "yes", "n", "no", "true", "false", "on", "off", "null", "nan", "inf"})


def dumps(value: Any) -> bytes:
    """YAML of what JSON can express; keys sorted."""
    if isinstance(value, dict | list) and value:
        lines: list[str] = []
        _write(value, 0, lines)
        return ("\n".join(lines) + "\n").encode()
    return (_scalar(value) + "\n").encode()


def _write(value: Any, indent: int, lines: list[str]) -> None:
    pad = "  " * indent
    if isinstance(value, dict):
        for key in sorted(value):
            _entry(f"{pad}{_scalar(key)}:", value[key], indent, lines)
        return
    for item in value:
        if isinstance(item, dict | list) and item:
            at = len(lines)
            _write(item, indent + 1, lines)
            lines[at] = f"{pad}- {lines[at][len(pad) + 2 :]}"
        else:
            lines.append(f"{pad}- {_scalar(item)}")


def _entry(head: str, value: Any, indent: int, lines: list[str]) -> None:
    if isinstance(value, dict) and value:
        lines.append(head)
        _write(value, indent + 1, lines)
    elif isinstance(value, list) and value:
        lines.append(head)
        _write(value, indent, lines)
    else:
        lines.append(f"{head} {_scalar(value)}")


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        if _BARE.fullmatch(value) and value.lower() not in _WORDS:
            return value
        return json.dumps(value)
    return json.dumps(value)
