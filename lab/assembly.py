"""What is put into each host's private files before it is started: certificates, configurations, names."""

from __future__ import annotations

import secrets
from pathlib import Path

import ryaml

from lab import cluster
from lab.bootstrap import kubeconfig, phases
from lab.bootstrap.configuration import ClusterConfiguration, join_host_port
from lab.bootstrap.phases import inside
from lab.daemons import containerd, haproxy, registry
from lab.hosts.namespaces import MACHINE
from lab.images.catalogue import PAUSE, PREFIX
from lab.layout import Layout
from lab.topology import REGISTRY_NAME, REGISTRY_PORT, Topology
from machinery import pki

ADMINISTRATOR = "admin"
"""The user of the bearer token, in system:masters."""


DOCUMENTS = "/etc/kubernetes/kubeadm.yaml"
"""Where a control-plane host keeps the configuration it was made from."""


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
    """Write every host's files. What is there already stays as it is."""
    first, *others = topology.control_plane_hosts
    phases.initialise(config.on_host(first.name, first.address), layout.root(first.name))
    shared = inside(layout.root(first.name), config.certificates_dir)
    for host in others:
        phases.join_control_plane(config.on_host(host.name, host.address), layout.root(host.name), shared)
    for host in topology.worker_hosts:
        phases.join_worker(config.on_host(host.name, host.address), layout.root(host.name), shared)
    _administrator(layout, topology, config)
    for host in topology.control_plane_hosts:
        _write(layout.root(host.name), DOCUMENTS, _documents(topology))
    able = containerd.abilities(layout.state)
    for host in topology.worker_hosts:
        _runtime(layout.root(host.name), topology, able)
    _balancer(layout.root(topology.load_balancer.name), topology, shared)


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


def _runtime(root: Path, topology: Topology, able: containerd.Abilities) -> None:
    _write(root, containerd.CONFIG, containerd.configuration(f"{PREFIX}/{PAUSE}", able))
    _write(root, containerd.HOSTS, containerd.registry_hosts(topology.load_balancer.address, REGISTRY_PORT))
    inside(root, "/etc/cni/net.d").mkdir(parents=True, exist_ok=True)


def _balancer(root: Path, topology: Topology, shared: Path) -> None:
    address = topology.load_balancer.address
    binds = [f"127.0.0.1:{topology.api_port} namespace {MACHINE}", f"{address}:{haproxy.BACKEND_PORT}"]
    _write(root, haproxy.CONFIG, haproxy.configuration(binds, topology.control_plane_hosts))
    _write(root, haproxy.CA_FILE, (shared / "ca.crt").read_text())
    _write(root, registry.CONFIG, registry.configuration(address, REGISTRY_PORT))


def _documents(topology: Topology) -> str:
    return "---\n".join(ryaml.dumps(document) for document in cluster.documents(topology))


def _write(root: Path, path: str, text: str) -> None:
    pki.write_file(inside(root, path), text.encode(), mode=0o644)
