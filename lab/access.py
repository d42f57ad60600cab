"""How the machine's user and the lab itself reach the cluster."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from lab.bootstrap import kubeconfig
from lab.bootstrap.configuration import join_host_port
from lab.bootstrap.rooted import inside
from lab.layout import Layout
from lab.topology import Topology
from machinery.client.config import ClientConfig


def context_name(layout: Layout) -> str:
    """The name of cluster, user and context in the user's own kubeconfig."""
    return "navarch" if layout.name == "lab" else f"navarch-{layout.name}"


def own_kubeconfig() -> Path:
    """The file kubectl reads and writes: the first of $KUBECONFIG, else ~/.kube/config."""
    named = next(filter(None, os.environ.get("KUBECONFIG", "").split(os.pathsep)), "")
    return Path(named) if named else Path.home() / ".kube" / "config"


def make_known(layout: Layout) -> Path:
    """Put the cluster into the user's kubeconfig and make it the current one; returns the file."""
    path = own_kubeconfig()
    added = kubeconfig.read(layout.kubeconfig)
    kubeconfig.write(path, kubeconfig.merged(kubeconfig.read(path), added, context_name(layout)))
    return path


def forget(layout: Layout) -> None:
    """Take the cluster out of the user's kubeconfig again; the file goes too if nothing else is in it."""
    path, name = own_kubeconfig(), context_name(layout)
    if not path.exists():
        return
    own = kubeconfig.read(path)
    if not any(entry.get("name") == name for entry in own.get("contexts") or []):
        return
    left = kubeconfig.without(own, name)
    if any(left.get(section) for section in ("clusters", "contexts", "users")):
        kubeconfig.write(path, left)
    else:
        path.unlink()


def super_admin(layout: Layout, topology: Topology) -> ClientConfig:
    """As the user whom no RBAC object can lock out, over the machine's loopback."""
    first = topology.control_plane_hosts[0].name
    config = ClientConfig.from_kubeconfig(inside(layout.root(first), kubeconfig.SUPER_ADMIN.file))
    return replace(config, server=f"https://{join_host_port('127.0.0.1', topology.api_port)}")
