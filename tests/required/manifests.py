"""What kubectl is given, and kubectl as a proxy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cluster import KUBECTL, SECONDS, Cluster

from machinery.api.meta import Object


def manifest(api_version: str, kind: str, body: Object) -> str:
    """Text for `-f -`."""
    return json.dumps({"apiVersion": api_version, "kind": kind, **body})


@asynccontextmanager
async def proxy(cluster: Cluster, *options: str) -> AsyncIterator[str]:
    """`kubectl proxy`, and the first line that it says."""
    process = await asyncio.create_subprocess_exec(
        KUBECTL,
        f"--kubeconfig={cluster.lab.layout.kubeconfig}",
        "proxy",
        *options,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(SECONDS):
            yield (await process.stdout.readline()).decode()
    finally:
        process.terminate()
        await process.wait()
