"""How full a filesystem is, as the Summary API tells it (FsStats)."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from agent.kubelet.node import machine
from machinery.api import meta
from machinery.api.meta import Object


def shown_time(seconds: float) -> str:
    """A moment of the machine's clock as RFC 3339."""
    return meta.format_time(datetime.fromtimestamp(seconds, UTC))


def filesystem(path: str) -> Object:
    """FsStats of the filesystem that holds a path. Raises OSError."""
    found = machine.disk(path)
    return {
        "time": shown_time(time.time()),
        "availableBytes": found.f_bavail * found.f_frsize,
        "capacityBytes": found.f_blocks * found.f_frsize,
        "usedBytes": (found.f_blocks - found.f_bfree) * found.f_frsize,
        "inodesFree": found.f_ffree,
        "inodes": found.f_files,
        "inodesUsed": found.f_files - found.f_ffree,
    }
