"""Three API servers on a three-member etcd, any of which may be killed or paused at any moment."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from machinery import pki
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import NavarchError
from machinery.testing.etcd import Member, free_ports, running_etcd

TOKEN = "consistency-token"
_READY_SECONDS = 60.0
_REQUEST_SECONDS = 6.0


@dataclass
class Server:
    """One API server as a process; `start` again after a kill."""

    port: int
    arguments: list[str]
    log: Path
    config: ClientConfig
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as out:
            argv = [sys.executable, "-P", "-m", "controlplane.apiserver", *self.arguments]
            self.process = await asyncio.create_subprocess_exec(*argv, stdout=out, stderr=out)

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def ready(self) -> None:
        """Wait until it answers."""
        async with asyncio.timeout(_READY_SECONDS), Client(self.config, user_agent="test") as client:
            while True:
                try:
                    async for _ in client.stream("/readyz"):
                        pass
                except NavarchError:
                    await asyncio.sleep(0.05)
                else:
                    return


@dataclass
class Cluster:
    """Everything that can be harmed."""

    members: Sequence[Member]
    servers: list[Server]
    said: list[str] = field(default_factory=list)
    """Which harm was done, for whoever reads a failure."""

    def client(self, number: int) -> Client:
        """A client of one of the API servers that gives up on a request after some seconds."""
        return Client(self.servers[number].config, user_agent=f"client-{number}", timeout_seconds=_REQUEST_SECONDS)

    async def harm(self, chance: random.Random) -> None:
        """Kill or pause one process, and have it back: at most one is away at a time."""
        victims: list[Member | Server] = [*self.members, *self.servers]
        victim = chance.choice(victims)
        seconds = chance.uniform(0.3, 3.0)
        process = victim.process
        assert process is not None
        if chance.random() < 0.5:
            self.said.append(f"kill {_name(victim)}, {seconds:.1f} s")
            await victim.kill()
            await asyncio.sleep(seconds)
            await victim.start()
        else:
            self.said.append(f"pause {_name(victim)}, {seconds:.1f} s")
            process.send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                process.send_signal(signal.SIGCONT)
        if isinstance(victim, Server):
            await victim.ready()


def _name(victim: Member | Server) -> str:
    return f"etcd {victim.url}" if isinstance(victim, Member) else f"API server :{victim.port}"


@asynccontextmanager
async def faulty_cluster(folder: Path) -> AsyncIterator[Cluster]:
    """The cluster, all of it ready."""
    authority = pki.make_authority("kubernetes", algorithm="ECDSA-P256")
    serving = pki.issue(
        authority, "kube-apiserver", usages=pki.SERVER_USAGES, names=("127.0.0.1",), algorithm="ECDSA-P256"
    )
    pki.write_pair(serving, folder / "apiserver.crt", folder / "apiserver.key")
    pki.write_file(folder / "sa.key", pki.key_pem(pki.new_key("ECDSA-P256")))
    pki.write_file(folder / "tokens.csv", f"{TOKEN},admin,admin,system:masters\n".encode())
    async with AsyncExitStack() as stack:
        members = await stack.enter_async_context(running_etcd(3))
        servers = []
        for port in free_ports(3):
            config = ClientConfig(f"https://127.0.0.1:{port}", ca_data=authority.certificate_pem, token=TOKEN)
            arguments = _arguments(port, [member.url for member in members], folder)
            servers.append(Server(port, arguments, folder / f"apiserver-{port}.log", config))
            stack.push_async_callback(servers[-1].kill)
            await servers[-1].start()
        for server in servers:
            await server.ready()
        yield Cluster(members, servers)


def _arguments(port: int, etcd: Sequence[str], folder: Path) -> list[str]:
    return [
        f"--etcd-servers={','.join(etcd)}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--tls-cert-file={folder}/apiserver.crt",
        f"--tls-private-key-file={folder}/apiserver.key",
        f"--token-auth-file={folder}/tokens.csv",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder}/sa.key",
        f"--service-account-signing-key-file={folder}/sa.key",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--etcd-compaction-interval=0",
    ]
