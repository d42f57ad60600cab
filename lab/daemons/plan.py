"""Which daemons run on which host of the lab, in which order they stop.

On hosts of a cluster these are containerd and the kubelet; all else is in pods.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from lab.bootstrap import components
from lab.bootstrap.configuration import ClusterConfiguration
from lab.daemons import containerd, haproxy, registry
from lab.supervisor.daemon import Daemon
from lab.topology import Host, Role, Topology

# Stages, from the last to stop to the first.
_STORAGE, _SERVERS, _NODES = 0, 1, 2


def daemons(topology: Topology, config: ClusterConfiguration) -> list[Daemon]:
    """Every daemon of the lab."""
    return [daemon for host in topology.hosts for daemon in host_daemons(host, config)]


def host_daemons(host: Host, config: ClusterConfiguration) -> list[Daemon]:
    """The daemons of one host."""
    if host.role is Role.LOAD_BALANCER:
        return [
            Daemon(host.name, "haproxy", tuple(haproxy.command()), stage=_SERVERS),
            Daemon(host.name, "registry", tuple(registry.command()), stage=_STORAGE),
        ]
    own = replace(config.on_host(host.name, host.address), control_plane=host.role is Role.CONTROL_PLANE)
    kubelet = (sys.executable, "-P", "-m", "agent.kubelet", *components.kubelet(own))
    return [
        Daemon(host.name, "containerd", tuple(containerd.command()), stage=_STORAGE, keeps_children=True),
        Daemon(host.name, "kubelet", kubelet, stage=_NODES),
    ]
