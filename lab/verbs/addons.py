"""`navarch addons`, `mark-control-plane`: what a cluster is given once its API server answers."""

from __future__ import annotations

import argparse
import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from lab.bootstrap import kubeconfig, manifests, marking, objects
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.reading import cluster_document
from lab.bootstrap.rooted import inside
from lab.errors import LabError
from lab.progress import console
from machinery import pki
from machinery.api.catalogue import NAMESPACES
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import Forbidden, NotFound, ServiceUnavailable, TransportError, Unauthorized

Result = TypeVar("Result")
_RETRY_SECONDS = 0.5


def addons(arguments: argparse.Namespace, config: ClusterConfiguration) -> None:
    """Wait for the API server, then create or bring up to date all that a cluster begins with. Raises LabError."""
    root = Path(arguments.root)
    authority = pki.read_certificates(inside(root, f"{config.certificates_dir}/ca.crt"))[0]
    document = cluster_document(arguments.config) if arguments.config else ""
    planned = [*objects.plan(config, document), *objects.cluster_info(config, pki.certificate_pem(authority))]

    async def work() -> None:
        path = inside(root, arguments.kubeconfig or kubeconfig.SUPER_ADMIN.file)
        async with Client(_client(path), user_agent="navarch") as client:
            there = functools.partial(client.get, NAMESPACES, manifests.SYSTEM)
            await _patiently(there, "the API server is not ready", arguments.timeout)
            await objects.apply(client, planned)

    asyncio.run(work())
    console.print(f"{len(planned)} objects are as they should be")


def mark_control_plane(arguments: argparse.Namespace, config: ClusterConfiguration) -> None:
    """Wait for the Nodes, then label and taint them as control planes. Raises LabError."""
    names = arguments.nodes or [config.node_name]

    async def work() -> None:
        path = inside(Path(arguments.root), arguments.kubeconfig or kubeconfig.ADMIN.file)
        async with Client(_client(path), user_agent="navarch") as client:
            for name in names:
                marked = functools.partial(marking.mark, client, name, config.node.taints)
                changed = await _patiently(marked, f"Node {name} is not there", arguments.timeout)
                console.print(f"node {name} {'is now marked' if changed else 'was marked already'}")

    asyncio.run(work())


def _client(path: Path) -> ClientConfig:
    if not path.exists():
        raise LabError(f"{path}: no such file; --kubeconfig names another")
    return ClientConfig.from_kubeconfig(path)


async def _patiently(attempt: Callable[[], Awaitable[Result]], what: str, seconds: float) -> Result:
    """The result of the first attempt that works. Raises LabError saying why the last one did not, in time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await attempt()
        except (TransportError, ServiceUnavailable, NotFound, Forbidden, Unauthorized) as exc:
            if time.monotonic() > deadline:
                raise LabError(f"{what} after {seconds:g} s: {exc}") from exc
        await asyncio.sleep(_RETRY_SECONDS)
