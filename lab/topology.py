"""Which hosts a lab has, and their addresses.

    lb    HAProxy and the image registry          10.77.0.10
    cp1…  etcd and the control plane              10.77.0.11 …
    w1…   containerd, kubelet and kube-proxy      10.77.0.101 …

The network is a bridge inside a namespace of its own, so the addresses meet nothing else on the machine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from lab.errors import LabError

GATEWAY = "10.77.0.1"
PREFIX_LENGTH = 24
REGISTRY_NAME = "registry.navarch.local"
REGISTRY_PORT = 5000
POD_SUBNET = "10.244.0.0/16"
SERVICE_SUBNET = "10.96.0.0/16"
DNS_DOMAIN = "cluster.local"
PROXY_MODES = ("nftables", "iptables", "ipvs")
MAX_CONTROL_PLANES = 7
MAX_WORKERS = 50


class Role(StrEnum):
    """What a host is for."""

    LOAD_BALANCER = "load-balancer"
    CONTROL_PLANE = "control-plane"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Host:
    """One host of the lab; its name is its hostname and its Node's name."""

    name: str
    role: Role
    address: str


@dataclass(frozen=True, slots=True)
class Topology:
    """The shape of a lab. Raises LabError for one that can't be."""

    control_planes: int = 3
    """Odd numbers make sense: etcd needs a majority. 1 to 7."""
    workers: int = 2
    """0 to 50."""
    proxy_mode: str = "nftables"
    """nftables, iptables or ipvs: KubeProxyConfiguration.mode."""
    api_port: int = 6443
    """Where the machine's loopback answers as the cluster."""

    def __post_init__(self) -> None:
        """Check every field."""
        if not 1 <= self.control_planes <= MAX_CONTROL_PLANES:
            raise LabError(f"--control-planes {self.control_planes}: choose 1 to {MAX_CONTROL_PLANES}")
        if not 0 <= self.workers <= MAX_WORKERS:
            raise LabError(f"--workers {self.workers}: choose 0 to {MAX_WORKERS}")
        if self.proxy_mode not in PROXY_MODES:
            raise LabError(f"--proxy-mode {self.proxy_mode}: choose {', '.join(PROXY_MODES)}")
        if not 1 <= self.api_port <= 65535:
            raise LabError(f"API port {self.api_port}: choose 1 to 65535")

    @property
    def load_balancer(self) -> Host:
        """The host of HAProxy and the registry."""
        return Host("lb", Role.LOAD_BALANCER, "10.77.0.10")

    @property
    def control_plane_hosts(self) -> tuple[Host, ...]:
        """cp1, cp2, …"""
        return tuple(Host(f"cp{i}", Role.CONTROL_PLANE, f"10.77.0.{10 + i}") for i in range(1, self.control_planes + 1))

    @property
    def worker_hosts(self) -> tuple[Host, ...]:
        """w1, w2, …"""
        return tuple(Host(f"w{i}", Role.WORKER, f"10.77.0.{100 + i}") for i in range(1, self.workers + 1))

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Every host."""
        return (self.load_balancer, *self.control_plane_hosts, *self.worker_hosts)

    def host(self, name: str) -> Host:
        """The host of this name. Raises LabError."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(f"no host {name!r} in this lab; hosts are {', '.join(h.name for h in self.hosts)}")

    def to_json(self) -> str:
        """For the state file."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Topology:
        """From the state file. Raises LabError when it is damaged."""
        try:
            fields: dict[str, Any] = json.loads(text)
            return cls(**fields)
        except (ValueError, TypeError) as exc:
            raise LabError(f"the lab's state is damaged ({exc}): run `navarch down`, then `navarch up`") from exc
