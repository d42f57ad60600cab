"""Layers and images in OCI's form, made from files: the same files give the same bytes.

Source: https://github.com/opencontainers/image-spec: layer.md, config.md, manifest.md.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder or link of a layer; owned by root. `path` has no leading slash."""

    path: str
    mode: int = 0o755
    content: bytes | None = None
    """A file's content; None for a folder (or a link)."""
    target: str = ""
    """What a symbolic link points to."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes, known by their digest."""

    media_type: str
    data: bytes = field(repr=False)
    digest: str

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Blob:
        """The blob of these bytes."""
        return cls(media_type, data, digest(data))

    @property
    def descriptor(self) -> dict[str, object]:
        """How manifests point to it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}


@dataclass(frozen=True, slots=True)
class Layer:
    """A compressed layer, and the digest of its uncompressed form."""

    blob: Blob
    diff_id: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image: the blobs it is made of, and the manifest that names them."""

    names: tuple[str, ...]
    """REPOSITORY:TAG, each under which it is pushed."""
    blobs: tuple[Blob, ...]
    manifest: Blob


@dataclass(frozen=True, slots=True)
class Settings:
    """How a container of the image runs unless its pod says otherwise."""

    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    ports: Sequence[str] = ()
    """As `8080/tcp`."""
    user: str = ""
    working_dir: str = "/"


def digest(data: bytes) -> str:
    """sha256:…"""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(entries: Iterable[Entry], level: int = 6) -> Layer:
    """A layer of these entries, sorted by path; folders on the way that are not named are made with mode 0755.

    `level` is how hard gzip tries, 1 to 9.
    """
    found = {entry.path: entry for entry in entries}
    for path in list(found):
        while "/" in path:
            path = path.rpartition("/")[0]
            if path in found:
                break
            found[path] = Entry(path)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(found):
            _add(tar, found[path])
    plain = buffer.getvalue()
    return Layer(Blob.of(LAYER_TYPE, gzip.compress(plain, compresslevel=level, mtime=0)), digest(plain))


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.path)
    info.mode, info.mtime, info.uname, info.gname = entry.mode, 0, "root", "root"
    if entry.target:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.target, 0o777
        tar.addfile(info)
    elif entry.content is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    else:
        info.size = len(entry.content)
        tar.addfile(info, io.BytesIO(entry.content))


def image(names: Sequence[str], layers: Sequence[Layer], settings: Settings) -> Image:
    """An image of these layers, for the machine's own architecture: its programs are the machine's own."""
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {
            "Env": [f"{name}={value}" for name, value in settings.environment.items()],
            "Entrypoint": list(settings.entrypoint) or None,
            "Cmd": list(settings.command) or None,
            "WorkingDir": settings.working_dir,
            "ExposedPorts": {port: {} for port in settings.ports},
            "User": settings.user,
        },
        "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]},
        "history": [{"created_by": "navarch"} for _ in layers],
    }
    described = Blob.of(CONFIG_TYPE, json.dumps(config, sort_keys=True).encode())
    blobs = tuple(each.blob for each in layers)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": described.descriptor,
        "layers": [blob.descriptor for blob in blobs],
    }
    body = json.dumps(manifest, sort_keys=True).encode()
    return Image(tuple(names), (described, *blobs), Blob.of(MANIFEST_TYPE, body))


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
