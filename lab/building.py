"""Making a lab's hosts: state, cgroups, namespaces, network and files; no daemon but the supervisor runs yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from lab import assembly, mountpoints
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.rooted import inside
from lab.daemons import containerd
from lab.errors import failing_as_one
from lab.hosts import cgroups, links, namespaces
from lab.hosts.namespaces import MACHINE
from lab.images import store
from lab.images.release import Release
from lab.layout import Layout
from lab.progress import Steps
from lab.supervisor.control import Supervisor, launch
from lab.topology import Role, Topology


async def build(layout: Layout, topology: Topology, config: ClusterConfiguration, steps: Steps) -> Supervisor:
    """State, hosts, network, files and supervisor; no daemon runs yet."""
    layout.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    layout.runtime.mkdir(parents=True, exist_ok=True, mode=0o700)
    layout.topology_file.write_text(topology.to_json())
    mountpoints.make(layout)
    assembly.name_hosts(layout, topology)
    trees = cgroups.hierarchies()
    with steps.step(f"hosts {', '.join(host.name for host in topology.hosts)}, their network and certificates"):
        async with failing_as_one() as group:
            group.create_task(_hosts(layout, topology, trees))
            group.create_task(asyncio.to_thread(assembly.fill, layout, topology, config))
            launched = group.create_task(launch(layout, trees))
    return launched.result()


async def furnish(layout: Layout, topology: Topology, made: Release) -> None:
    """Give every host's containerd, which has not run yet, the images of a release."""
    source = await store.template(made, assembly.snapshotter(layout))
    async with failing_as_one() as group:
        for host in (*topology.control_plane_hosts, *topology.worker_hosts):
            group.create_task(asyncio.to_thread(store.furnish, source, inside(layout.root(host.name), containerd.ROOT)))


async def _hosts(layout: Layout, topology: Topology, trees: Sequence[cgroups.Hierarchy]) -> None:
    await namespaces.hold_namespaces(layout)
    await namespaces.create_network(layout)
    async with asyncio.TaskGroup() as group:
        for host in topology.hosts:
            # HAProxy also listens on the machine's own loopback.
            balancer = host.role is Role.LOAD_BALANCER
            networks = {MACHINE: layout.namespace(MACHINE, "net")} if balancer else {}
            group.create_task(namespaces.create_host(layout, trees, host.name, networks))
    await links.connect_hosts(layout, topology.hosts)
