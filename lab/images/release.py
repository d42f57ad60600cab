"""All images that a cluster's hosts need, with tags that say what is in them; as one archive for `ctr images import`.

Source: https://github.com/opencontainers/image-spec/blob/main/image-layout.md; containerd, docs/content-flow.md
(annotation io.containerd.image.name).
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.bootstrap.configuration import IMAGE_REPOSITORY, KUBERNETES_VERSION
from lab.bootstrap.images import COMPONENTS, PAUSE, tag
from lab.images import catalogue, etcd
from lab.images.layer import Image, digest
from lab.images.python import navarch_image

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Release:
    """The images of the project's components, etcd and pause, made from this machine's files."""

    navarch: Image
    etcd: Image
    pause: Image
    etcd_version: str

    @property
    def version(self) -> str:
        """The kubernetesVersion that stands for exactly this image of the components."""
        return f"{KUBERNETES_VERSION}+{_short(self.navarch)}"

    @property
    def etcd_tag(self) -> str:
        """The etcd.local.imageTag that stands for exactly this image of etcd."""
        return f"{self.etcd_version}-{_short(self.etcd)}"

    @property
    def named(self) -> list[tuple[Image, list[str]]]:
        """Each image and the full names under which hosts are to have it."""
        tags = (tag(KUBERNETES_VERSION), tag(self.version))
        components = [f"{IMAGE_REPOSITORY}/{name}:{each}" for name in COMPONENTS for each in tags]
        return [
            (self.navarch, components),
            (self.etcd, [f"{IMAGE_REPOSITORY}/etcd:{each}" for each in (f"{self.etcd_version}-0", self.etcd_tag)]),
            (self.pause, [f"{IMAGE_REPOSITORY}/{PAUSE}"]),
        ]

    @property
    def key(self) -> str:
        """What tells this set of images from any other."""
        return digest("".join(image.manifest.digest for image, _ in self.named).encode()).rpartition(":")[2][:16]


async def release() -> Release:
    """Make the images, or take those that were made of the same files before. Raises LabError."""
    components, storage, version = await navarch_image(), await etcd.etcd_image(), await etcd.version()
    pause = catalogue.pause_image(catalogue.program(catalogue.CATATONIT_PROGRAM, "catatonit"))
    return Release(components, storage, pause, version)


def save(path: Path, images: Iterable[tuple[Image, list[str]]]) -> None:
    """Write an archive in OCI's layout; the same images give the same bytes. Nobody sees half of it."""
    wanted = list(images)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with tarfile.open(temporary, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
            blobs = {blob.digest: blob.data for image, _ in wanted for blob in (*image.blobs, image.manifest)}
            for each in sorted(blobs):
                _add(tar, f"blobs/sha256/{each.rpartition(':')[2]}", blobs[each])
            _add(tar, "index.json", _index(wanted))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _index(images: Iterable[tuple[Image, list[str]]]) -> bytes:
    manifests = [
        {**image.manifest.descriptor, "annotations": {"io.containerd.image.name": name}}
        for image, names in images
        for name in names
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}, sort_keys=True).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))


def _short(image: Image) -> str:
    return image.manifest.digest.rpartition(":")[2][:_DIGITS]
