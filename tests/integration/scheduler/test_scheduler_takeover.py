"""Two schedulers as processes: the standby takes over when the leader is killed, and leaves alone what was bound."""

import asyncio
import signal
from pathlib import Path

import aiohttp
from scheduler_lab import add_node, kubeconfig, placement, pod, seen
from test_scheduler_serving import UNVERIFIED

from controlplane.apiserver.testing import running_apiserver
from machinery.api.catalogue import LEASES, PODS
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.testing.etcd import free_ports
from machinery.testing.programs import Program

_TIMING = ("lease-duration=3s", "renew-deadline=2s", "retry-period=500ms")


def scheduler(config: str, port: int, log: Path) -> Program:
    flags = [f"--kubeconfig={config}", "--bind-address=127.0.0.1", f"--secure-port={port}"]
    return Program("controlplane.scheduler", [*flags, *(f"--leader-elect-{each}" for each in _TIMING)], log)


async def healthy(port: int) -> str:
    url = f"https://127.0.0.1:{port}/healthz?verbose"
    async with (
        asyncio.timeout(10),
        aiohttp.ClientSession() as session,
        session.get(url, ssl=UNVERIFIED) as response,
    ):
        return await response.text()


async def test_the_standby_takes_over(tmp_path: Path) -> None:
    async with (
        running_apiserver() as server,
        Client(ClientConfig(server.url, ca_data=server.ca, token=server.token), user_agent="test") as client,
    ):
        await add_node(client, "a")
        config, ports = kubeconfig(tmp_path, server), free_ports(2)
        first, second = (scheduler(config, port, tmp_path / f"{port}.log") for port in ports)
        try:
            await first.start()
            await client.create(PODS, pod("early"))
            await seen(client, PODS, lambda pods: placement(pods) == {"early": "a"})
            await second.start()
            await seen(client, LEASES, lambda leases: any(x["metadata"]["name"] == "kube-scheduler" for x in leases))
            assert "[+]leaderElection ok" in await healthy(ports[0])
            await first.end(signal.SIGKILL)
            await client.create(PODS, pod("late"))
            await seen(client, PODS, lambda pods: placement(pods) == {"early": "a", "late": "a"})
            assert second.running
        finally:
            for program in (first, second):
                await program.end(signal.SIGKILL)
