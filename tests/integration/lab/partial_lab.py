"""Labs of the tests' own, beside any other on the machine, gone after each test whatever happened."""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from agent.command import CommandResult, run
from lab import cluster, sweep
from lab.bootstrap import components
from lab.bootstrap.configuration import ClusterConfiguration
from lab.building import build
from lab.daemons import plan
from lab.hosts import cgroups
from lab.hosts.namespaces import visit
from lab.layout import Layout
from lab.progress import Steps
from lab.readiness import Watch
from lab.supervisor.control import Supervisor
from lab.supervisor.daemon import Daemon
from lab.topology import Topology


@dataclass(frozen=True, slots=True)
class BuiltLab:
    """Hosts without daemons, and a supervisor."""

    layout: Layout
    topology: Topology
    config: ClusterConfiguration
    supervisor: Supervisor

    @property
    def watch(self) -> Watch:
        return Watch(self.layout, self.supervisor)

    def daemons(self, *names: str) -> list[Daemon]:
        return [daemon for daemon in plan.daemons(self.topology, self.config) if daemon.name in names]

    def etcd(self) -> Daemon:
        """etcd as its pod would run it, under the supervisor."""
        host = self.topology.control_plane_hosts[0]
        own = self.config.on_host(host.name, host.address)
        return Daemon(host.name, "etcd", ("etcd", *components.etcd(own)), stop_seconds=2.0)

    async def inside(self, host: str, *argv: str) -> CommandResult:
        trees = cgroups.hierarchies()
        return await run(*visit(self.layout, trees, host, argv))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def layout() -> AsyncIterator[Layout]:
    made = Layout(f"test-{secrets.token_hex(4)}")
    try:
        yield made
    finally:
        await sweep.sweep(made, orderly=False)


@pytest.fixture
async def built(layout: Layout) -> BuiltLab:
    """One control plane, one worker, the balancer; nothing runs."""
    topology = Topology(control_planes=1, workers=1, api_port=free_port())
    config = cluster.configuration(topology)
    return BuiltLab(layout, topology, config, await build(layout, topology, config, Steps()))
