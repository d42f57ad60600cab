"""Ending when the configuration file is written to: whoever keeps the proxy running starts it with the new one."""

from __future__ import annotations

import os

from machinery.clock import Clock
from machinery.errors import SettingsError

_EVERY_SECONDS = 5.0


async def until_written(path: str, clock: Clock) -> None:
    """Return when another file has taken this one's place, which as upstream changes nothing.

    Raises SettingsError when the file has been written to.
    """
    before = _state(path)
    while True:
        await clock.sleep(_EVERY_SECONDS)
        now = _state(path)
        if now is None or before is None or now[:2] != before[:2]:
            return
        if now != before:
            raise SettingsError("content of the proxy server's configuration file was updated")


def _state(path: str) -> tuple[int, int, int, int] | None:
    """(device, inode, time of the last change, size); None if there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
