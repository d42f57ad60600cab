"""A host's absolute paths, under the folder where its file system is."""

from __future__ import annotations

from pathlib import Path

from machinery import pki


def inside(root: Path, path: str) -> Path:
    """Where the host's absolute `path` lies under `root`."""
    return root / path.lstrip("/")


def write_changed(path: Path, text: str, *, mode: int = 0o600) -> bool:
    """Write the file unless it says just that already; whether it was written. Nobody sees half of it."""
    data = text.encode()
    if path.exists() and path.read_bytes() == data:
        return False
    pki.write_file(path, data, mode=mode)
    return True
