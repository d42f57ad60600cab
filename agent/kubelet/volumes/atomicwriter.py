"""Files that change all together: a directory of projected files whose readers never see half of an update.

The files live in a time-stamped directory; `..data` is a symbolic link to it, and each name that users see is a link
through `..data`. An update writes a new directory and renames the link.

Source: k8s.io/kubernetes pkg/volume/util/atomic_writer.go.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass

DATA = "..data"
_NEW_DATA = "..data_tmp"
_MAX_PATH = 4096


@dataclass(frozen=True, slots=True)
class ProjectedFile:
    """One file: content, permissions, and whom it belongs to (None: root)."""

    data: bytes
    mode: int
    uid: int | None = None


def check_path(path: str) -> None:
    """Refuse paths that would leave the volume. Raises ValueError."""
    if not path:
        raise ValueError("invalid path: must not be empty")
    if path.startswith("/"):
        raise ValueError(f"invalid path: must be relative path: {path}")
    if ".." in path.split("/"):
        raise ValueError(f"invalid path: must not contain '..': {path}")
    if path.startswith(".."):
        raise ValueError(f"invalid path: must not start with '..': {path}")
    if len(path) > _MAX_PATH:
        raise ValueError(f"invalid path: must be less than or equal to {_MAX_PATH} characters")


def write(target: str, files: Mapping[str, ProjectedFile], *, gid: int | None = None) -> bool:
    """Make `target` hold exactly these files; whether anything changed. Raises ValueError, OSError.

    With `gid` (a pod's fsGroup) files and directories belong to that group and can be read by it.
    """
    for path in files:
        check_path(path)
    cleaned = {os.path.normpath(path): file for path, file in files.items()}
    link = os.path.join(target, DATA)
    old_name = os.readlink(link) if os.path.islink(link) else ""
    old = os.path.join(target, old_name) if old_name else ""
    if old and _is_current(old, cleaned):
        return False
    stamp = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime())
    new = tempfile.mkdtemp(prefix=stamp, dir=target)
    os.chmod(new, 0o755)  # noqa: S103 - containers of any user read it
    try:
        _write_files(new, cleaned)
        if gid is not None:
            give_to_group(new, gid, read_only=True)
        temporary = os.path.join(target, _NEW_DATA)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(os.path.basename(new), temporary)
        os.rename(temporary, link)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    _link_names(target, cleaned)
    if old:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _is_current(directory: str, files: Mapping[str, ProjectedFile]) -> bool:
    found = set()
    for base, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(base, name)
            relative = os.path.relpath(path, directory)
            wanted = files.get(relative)
            if wanted is None:
                return False
            with open(path, "rb") as file:
                if file.read() != wanted.data:
                    return False
            found.add(relative)
    return len(found) == len(files)


def _write_files(directory: str, files: Mapping[str, ProjectedFile]) -> None:
    for relative, content in files.items():
        path = os.path.join(directory, relative)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(content.data)
            while view:
                view = view[os.write(handle, view) :]
            os.fchmod(handle, content.mode)  # past the umask
            if content.uid is not None:
                os.fchown(handle, content.uid, -1)
        finally:
            os.close(handle)


def _link_names(target: str, files: Mapping[str, ProjectedFile]) -> None:
    wanted = {path.split("/", 1)[0] for path in files}
    for name in wanted:
        path = os.path.join(target, name)
        aim = os.path.join(DATA, name)
        if os.path.islink(path) and os.readlink(path) == aim:
            continue
        with contextlib.suppress(FileExistsError):
            os.symlink(aim, path)
    for entry in os.scandir(target):
        if not entry.name.startswith("..") and entry.name not in wanted and entry.is_symlink():
            os.unlink(entry.path)


def give_to_group(path: str, gid: int, *, read_only: bool = False) -> None:
    """Let a group use everything below a path: pod API, fsGroup. Raises OSError."""
    for directory, names, files in os.walk(path):
        _give_one(directory, gid, is_directory=True, read_only=read_only)
        for name in files:
            _give_one(os.path.join(directory, name), gid, is_directory=False, read_only=read_only)
        for name in names:
            if os.path.islink(os.path.join(directory, name)):
                _give_one(os.path.join(directory, name), gid, is_directory=False, read_only=read_only)


def _give_one(path: str, gid: int, *, is_directory: bool, read_only: bool) -> None:
    os.lchown(path, -1, gid)
    if os.path.islink(path):
        return
    mask = 0o440 if read_only else 0o660
    if is_directory:
        mask |= 0o2110
    os.chmod(path, (os.stat(path).st_mode & 0o7777) | mask)
