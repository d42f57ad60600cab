"""What is mounted: /proc/self/mountinfo, read.

Source: proc(5), "/proc/pid/mountinfo".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount, as seen in the reader's mount namespace."""

    target: Path
    kind: str
    """The file system's type: ext4, cgroup2, nsfs, …"""
    options: frozenset[str]
    """The file system's own options (those of a cgroup mount are its controllers)."""


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts, in the order they were made."""
    mounts = []
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        fields, rest = head.split(" "), tail.split(" ")
        if len(fields) < 6 or len(rest) < 3:
            continue
        target = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
        mounts.append(Mount(Path(target), rest[0], frozenset(rest[2].split(","))))
    return mounts


def mounts() -> list[Mount]:
    """The mounts this process sees."""
    return parse_mountinfo(Path("/proc/self/mountinfo").read_text())


def mounts_under(folder: Path) -> list[Mount]:
    """Mounts on `folder` or below it, the last made first: the order in which to unmount."""
    return [m for m in reversed(mounts()) if m.target == folder or folder in m.target.parents]
