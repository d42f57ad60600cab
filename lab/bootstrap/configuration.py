"""kubeadm's configuration file: what a cluster is to be like, and what this host is in it.

`reading.py` reads it.

Source: https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/ and …v1beta3/.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from machinery import pki
from machinery.errors import SettingsError

API_VERSIONS = ("kubeadm.k8s.io/v1beta4", "kubeadm.k8s.io/v1beta3")
CERTIFICATES_DIR = "/etc/kubernetes/pki"
CRI_SOCKET = "unix:///var/run/containerd/containerd.sock"
BIND_PORT = 6443
IMAGE_REPOSITORY = "registry.navarch.local:5000"
"""Where images are looked for that a host does not have: the lab's registry."""
KUBERNETES_VERSION = "v1.36.0"
ETCD_TAG = "3.4.23-0"
TAINT = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
"""What keeps other pods away from control planes."""

Arguments = tuple[tuple[str, str], ...]
"""Flags of a component in order, without their dashes; a name may come more than once."""


@dataclass(frozen=True, slots=True)
class Networking:
    """Address ranges and the DNS domain."""

    service_subnet: str = "10.96.0.0/12"
    pod_subnet: str = ""
    dns_domain: str = "cluster.local"

    @property
    def api_service_address(self) -> str:
        """The address of the Service `kubernetes`: the first of the range."""
        return str(ipaddress.ip_network(self.service_subnet.split(",")[0])[1])

    @property
    def dns_service_address(self) -> str:
        """The address of the cluster's DNS: the tenth of the range."""
        return str(ipaddress.ip_network(self.service_subnet.split(",")[0])[10])


@dataclass(frozen=True, slots=True)
class ExternalEtcd:
    """An etcd cluster that somebody else runs."""

    endpoints: tuple[str, ...]
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class Volume:
    """extraVolumes: a file or folder of the host that a component is to see."""

    name: str
    host_path: str
    mount_path: str
    read_only: bool = False
    path_type: str = ""


@dataclass(frozen=True, slots=True)
class Component:
    """What is said of one component beside its defaults."""

    arguments: Arguments = ()
    volumes: tuple[Volume, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Etcd:
    """The etcd member beside each API server, or somebody else's cluster."""

    data_dir: str = "/var/lib/etcd"
    extra_args: Arguments = ()
    environment: tuple[tuple[str, str], ...] = ()
    image_repository: str = ""
    image_tag: str = ETCD_TAG
    server_cert_sans: tuple[str, ...] = ()
    peer_cert_sans: tuple[str, ...] = ()
    external: ExternalEtcd | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """nodeRegistration: what this host's kubelet says of itself."""

    name: str = ""
    cri_socket: str = CRI_SOCKET
    taints: tuple[Mapping[str, str], ...] | None = None
    """None: as the role has it (control planes are tainted); empty: no taints."""
    kubelet_extra_args: Arguments = ()


@dataclass(frozen=True, slots=True)
class ClusterConfiguration:
    """The cluster, the same on every host, and this host's own part (node, advertise address)."""

    cluster_name: str = "kubernetes"
    kubernetes_version: str = KUBERNETES_VERSION
    """With `+` and the digest of an image, if it is to be exactly that one."""
    image_repository: str = IMAGE_REPOSITORY
    dns_image_repository: str = ""
    dns_image_tag: str = ""
    dns_disabled: bool = False
    proxy_disabled: bool = False
    control_plane_endpoint: str = ""
    """HOST or HOST:PORT at which all API servers together are reached; empty: this host's own."""
    certificates_dir: str = CERTIFICATES_DIR
    encryption_algorithm: str = "RSA-2048"
    certificate_lifetime: timedelta = pki.LIFETIME
    ca_lifetime: timedelta = pki.AUTHORITY_LIFETIME
    starting_time: timedelta = timedelta(minutes=4)
    """How long a component of the control plane may take to be healthy before it is started again."""
    networking: Networking = field(default_factory=Networking)
    etcd: Etcd = field(default_factory=Etcd)
    api_server: Component = field(default_factory=Component)
    api_server_cert_sans: tuple[str, ...] = ()
    controller_manager: Component = field(default_factory=Component)
    scheduler: Component = field(default_factory=Component)
    node: Node = field(default_factory=Node)
    advertise_address: str = ""
    bind_port: int = BIND_PORT
    kubelet: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a KubeletConfiguration that override the defaults."""
    proxy: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a KubeProxyConfiguration that override the defaults."""
    control_plane: bool = False
    """Whether this host is a control plane."""

    @property
    def node_name(self) -> str:
        """This host's name as a Node."""
        return self.node.name or socket.gethostname().lower()

    @property
    def endpoint(self) -> str:
        """HOST:PORT at which clients reach the cluster."""
        if not self.control_plane_endpoint:
            return join_host_port(self.advertise_address, self.bind_port)
        host, port = split_host_port(self.control_plane_endpoint)
        return join_host_port(host, port or self.bind_port)

    @property
    def local_endpoint(self) -> str:
        """HOST:PORT of this host's own API server."""
        return join_host_port(self.advertise_address, self.bind_port)

    def on_host(self, name: str, address: str) -> ClusterConfiguration:
        """The same cluster, on the host of this name and address."""
        return replace(self, node=replace(self.node, name=name), advertise_address=address)


def split_host_port(text: str) -> tuple[str, int]:
    """HOST and PORT of `HOST`, `HOST:PORT`, `[V6]:PORT`; port 0 when there is none. Raises SettingsError."""
    host, separator, port = text.rpartition(":")
    if not separator or (":" in host and not host.startswith("[")):
        host, port = text, ""
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise SettingsError(f"controlPlaneEndpoint {text!r}: {port!r} is not a port")
    return host.strip("[]"), int(port or 0)


def join_host_port(host: str, port: int) -> str:
    """HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
