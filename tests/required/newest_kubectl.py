"""kubectl of the version whose requirements are shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cluster import SECONDS, Cluster

from lab.verbs import clients
from machinery.api.meta import Object

PROGRAM = clients.FOLDER / "tools" / "new" / "kubectl"


def manifest(api_version: str, kind: str, body: Object) -> str:
    """Text for `-f -`."""
    return json.dumps({"apiVersion": api_version, "kind": kind, **body})


@asynccontextmanager
async def proxy(cluster: Cluster, *options: str) -> AsyncIterator[str]:
    """`kubectl proxy`, and the first line that it says."""
    process = await asyncio.create_subprocess_exec(
        cluster.program,
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
