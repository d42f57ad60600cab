"""What is put into each host's private files before it is started: certificates, configurations, names."""

from __future__ import annotations

import secrets
from pathlib import Path

from lab import cluster
from lab.bootstrap import images, kubeconfig, phases, staticfiles
from lab.bootstrap.configuration import ClusterConfiguration, join_host_port
from lab.bootstrap.rooted import inside
from lab.daemons import containerd, haproxy, registry
from lab.hosts.namespaces import MACHINE
from lab.layout import Layout
from lab.topology import REGISTRY_NAME, REGISTRY_PORT, Host, Topology
from machinery import pki

ADMINISTRATOR = "admin"
"""The user of the bearer token, in system:masters."""


def name_hosts(layout: Layout, topology: Topology) -> None:
    """Write what a host needs before it can be made: its name, and those of the others."""
    names = [f"{each.address} {each.name}" for each in topology.hosts]
    shared = ["127.0.0.1 localhost", "::1 localhost", *names, f"{topology.load_balancer.address} {REGISTRY_NAME}"]
    for host in topology.hosts:
        root = layout.root(host.name)
        _write(root, "/etc/hosts", "\n".join(shared) + "\n")
        _write(root, "/etc/hostname", f"{host.name}\n")
        _write(root, "/etc/resolv.conf", "# the lab has no way out, and no name server beside the cluster's own\n")


def fill(layout: Layout, topology: Topology, config: ClusterConfiguration) -> None:
    """Write every host's files. What is there already stays as it is, but for what the configuration decides."""
    first, *others = topology.control_plane_hosts
    phases.initialise(config.on_host(first.name, first.address), layout.root(first.name))
    shared = inside(layout.root(first.name), config.certificates_dir)
    for host in others:
        phases.join_control_plane(config.on_host(host.name, host.address), layout.root(host.name), shared)
    for host in topology.worker_hosts:
        phases.join_worker(config.on_host(host.name, host.address), layout.root(host.name), shared)
    _administrator(layout, topology, config)
    able = containerd.abilities(layout.state)
    for host in (*topology.control_plane_hosts, *topology.worker_hosts):
        _runtime(layout.root(host.name), topology, config, able)
    _balancer(layout.root(topology.load_balancer.name), topology, shared)


def refill(layout: Layout, topology: Topology, config: ClusterConfiguration, host: Host) -> list[str]:
    """Bring a control-plane host's static pods to what the configuration says now; the names of those that changed."""
    own = config.on_host(host.name, host.address)
    return [Path(path).stem for path in staticfiles.write(own, layout.root(host.name))]


def snapshotter(layout: Layout) -> str:
    """What containerd unpacks images with."""
    return containerd.abilities(layout.state).snapshotter


def _administrator(layout: Layout, topology: Topology, config: ClusterConfiguration) -> None:
    """A kubeconfig and a token with which the machine's user reaches the cluster over the loopback."""
    first = topology.control_plane_hosts[0]
    admin = kubeconfig.read(inside(layout.root(first.name), kubeconfig.ADMIN.file))
    admin["clusters"][0]["cluster"]["server"] = f"https://{join_host_port('127.0.0.1', topology.api_port)}"
    kubeconfig.write(layout.kubeconfig, admin)
    if not layout.token_file.exists():
        pki.write_file(layout.token_file, secrets.token_hex(24).encode() + b"\n")
    token = layout.token_file.read_text().strip()
    line = f"{token},{ADMINISTRATOR},{ADMINISTRATOR},system:masters\n"
    for host in topology.control_plane_hosts:
        pki.write_file(inside(layout.root(host.name), cluster.TOKENS), line.encode())


def _runtime(root: Path, topology: Topology, config: ClusterConfiguration, able: containerd.Abilities) -> None:
    _write(root, containerd.CONFIG, containerd.configuration(images.pause(config), able))
    _write(root, containerd.HOSTS, containerd.registry_hosts(topology.load_balancer.address, REGISTRY_PORT))
    inside(root, "/etc/cni/net.d").mkdir(parents=True, exist_ok=True)


def _balancer(root: Path, topology: Topology, shared: Path) -> None:
    address = topology.load_balancer.address
    binds = [f"127.0.0.1:{topology.api_port} namespace {MACHINE}", f"{address}:{haproxy.BACKEND_PORT}"]
    _write(root, haproxy.CONFIG, haproxy.configuration(binds, topology.control_plane_hosts))
    _write(root, haproxy.CA_FILE, (shared / "ca.crt").read_text())
    _write(root, registry.CONFIG, registry.configuration(address, REGISTRY_PORT))


def _write(root: Path, path: str, text: str) -> None:
    pki.write_file(inside(root, path), text.encode(), mode=0o644)
