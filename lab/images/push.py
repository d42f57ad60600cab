"""Pushing images to a registry over its HTTP API.

Source: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md, "Push".
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from lab.errors import LabError
from lab.images.layer import Blob, Image


async def push(session: aiohttp.ClientSession, registry: str, images: Iterable[Image]) -> None:
    """Push images to the registry at `registry` (http://HOST:PORT); what is there already is not sent. Raises LabError.

    Blobs first, manifests after them: an image never appears without its parts.
    """
    try:
        for image in images:
            await _push(session, registry, image)
    except (aiohttp.ClientError, OSError) as exc:
        raise LabError(f"cannot push to {registry}: {exc}") from exc


async def _push(session: aiohttp.ClientSession, registry: str, image: Image) -> None:
    for repository in sorted({name.rpartition(":")[0] for name in image.names}):
        for blob in image.blobs:
            await _push_blob(session, f"{registry}/v2/{repository}", blob)
    for name in image.names:
        repository, _, tag = name.rpartition(":")
        url = f"{registry}/v2/{repository}/manifests/{tag}"
        headers = {"Content-Type": image.manifest.media_type}
        async with session.put(url, data=image.manifest.data, headers=headers) as response:
            await _expect(response, 201)


async def _push_blob(session: aiohttp.ClientSession, base: str, blob: Blob) -> None:
    async with session.head(f"{base}/blobs/{blob.digest}") as response:
        if response.status == 200:
            return
    async with session.post(f"{base}/blobs/uploads/") as response:
        await _expect(response, 202)
        location = urljoin(str(response.url), response.headers["Location"])
    separator = "&" if "?" in location else "?"
    headers = {"Content-Type": "application/octet-stream"}
    url = URL(f"{location}{separator}digest={blob.digest}", encoded=True)
    async with session.put(url, data=io.BytesIO(blob.data), headers=headers) as response:
        await _expect(response, 201)


async def _expect(response: aiohttp.ClientResponse, status: int) -> None:
    if response.status != status:
        told = (await response.text())[:500]
        raise LabError(f"{response.method} {response.url}: expected {status}, got {response.status}: {told}")
