"""The cluster's configuration, complete: what the user wrote, what follows from the machines, and which images.

Source: https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta3/.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.bootstrap.components import initial_cluster
from lab.bootstrap.configuration import BIND_PORT
from lab.errors import LabError
from lab.layout import PROJECT
from lab.topology import Role
from lab.vms.machines import Machines

_STARTING_SECONDS = 240  # kubeadm's own
FILE = PROJECT / "ansible" / "cluster.yaml"


@dataclass(frozen=True, slots=True)
class Additions:
    """What the command line and the release say of the cluster."""

    kubernetes_version: str
    etcd_tag: str
    proxy_mode: str | None = None
    """None: as the file has it."""
    patience: float = 1.0
    """How many times longer than on real processors components may take to start."""


def complete(documents: Sequence[Any], machines: Machines, additions: Additions) -> list[Any]:
    """The documents with what they leave open filled in; what they say is kept. Raises LabError."""
    found = copy.deepcopy(list(documents))
    cluster = _of_kind(found, "ClusterConfiguration")
    if cluster is None:
        raise LabError(f"{FILE}: no ClusterConfiguration")
    planes = machines.of(Role.CONTROL_PLANE)
    cluster.setdefault("controlPlaneEndpoint", f"{machines.endpoint}:{BIND_PORT}")
    cluster["kubernetesVersion"] = additions.kubernetes_version
    local = _part(cluster, "etcd", "local")
    local["imageTag"] = additions.etcd_tag
    local["extraArgs"] = _with(
        local.get("extraArgs"), {"initial-cluster": initial_cluster([(each.name, each.address) for each in planes])}
    )
    api = _part(cluster, "apiServer")
    # All members, so that an API server outlives the etcd beside it.
    servers = ",".join(f"https://{plane.address}:2379" for plane in planes)
    api["extraArgs"] = _with(api.get("extraArgs"), {"etcd-servers": servers})
    if additions.patience > 1:
        api.setdefault("timeoutForControlPlane", f"{_STARTING_SECONDS * additions.patience:g}s")
    names = [machine.name for machine in machines.of(Role.LOAD_BALANCER)]
    api["certSANs"] = list(dict.fromkeys([*api.get("certSANs", ()), machines.endpoint, *names]))
    if additions.proxy_mode is not None:
        proxy = _of_kind(found, "KubeProxyConfiguration")
        if proxy is None:
            proxy = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
            found.append(proxy)
        proxy["mode"] = additions.proxy_mode
    return found


def _of_kind(documents: Sequence[Any], kind: str) -> dict[str, Any] | None:
    return next((each for each in documents if isinstance(each, dict) and each.get("kind") == kind), None)


def _part(parent: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        parent = parent.setdefault(name, {})
    return parent


def _with(arguments: Any, added: Mapping[str, str]) -> Any:
    """Flags as the file has them (a map in v1beta3, a list in v1beta4) with those added that it does not set."""
    if isinstance(arguments, list):
        named = {each.get("name") for each in arguments if isinstance(each, dict)}
        return [*arguments, *({"name": k, "value": v} for k, v in added.items() if k not in named)]
    return {**added, **(arguments or {})}
