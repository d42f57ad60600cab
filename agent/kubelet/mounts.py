"""mount(2) and umount2(2), without a program in between.

Source: mount(2), umount(2), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 4096, 16384, 1 << 18, 1 << 20
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8

_libc = ctypes.CDLL(None, use_errno=True)


def _check(answer: int, path: str) -> None:
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a filesystem. Raises OSError."""
    _check(
        _libc.mount(
            source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None
        ),
        target,
    )


def bind(source: str, target: str, *, read_only: bool = False) -> None:
    """Show a file or directory at a second place. Raises OSError."""
    mount(source, target, "", MS_BIND | MS_REC)
    if read_only:
        mount("", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY)


def tmpfs(target: str, *, size_bytes: int = 0, mode: int = 0o777) -> None:
    """Mount a filesystem in memory; without a size it may grow to half of it. Raises OSError."""
    options = f"mode={mode:o}" + (f",size={size_bytes}" if size_bytes else "")
    mount("tmpfs", target, "tmpfs", 0, options)


def unmount(target: str) -> None:
    """Unmount, now or as soon as nobody uses it; nothing mounted there is no error. Raises OSError."""
    try:
        _check(_libc.umount2(target.encode(), _MNT_DETACH | _UMOUNT_NOFOLLOW), target)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def is_mount_point(path: str) -> bool:
    """Whether another filesystem than its parent's is mounted here (not true of a bind within one filesystem)."""
    try:
        here, above = os.lstat(path), os.lstat(os.path.dirname(path))
    except FileNotFoundError:
        return False
    return here.st_dev != above.st_dev or here.st_ino == above.st_ino


def below(path: str) -> Iterator[str]:
    """Mount points at or below a path, the deepest last mounted first."""
    prefix = path.rstrip("/") + "/"
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        point = _unescape(line.split(" ")[4])
        if point == path or point.startswith(prefix):
            found.append(point)
    yield from reversed(found)


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
