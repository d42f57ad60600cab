"""What a container left as its last words.

Source: kubelet's getTerminationMessage; pod API, terminationMessagePath and terminationMessagePolicy.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from agent.cri import api_pb2 as pb
from agent.kubelet.container import identity

MAX_MESSAGE_BYTES = 4096
MAX_LOG_BYTES = 2048
MAX_LOG_LINES = 80


def message_of(status: pb.ContainerStatus) -> str:
    """The message of an exited container: the runtime's and, after it, the one the container wrote."""
    annotations = status.annotations
    path = annotations.get(identity.TERMINATION_MESSAGE_PATH, "")
    fallback = (
        annotations.get(identity.TERMINATION_MESSAGE_POLICY) == "FallbackToLogsOnError"
        and status.exit_code != 0
        and status.reason != "ContainerCannotRun"
    )
    written, found = _written(status.mounts, path)
    if fallback and not written:
        written = last_log_lines(status.log_path)
    parts = [status.message, written] if found or written else [status.message]
    return ": ".join(part for part in parts if part)


def _written(mounts: Iterable[pb.Mount], path: str) -> tuple[str, bool]:
    if not path:
        return "", False
    for mount in mounts:
        if mount.container_path == path:
            try:
                return _tail(mount.host_path, MAX_MESSAGE_BYTES), True
            except OSError as error:
                return f"Error on reading termination log {mount.host_path}: {error.strerror}", True
    return "", False


def _tail(path: str, limit: int) -> str:
    # The container may have put anything here: never follow a link out of the pod, never block on a pipe.
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            return ""
        file.seek(max(0, found.st_size - limit))
        return file.read(limit).decode(errors="replace")


def last_log_lines(log_path: str) -> str:
    """The end of a container's log: at most 80 lines and 2048 bytes, without what the log format adds."""
    try:
        with open(log_path, "rb") as file:
            file.seek(0, os.SEEK_END)
            # Each line carries some 45 bytes of its own format.
            file.seek(max(0, file.tell() - MAX_LOG_BYTES - MAX_LOG_LINES * 64))
            raw = file.read()
    except OSError:
        return ""
    text = b""
    for line in raw.splitlines(keepends=True)[-MAX_LOG_LINES:]:
        fields = line.split(b" ", 3)
        if len(fields) == 4 and fields[1] in (b"stdout", b"stderr"):
            text += fields[3] if fields[2] != b"P" else fields[3].rstrip(b"\n")
    return text[-MAX_LOG_BYTES:].decode(errors="replace")
