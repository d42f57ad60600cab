"""A control plane of processes (etcd, API servers, managers) that can be killed one by one."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson

from machinery import pki
from machinery.api.meta import Object
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import StatusError, TransportError
from machinery.testing.etcd import Member, free_ports, running_etcd
from machinery.testing.programs import Program

TOKEN = "admin-token"
_KUBECONFIGS = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")


async def metric(program: Program, name: str, label: str) -> float | None:
    """A number of the program's /metrics, by its label `name`; None if it does not serve or has no such number."""
    port = next(a for a in program.arguments if a.startswith("--secure-port=")).partition("=")[2]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    url = f"https://127.0.0.1:{port}/metrics"
    try:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession(headers=headers) as session, session.get(url, ssl=context) as response:
            text = await response.text()
    except (aiohttp.ClientError, OSError):
        return None
    found = re.search(rf'^{name}{{name="{label}"}} (\S+)', text, re.MULTILINE)
    return float(found[1]) if found else None


async def leads(program: Program) -> bool:
    """Whether this manager holds the lease."""
    return program.running and await metric(program, "leader_election_master_status", "kube-controller-manager") == 1.0


async def stands_by(program: Program) -> bool:
    """Whether this manager is a candidate, or leads."""
    return await metric(program, "leader_election_master_status", "kube-controller-manager") is not None


def deployment(name: str, replicas: int = 1) -> Object:
    """A Deployment of pods that no node is asked to run."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def until(done: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Wait for something that other processes bring about."""
    async with asyncio.timeout(seconds):
        while not await done():  # noqa: ASYNC110 (another process decides)
            await asyncio.sleep(0.05)


@dataclass
class Plane:
    """What runs. Manager `i` speaks to API server `i` (of as many as there are)."""

    directory: Path
    ca: bytes
    etcd: Sequence[Member]
    servers: list[Program] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    managers: list[Program] = field(default_factory=list)

    def client(self, server: int = 0) -> Client:
        """An administrator's client of one API server."""
        config = ClientConfig(f"https://127.0.0.1:{self.ports[server]}", ca_data=self.ca, token=TOKEN)
        return Client(config, user_agent="test", timeout_seconds=20)

    async def ready(self, server: int = 0, seconds: float = 40) -> None:
        """Wait until an API server is ready."""
        async with self.client(server) as client:

            async def answers() -> bool:
                try:
                    await client.request("GET", "/api/v1/namespaces/kube-system")
                except (StatusError, TransportError):
                    return not self.servers[server].pid
                return True

            await until(answers, seconds)

    def kubeconfig(self, server: int) -> Path:
        """An administrator's kubeconfig for one API server."""
        path = self.directory / f"kubeconfig-{server}"
        address = f"https://127.0.0.1:{self.ports[server]}"
        ca = str(self.directory / "ca.crt")
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": address, "certificate-authority": ca}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        pki.write_file(path, orjson.dumps(document))
        return path

    def add_manager(self, *flags: str, module: str = "controlplane.controllers") -> Program:
        """A manager, not yet started."""
        number = len(self.managers)
        arguments = [
            *(f"--{name}={self.kubeconfig(number % len(self.servers))}" for name in _KUBECONFIGS),
            "--bind-address=127.0.0.1",
            f"--secure-port={free_ports(1)[0]}",
            *flags,
        ]
        program = Program(module, arguments, self.directory / f"manager-{number}.log")
        self.managers.append(program)
        return program


def _server(directory: Path, port: int, etcd: Sequence[Member], number: int) -> Program:
    key = directory / "sa.key"
    arguments = [
        "--etcd-servers=" + ",".join(member.url for member in etcd),
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={directory / 'server.crt'}",
        f"--tls-private-key-file={directory / 'server.key'}",
        f"--token-auth-file={directory / 'tokens.csv'}",
        "--authorization-mode=AlwaysAllow",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--endpoint-reconciler-type=none",
    ]
    return Program("controlplane.apiserver", arguments, directory / f"apiserver-{number}.log")


@asynccontextmanager
async def running_plane(*, etcd_members: int = 1, servers: int = 1) -> AsyncIterator[Plane]:
    """etcd and API servers that are ready; managers are added by whoever wants some."""
    with tempfile.TemporaryDirectory(prefix="navarch-plane-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        authority = pki.make_authority("kubernetes", algorithm="ECDSA-P256")
        pair = pki.issue(
            authority, "kube-apiserver", usages=pki.SERVER_USAGES, names=("127.0.0.1",), algorithm="ECDSA-P256"
        )
        pki.write_pair(pair, directory / "server.crt", directory / "server.key")
        pki.write_file(directory / "ca.crt", authority.certificate_pem)
        pki.write_file(directory / "sa.key", pki.key_pem(pki.new_key("ECDSA-P256")))
        pki.write_file(directory / "tokens.csv", f'{TOKEN},admin,admin,"system:masters"\n'.encode())
        async with running_etcd(etcd_members) as etcd:
            plane = Plane(directory, authority.certificate_pem, etcd, ports=free_ports(servers))
            plane.servers = [_server(directory, port, etcd, i) for i, port in enumerate(plane.ports)]
            try:
                for number, server in enumerate(plane.servers):
                    await server.start()
                    await plane.ready(number)
                yield plane
            finally:
                for program in (*plane.managers, *plane.servers):
                    if program.running:
                        os.kill(program.pid, signal.SIGCONT)
                        await program.end(signal.SIGKILL)
