"""Files that one host makes for another: certificates of the cluster, a worker's files.

They travel as a tar archive in base64 over Ansible's own connection, and are never written on the way.
"""

from __future__ import annotations

import base64
import binascii
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from lab.errors import LabError
from machinery import pki

SHARED = (
    *("ca.crt", "ca.key", "sa.key", "sa.pub", "front-proxy-ca.crt", "front-proxy-ca.key"),
    *("etcd/ca.crt", "etcd/ca.key"),
)
"""What all control planes have in common below /etc/kubernetes/pki.

Source: kubeadm init, phase upload-certs.
"""

OWN = ("etc/kubernetes/kubelet.conf",)
"""Files that a host goes on changing by itself: they are not replaced."""

_MAX_BYTES = 1 << 22


def pack(folder: Path, names: Sequence[str] = ()) -> str:
    """The files of a folder (those named, or all). Raises LabError naming one that is missing."""
    paths = [folder / name for name in names] or sorted(path for path in folder.rglob("*") if path.is_file())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in paths:
            if not path.is_file():
                raise LabError(f"{path}: no such file")
            content = path.read_bytes()
            info = tarfile.TarInfo(str(path.relative_to(folder)))
            info.size, info.mode = len(content), path.stat().st_mode & 0o777
            tar.addfile(info, io.BytesIO(content))
    return base64.b64encode(buffer.getvalue()).decode()


def unpack(text: str, root: Path) -> list[str]:
    """Write what differs from what is there; returns the paths. Raises LabError for what is not of `pack`."""
    written = []
    try:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text.strip(), validate=True)), mode="r:gz") as tar:
            for info in tar.getmembers():
                path, file = Path(info.name), tar.extractfile(info)
                if path.is_absolute() or ".." in path.parts or file is None or info.size > _MAX_BYTES:
                    raise LabError(f"the archive has {info.name!r}, which is no file to be put here")
                content, target = file.read(), root / path
                kept = info.name in OWN and target.exists()
                if kept or (target.exists() and target.read_bytes() == content):
                    continue
                pki.write_file(target, content, mode=info.mode)
                written.append(info.name)
    except (binascii.Error, tarfile.TarError, EOFError) as exc:
        raise LabError(f"standard input is no archive of `navarch vms pack`: {exc}") from exc
    return written
