"""The statuses that the kubelet shows, and others who write them too."""

from __future__ import annotations

import asyncio
import time

import pytest

from agent.kubelet.pods import statusmanager
from agent.kubelet.pods.statusmanager import StatusManager
from controlplane.apiserver.testing import running_apiserver
from machinery.api.catalogue import PODS
from machinery.api.meta import Object, uid_of
from machinery.client.config import ClientConfig
from machinery.client.rest import Client

WHILE = 0.5


async def test_what_others_write_stays_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for a DaemonSet to see a pod that somebody declared failed."""
    monkeypatch.setattr(statusmanager, "OTHERS_SECONDS", WHILE)
    async with (
        running_apiserver() as server,
        Client(ClientConfig(server=server.url, token=server.token, ca_data=server.ca), user_agent="test") as client,
        asyncio.TaskGroup() as group,
    ):
        spec = {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
        pod = await client.create(PODS, made, "default")
        manager = StatusManager(client, lambda _: None)
        running = group.create_task(manager.run())

        async def runs(since: Object) -> float:
            async for event in client.watch(PODS, resource_version=since["metadata"]["resourceVersion"]):
                if event.object.get("status", {}).get("phase") == "Running":
                    break
            return time.monotonic()

        async with asyncio.timeout(30):
            manager.set(pod, {"phase": "Running"})
            await runs(pod)
            failed = await client.patch(PODS, "p", {"status": {"phase": "Failed"}}, "default", subresource="status")
            began = time.monotonic()
            manager.seen(uid_of(pod), failed)
            assert await runs(failed) - began >= WHILE * 0.9
        running.cancel()
