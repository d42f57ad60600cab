"""A scheduler at work on a real API server, and what stories about it need."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from controlplane.apiserver.testing import RunningServer, running_apiserver
from controlplane.scheduler.config import file
from controlplane.scheduler.config.settings import API_VERSION
from controlplane.scheduler.flags import Options
from controlplane.scheduler.program import schedule
from machinery.api import meta
from machinery.api.catalogue import NODES
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.client.config import ClientConfig
from machinery.client.rest import Client


@contextlib.asynccontextmanager
async def api_client() -> AsyncIterator[Client]:
    """An administrator's client of an API server of its own."""
    async with (
        running_apiserver() as server,
        Client(ClientConfig(server.url, ca_data=server.ca, token=server.token), user_agent="test") as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def scheduling(client: Client, **config: Any) -> AsyncIterator[None]:
    """A scheduler with this configuration, that backs off for a moment only."""
    settings = file.read({"apiVersion": API_VERSION, "kind": file.KIND, **config})
    flags = {"pod-max-in-unschedulable-pods-duration": 300.0}
    task = asyncio.create_task(schedule(client, Options(flags, replace(settings, initial_backoff_seconds=0.05))))
    try:
        yield
    finally:
        task.cancel()
        done = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(done, Exception):
            raise done


async def seen(client: Client, kind: ResourceType, until: Callable[[list[Object]], bool]) -> list[Object]:
    """Wait until the objects of a type fulfil a condition."""
    async with asyncio.timeout(20):
        while True:
            found = await client.list(kind)
            if until(found.items):
                return found.items
            async for _ in client.watch(kind, resource_version=found.resource_version, timeout_seconds=20):
                break


async def add_node(client: Client, name: str, cpu: str = "2", **spec: Any) -> None:
    """A node without a kubelet."""
    labels = {"kubernetes.io/hostname": name}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": spec}
    await client.create(NODES, node)
    status = {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "10"}, "capacity": {"cpu": cpu}}
    await client.patch(NODES, name, {"status": status}, subresource="status")


def pod(name: str, cpu: str = "500m", **spec: Any) -> Object:
    """A pod of one container."""
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [container], **spec},
    }


def placement(pods: list[Object]) -> dict[str, str]:
    """Pod name → node name, or "" while it waits."""
    return {meta.name_of(p): p["spec"].get("nodeName", "") for p in pods}


def reason(pods: list[Object], name: str) -> str:
    """What the PodScheduled condition of a pod says, or ""."""
    found = next((p for p in pods if meta.name_of(p) == name), {})
    condition = meta.condition((found.get("status") or {}).get("conditions"), "PodScheduled")
    return str(condition.get("message", "")) if condition else ""


def kubeconfig(folder: Path, server: RunningServer) -> str:
    """An administrator's kubeconfig; its path."""
    authority = folder / "ca.crt"
    authority.write_bytes(server.ca)
    path = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server.url, "certificate-authority": str(authority)}}],
        "users": [{"name": "u", "user": {"token": server.token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return str(path)
