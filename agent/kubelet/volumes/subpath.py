"""subPath mounts that can't be led out of their volume.

A container that can write to the volume may put a symbolic link where the subPath leads. So the path is resolved,
checked, opened one directory at a time without following links, and what is mounted is the opened file itself.

Source: CVE-2017-1002101; k8s.io/kubernetes pkg/volume/util/subpath.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat

from agent.kubelet import mounts
from agent.kubelet.container.errors import ContainerConfigError

_DIRECTORY = "volume-subpaths"


def prepare(pod_dir: str, volume_name: str, volume_path: str, subpath: str, container: str, index: int) -> str:
    """Bind a part of a volume to a place of its own; returns that place. Raises ContainerConfigError."""
    if os.path.isabs(subpath) or ".." in subpath.split("/"):
        raise ContainerConfigError(f'error SubPath `{subpath}` must not be absolute or contain ".."')
    try:
        handle = _open_inside(volume_path, subpath)
    except OSError as error:
        raise ContainerConfigError(
            f'failed to prepare subPath for volumeMount "{volume_name}" of container "{container}": {error.strerror}'
        ) from error
    try:
        target = os.path.join(pod_dir, _DIRECTORY, volume_name, container, str(index))
        _make_target(target, is_directory=stat.S_ISDIR(os.fstat(handle).st_mode))
        for old in mounts.below(target):
            mounts.unmount(old)
        mounts.bind(f"/proc/self/fd/{handle}", target)
    except OSError as error:
        raise ContainerConfigError(
            f'failed to prepare subPath for volumeMount "{volume_name}" of container "{container}": {error}'
        ) from error
    finally:
        os.close(handle)
    return target


def open_beneath(volume_path: str, path: str) -> int:
    """A file of a volume, open for reading. Raises OSError, also when the path leads outside."""
    handle = _open_inside(volume_path, path, make=False)
    try:
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(handle)


def _open_inside(volume_path: str, subpath: str, *, make: bool = True) -> int:
    """An O_PATH handle of volume/subpath, made (as directories) if missing; OSError if it leads outside."""
    base = os.path.realpath(volume_path)
    resolved = os.path.realpath(os.path.join(base, subpath))
    if resolved != base and not resolved.startswith(base + "/"):
        raise OSError(1, f"subpath {subpath!r} is not within the volume")
    mode = stat.S_IMODE(os.stat(base).st_mode)
    handle = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        parts = [part for part in os.path.relpath(resolved, base).split("/") if part not in ("", ".")]
        for part in parts:
            with contextlib.suppress(FileExistsError):
                if make and not _exists(part, handle):
                    os.mkdir(part, mode & 0o777, dir_fd=handle)
                    os.chmod(part, mode & 0o7777, dir_fd=handle)
            deeper = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
            os.close(handle)
            handle = deeper
            if stat.S_ISLNK(os.fstat(handle).st_mode):
                raise OSError(40, f"{part!r} was replaced by a symbolic link meanwhile")
    except BaseException:
        os.close(handle)
        raise
    return handle


def _exists(name: str, handle: int) -> bool:
    try:
        os.stat(name, dir_fd=handle, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make_target(target: str, *, is_directory: bool) -> None:
    os.makedirs(target if is_directory else os.path.dirname(target), mode=0o750, exist_ok=True)
    if not is_directory:
        with open(target, "ab"):
            pass


def clean(pod_dir: str) -> None:
    """Take all of a pod's subPath mounts away. Raises OSError."""
    top = os.path.join(pod_dir, _DIRECTORY)
    if not os.path.isdir(top):
        return
    for point in list(mounts.below(top)):
        mounts.unmount(point)
    shutil.rmtree(top)
