"""Real etcd members on free ports of 127.0.0.1, for tests; gone when the test is.  Needs the program `etcd`."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

PROGRESS_MS = 100


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


@dataclass
class Member:
    """One etcd process; `arguments` start it again with its data."""

    url: str
    arguments: list[str]
    process: asyncio.subprocess.Process | None = None
    log: Path = field(default_factory=Path)

    async def start(self) -> None:
        """Run it, with what it has stored before."""
        with self.log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec("etcd", *self.arguments, stdout=out, stderr=out)

    async def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def running_etcd(members: int = 1) -> AsyncIterator[Sequence[Member]]:
    """A cluster of `members` that answers."""
    with tempfile.TemporaryDirectory(prefix="navarch-etcd-", ignore_cleanup_errors=True) as folder:
        ports = free_ports(2 * members)
        clients = [f"http://127.0.0.1:{port}" for port in ports[:members]]
        peers = [f"http://127.0.0.1:{port}" for port in ports[members:]]
        cluster = ",".join(f"m{i}={peer}" for i, peer in enumerate(peers))
        found = [
            Member(
                client,
                [
                    *("--name", f"m{i}", "--data-dir", f"{folder}/m{i}", "--logger", "zap"),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", cluster, "--heartbeat-interval", "50", "--election-timeout", "500"),
                    f"--experimental-watch-progress-notify-interval={PROGRESS_MS}ms",
                ],
                log=Path(folder) / f"m{i}.log",
            )
            for i, (client, peer) in enumerate(zip(clients, peers, strict=True))
        ]
        try:
            for member in found:
                await member.start()
            await _answers(clients, found)
            yield found
        finally:
            for member in found:
                await member.kill()


async def _answers(urls: Sequence[str], members: Sequence[Member]) -> None:
    """Wait until every member is healthy: knows its leader and commits writes."""
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        for url in urls:
            while not await _healthy(session, url):
                for member in members:
                    if member.process is not None and member.process.returncode is not None:
                        raise RuntimeError(f"etcd ended: {member.log.read_text()}")
                await asyncio.sleep(0.05)


async def _healthy(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url + "/health") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
