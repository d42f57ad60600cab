"""hostPath volumes: what must be there, and what is made if it isn't.

Source: pod API HostPathVolumeSource; k8s.io/kubernetes pkg/volume/hostpath.
"""

from __future__ import annotations

import os
import stat

from agent.kubelet.container.errors import VolumeError
from machinery.api.meta import Object


def prepare(source: Object) -> str:
    """The path to mount, checked against the volume's type. Raises VolumeError."""
    path, kind = source["path"], source.get("type") or ""
    try:
        if kind == "DirectoryOrCreate" and not os.path.lexists(path):
            os.makedirs(path, mode=0o755)
        elif kind == "FileOrCreate" and not os.path.lexists(path):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        if kind:
            _check(path, kind)
    except OSError as error:
        raise VolumeError(f"hostPath {path}: {error.strerror}") from error
    return str(path)


def _check(path: str, kind: str) -> None:
    checks = {
        "Directory": (stat.S_ISDIR, "a directory"),
        "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
        "File": (stat.S_ISREG, "a file"),
        "FileOrCreate": (stat.S_ISREG, "a file"),
        "Socket": (stat.S_ISSOCK, "a socket file"),
        "CharDevice": (stat.S_ISCHR, "a character device"),
        "BlockDevice": (stat.S_ISBLK, "a block device"),
    }
    if kind not in checks:
        raise VolumeError(f"{kind} is an invalid volume type")
    test, name = checks[kind]
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = 0
    if not test(mode):
        raise VolumeError(f"hostPath type check failed: {path} is not {name}")
