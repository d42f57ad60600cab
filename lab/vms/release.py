"""A release made of this checkout: the project's archive, its images, and the configuration that names them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import aiohttp
import ryaml

from lab.bootstrap.configuration import IMAGE_REPOSITORY
from lab.errors import LabError
from lab.hosts import sockets
from lab.images import catalogue
from lab.images.layer import Image
from lab.images.push import push
from lab.images.release import Release, release
from lab.topology import REGISTRY_PORT
from lab.vms import clusterfile, payload
from lab.vms.place import Place
from machinery import pki
from machinery.settings import read_yaml

PROXY_MODE_FILE = "proxy-mode"


async def prepare(place: Place) -> str:
    """Make archive, images and configuration; returns the archive's release. Raises LabError."""
    made = await release()
    name, _ = await asyncio.to_thread(payload.archive, place.folder)
    mode = place.folder / PROXY_MODE_FILE
    additions = clusterfile.Additions(
        made.version, made.etcd_tag, mode.read_text() if mode.exists() else None, place.patience()
    )
    documents = clusterfile.complete(read_yaml(clusterfile.FILE), place.machines(), additions)
    text = "---\n".join(ryaml.dumps(document) for document in documents)
    pki.write_file(place.cluster_file, text.encode(), mode=0o644)
    return name


async def push_images(place: Place) -> None:
    """Put all images into the lab's registry. Raises LabError."""
    url = f"http://{place.machines().registry.address}:{REGISTRY_PORT}"
    inside = sockets.factory(place.namespace_file) if place.namespace_file.exists() else None
    images = [*_as_pushed(await release()), *await catalogue.build()]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=inside)) as session:
        await push(session, url, images)


def _as_pushed(made: Release) -> Sequence[Image]:
    """Each image under its names without the registry's own."""
    prefix = f"{IMAGE_REPOSITORY}/"
    for _, names in made.named:
        if other := [name for name in names if not name.startswith(prefix)]:
            raise LabError(f"{other[0]} is not of the registry {IMAGE_REPOSITORY}")
    return [replace(image, names=tuple(name.removeprefix(prefix) for name in names)) for image, names in made.named]
