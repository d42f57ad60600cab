"""Reading container logs as the runtime writes them: `TIME STREAM TAG TEXT`, one line for each piece.

Source: kubelet's kuberuntime/logs; CRI log format.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from machinery.errors import NavarchError

_BLOCK = 64 * 1024
_POLL_SECONDS = 0.1
_MAX_LINE = 1024 * 1024


class LogError(NavarchError):
    """A log can't be read."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What is wanted of a log. Source: core/v1 PodLogOptions."""

    follow: bool = False
    timestamps: bool = False
    since: datetime | None = None
    tail_lines: int = -1  # below 0: all
    limit_bytes: int = -1  # below 0: all
    stream: str = "All"  # All, Stdout, Stderr


def _parse(line: bytes) -> tuple[bytes, bytes, bytes, bytes] | None:
    fields = line.split(b" ", 3)
    if len(fields) < 3 or fields[1] not in (b"stdout", b"stderr"):
        return None
    return fields[0], fields[1], fields[2], fields[3] if len(fields) == 4 else b"\n"


def _is_old(stamp: bytes, since: datetime | None) -> bool:
    if since is None:
        return False
    text = stamp.decode("ascii", "replace")
    head, dot, rest = text.partition(".")
    if dot:  # more digits than datetime holds
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        text = f"{head}.{digits[:6]:0<6}{rest[len(digits) :]}"
    try:
        return datetime.fromisoformat(text).astimezone(UTC) < since
    except ValueError:
        return False


def find_tail(handle: int, lines: int) -> int:
    """The offset at which the last `lines` lines begin."""
    end = os.fstat(handle).st_size
    if lines < 0:
        return 0
    if lines == 0:
        return end
    position, seen = end, 0
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        block = os.pread(handle, size, position)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            if position + at == end - 1:
                continue  # the end of the last line
            seen += 1
            if seen == lines:
                return position + at + 1
    return 0


async def read(path: str, options: LogOptions, is_running: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The log's text, piece by piece; with `follow` until the container ends. Raises LogError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LogError(f'failed to try resolving symlinks in path "{path}": {error.strerror}') from error
    left = options.limit_bytes
    try:
        position = find_tail(handle, options.tail_lines)
        rest = b""
        at_line_start = True
        while True:
            running = is_running()
            block = os.pread(handle, _BLOCK, position)
            if block:
                position += len(block)
                lines = (rest + block).split(b"\n")
                rest = lines.pop()
                if len(rest) > _MAX_LINE:
                    lines.append(rest)
                    rest = b""
                text = b""
                for line in lines:
                    piece, at_line_start = _render(line + b"\n", options, at_line_start)
                    text += piece
                if options.limit_bytes >= 0:
                    text = text[:left]
                    left -= len(text)
                if text:
                    yield text
                if options.limit_bytes >= 0 and left <= 0:
                    return
                await asyncio.sleep(0)
                continue
            if not options.follow:
                return
            fresh = _reopened(path, handle)
            if fresh is not None:
                os.close(handle)
                handle, position, rest = fresh, 0, b""
                continue
            if not running:
                return
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        os.close(handle)


def _render(line: bytes, options: LogOptions, at_line_start: bool) -> tuple[bytes, bool]:
    """(what to show of a line, whether the next one begins a new line of the container's)."""
    fields = _parse(line)
    if fields is None:
        return b"", True
    stamp, stream, tag, text = fields
    if options.stream != "All" and stream.decode() != options.stream.lower():
        return b"", at_line_start
    if _is_old(stamp, options.since):
        return b"", at_line_start
    partial = tag.startswith(b"P")
    if partial:
        text = text.rstrip(b"\n")
    if options.timestamps and at_line_start:
        text = stamp + b" " + text
    return text, not partial


def _reopened(path: str, handle: int) -> int | None:
    """A handle of the new file, if the log was rotated; None if it is the same one."""
    try:
        fresh = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    if os.fstat(fresh).st_ino == os.fstat(handle).st_ino:
        os.close(fresh)
        return None
    return fresh
