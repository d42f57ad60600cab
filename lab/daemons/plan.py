"""Which daemons run on which host of the lab, in which order they stop."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lab.bootstrap import components
from lab.bootstrap.configuration import ClusterConfiguration
from lab.daemons import containerd, haproxy, registry
from lab.supervisor.daemon import Daemon
from lab.topology import Host, Role, Topology

_ETCD_STOP_SECONDS = 2.0
"""A leader first looks for a successor, in vain when all members stop; etcd loses nothing by being killed."""

# Stages, from the last to stop to the first.
_STORAGE, _SERVERS, _CONTROL, _NODES = 0, 1, 2, 3


def daemons(topology: Topology, config: ClusterConfiguration) -> list[Daemon]:
    """Every daemon of the lab."""
    return [daemon for host in topology.hosts for daemon in host_daemons(host, config)]


def host_daemons(host: Host, config: ClusterConfiguration) -> list[Daemon]:
    """The daemons of one host."""
    own = config.on_host(host.name, host.address)
    match host.role:
        case Role.LOAD_BALANCER:
            return [
                Daemon(host.name, "haproxy", tuple(haproxy.command()), stage=_SERVERS),
                Daemon(host.name, "registry", tuple(registry.command()), stage=_STORAGE),
            ]
        case Role.CONTROL_PLANE:
            return [
                Daemon(
                    host.name, "etcd", ("etcd", *components.etcd(own)), stage=_STORAGE, stop_seconds=_ETCD_STOP_SECONDS
                ),
                _python(host, "kube-apiserver", "controlplane.apiserver", components.api_server(own), _SERVERS),
                _python(
                    host,
                    "kube-controller-manager",
                    "controlplane.controllers",
                    components.controller_manager(own),
                    _CONTROL,
                ),
                _python(host, "kube-scheduler", "controlplane.scheduler", components.scheduler(own), _CONTROL),
                *_network(host, own),
            ]
        case Role.WORKER:
            return [
                Daemon(host.name, "containerd", tuple(containerd.command()), stage=_STORAGE, keeps_children=True),
                _python(host, "kubelet", "agent.kubelet", components.kubelet(own), _NODES),
                *_network(host, own),
            ]


def _network(host: Host, own: ClusterConfiguration) -> list[Daemon]:
    return [
        _python(host, "kube-proxy", "agent.proxy", components.proxy(own), _NODES),
        _python(host, "network", "agent.network", components.network(own), _NODES),
    ]


def _python(host: Host, name: str, module: str, arguments: Sequence[str], stage: int) -> Daemon:
    return Daemon(host.name, name, (sys.executable, "-m", module, *arguments), stage=stage)
