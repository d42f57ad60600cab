"""Volumes that show the files of an image.

Runtimes mount them themselves (containerd from 2.1 on, CRI-O from 1.31). Under an older one the kubelet does: it lets
the runtime make a container of the image in the pod's sandbox, in which a program runs that only waits; its mount table
tells where the image's layers lie; these are mounted, for reading only, where the volume is; and the container is
stopped but kept with the sandbox, so that the layers stay. Its name is none that a pod's container could have.

Source: KEP-4639; kubelet's kuberuntime (getImageVolumes); overlayfs(5), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from agent.cri import api_pb2 as pb
from agent.cri.client import CriClient
from agent.cri.errors import CriError
from agent.kubelet import mounts
from agent.kubelet.container import identity, security, smallestprogram
from agent.kubelet.container.errors import ContainerConfigError
from agent.kubelet.volumes.model import MountedVolume
from machinery.api.meta import Object

_PROGRAM = "wait"  # below the kubelet's root directory
_INSIDE = "/.kubelet-wait"
_NOBODY = 65534
_KIND = "kubernetes.io~image"
_FIRST_VERSIONS = {"containerd": (2, 1), "cri-o": (1, 31)}


def mounted_by(runtime_name: str, runtime_version: str) -> bool:
    """Whether a runtime mounts images as volumes itself; of one that isn't known it is believed."""
    first = _FIRST_VERSIONS.get(runtime_name)
    numbers = re.match(r"v?(\d+)\.(\d+)", runtime_version)
    return first is None or numbers is None or (int(numbers[1]), int(numbers[2])) >= first


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod's image volumes are made."""

    pod: Object
    pod_dir: str
    sandbox_id: str
    sandbox_config: pb.PodSandboxConfig


class ImageVolumes:
    """Shows images as folders where the runtime can't."""

    def __init__(self, cri: CriClient, root_dir: str) -> None:
        self._cri = cri
        self._program = Path(root_dir, _PROGRAM)

    async def shown(self, place: Place, volume: MountedVolume, image: pb.Image) -> MountedVolume:
        """The volume with the image's files at a path of the host. Raises ContainerConfigError."""
        directory = os.path.join(place.pod_dir, "volumes", _KIND, volume.name)
        try:
            if directory not in mounts.below(directory):
                layers = await self._layers(place, volume.name, image)
                os.makedirs(directory, mode=0o750, exist_ok=True)
                _mount(layers, directory)
        except (CriError, OSError, ValueError) as error:
            raise ContainerConfigError(f'image volume "{volume.name}": {error}') from error
        return replace(volume, path=directory, image=None)

    async def _layers(self, place: Place, name: str, image: pb.Image) -> list[str]:
        """The folders of the image's layers, the uppermost first."""
        smallestprogram.write(self._program)
        container = {"name": f"image-volume.{name}", "image": image.id}
        config = pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name=container["name"]),
            image=pb.ImageSpec(image=image.id),
            command=[_INSIDE],
            working_dir="/",
            mounts=[pb.Mount(container_path=_INSIDE, host_path=str(self._program), readonly=True)],
            labels=identity.container_labels(place.pod, container),
            annotations=identity.container_annotations(place.pod, container, 0),
            linux=pb.LinuxContainerConfig(
                security_context=pb.LinuxContainerSecurityContext(
                    namespace_options=security.namespaces(place.pod),
                    run_as_user=pb.Int64Value(value=_NOBODY),
                    run_as_group=pb.Int64Value(value=_NOBODY),
                    capabilities=pb.Capability(drop_capabilities=["ALL"]),
                    no_new_privs=True,
                )
            ),
        )
        made = await self._cri.create_container(place.sandbox_id, config, place.sandbox_config)
        try:
            await self._cri.start_container(made)
            status = await self._cri.container_status(made, verbose=True)
            return layers_of(_mountinfo(status.info))
        finally:
            await self._cri.stop_container(made, 0)


def _mountinfo(info: Mapping[str, str]) -> str:
    told = orjson.loads(info.get("info") or "{}")
    pid = told.get("pid")
    if not pid:
        raise ValueError("the runtime tells no process id of a container")
    return Path(f"/proc/{int(pid)}/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")


def layers_of(mountinfo: str) -> list[str]:
    """The lower folders of the overlay that is a process' root. Raises ValueError if it is none."""
    for line in mountinfo.splitlines():
        fields, _, of_kind = line.partition(" - ")
        if fields.split(" ")[4] != "/":
            continue
        kind, _, options = of_kind.split(" ", 2)
        if kind != "overlay":
            raise ValueError(f"the runtime's snapshots are no overlays but {kind}")
        lower = next((each for each in options.split(",") if each.startswith("lowerdir=")), "")
        folders = lower.removeprefix("lowerdir=").split(":")
        if not all(folder.startswith("/") for folder in folders):
            raise ValueError("the layers of the image are told by relative paths")
        return folders
    raise ValueError("a process without a root")


def _mount(layers: list[str], directory: str) -> None:
    if len(layers) == 1:  # an overlay needs two
        mounts.bind(layers[0], directory, read_only=True)
    else:
        mounts.mount("overlay", directory, "overlay", mounts.MS_RDONLY, f"lowerdir={':'.join(layers)}")
