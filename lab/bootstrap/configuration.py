"""kubeadm's configuration file: what a cluster is to be like, and what this host is in it.

A file may hold several documents: ClusterConfiguration, InitConfiguration or JoinConfiguration, KubeletConfiguration,
KubeProxyConfiguration.  v1beta3 and v1beta4 are read alike; a field that neither has is refused by name.

Source: https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/ and …v1beta3/.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from machinery import pki
from machinery.errors import SettingsError
from machinery.settings import duration, read_yaml

API_VERSIONS = ("kubeadm.k8s.io/v1beta4", "kubeadm.k8s.io/v1beta3")
CERTIFICATES_DIR = "/etc/kubernetes/pki"
CRI_SOCKET = "unix:///var/run/containerd/containerd.sock"
BIND_PORT = 6443

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
class Etcd:
    """The etcd member beside each API server, or somebody else's cluster."""

    data_dir: str = "/var/lib/etcd"
    extra_args: Arguments = ()
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
    kubernetes_version: str = "v1.36.0"
    control_plane_endpoint: str = ""
    """HOST or HOST:PORT at which all API servers together are reached; empty: this host's own."""
    certificates_dir: str = CERTIFICATES_DIR
    encryption_algorithm: str = "RSA-2048"
    certificate_lifetime: timedelta = pki.LIFETIME
    ca_lifetime: timedelta = pki.AUTHORITY_LIFETIME
    networking: Networking = field(default_factory=Networking)
    etcd: Etcd = field(default_factory=Etcd)
    api_server_args: Arguments = ()
    api_server_cert_sans: tuple[str, ...] = ()
    controller_manager_args: Arguments = ()
    scheduler_args: Arguments = ()
    node: Node = field(default_factory=Node)
    advertise_address: str = ""
    bind_port: int = BIND_PORT
    kubelet: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a KubeletConfiguration that override the defaults."""
    proxy: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a KubeProxyConfiguration that override the defaults."""

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


# --- reading ----------------------------------------------------------------------------------------------------------


def read_configuration(path: str | Path) -> ClusterConfiguration:
    """What a kubeadm configuration file says. Raises SettingsError naming file and field."""
    return parse_configuration(read_yaml(path), str(path))


def parse_configuration(documents: Sequence[Any], source: str) -> ClusterConfiguration:
    """What kubeadm's documents say; `source` is named in errors. Raises SettingsError."""
    config, seen = ClusterConfiguration(), set()
    for document in documents:
        if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
            raise SettingsError(f"{source}: every document needs apiVersion and kind")
        kind, version = document["kind"], document.get("apiVersion")
        if kind in seen:
            raise SettingsError(f"{source}: more than one {kind}")
        seen.add(kind)
        if kind in ("KubeletConfiguration", "KubeProxyConfiguration"):
            fields = {name: value for name, value in document.items() if name not in ("kind", "apiVersion")}
            kubelet = kind == "KubeletConfiguration"
            config = replace(config, kubelet=fields) if kubelet else replace(config, proxy=fields)
            continue
        if version not in API_VERSIONS:
            raise SettingsError(f"{source}: {kind} has apiVersion {version!r}, known: {', '.join(API_VERSIONS)}")
        reader = _Reader(source, kind, document)
        match kind:
            case "ClusterConfiguration":
                config = _cluster(config, reader)
            case "InitConfiguration" | "JoinConfiguration":
                config = _host(config, reader)
            case _:
                raise SettingsError(f"{source}: unknown kind {kind!r}")
        reader.finish()
    return config


class _Reader:
    """Takes the fields of one object, each with its type, and knows which were never asked for."""

    def __init__(self, source: str, path: str, fields: Mapping[str, Any]) -> None:
        self._source, self._path = source, path
        self._fields = dict(fields)
        for ignored in ("apiVersion", "kind"):
            self._fields.pop(ignored, None)

    def take(self, name: str, kind: type, default: Any) -> Any:
        value = self._fields.pop(name, None)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(name, f"expected {_TYPE_NAMES[kind]}, got {value!r}")
        return value

    def text(self, name: str, default: str) -> str:
        return str(self.take(name, str, default))

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.take(name, list, [])
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(name, "expected a list of strings")
        return tuple(values)

    def span(self, name: str, default: timedelta) -> timedelta:
        text = self.text(name, "")
        try:
            return timedelta(seconds=duration(text)) if text else default
        except ValueError as exc:
            raise self.wrong(name, str(exc)) from exc

    def arguments(self, name: str) -> Arguments:
        """ExtraArgs: a map in v1beta3, a list of {name, value} in v1beta4."""
        value = self._fields.pop(name, None) or {}
        if isinstance(value, dict):
            pairs = list(value.items())
        elif isinstance(value, list) and all(
            isinstance(each, dict) and each.keys() == {"name", "value"} for each in value
        ):
            pairs = [(each["name"], each["value"]) for each in value]
        else:
            raise self.wrong(name, "expected a map of flags (v1beta3) or a list of name and value (v1beta4)")
        for flag, text in pairs:
            if not isinstance(flag, str) or not isinstance(text, str):
                raise self.wrong(name, f"flag {flag!r}: the value must be a string, in quotes")
        return tuple(pairs)

    def part(self, name: str) -> _Reader:
        return _Reader(self._source, f"{self._path}.{name}", self.take(name, dict, {}))

    def ignore(self, *names: str) -> None:
        """Fields that ask for nothing that is done differently here."""
        for name in names:
            self._fields.pop(name, None)

    def finish(self) -> None:
        if self._fields:
            raise SettingsError(f"{self._source}: {self._path}: unknown field {', '.join(sorted(self._fields))}")

    def wrong(self, name: str, what: str) -> SettingsError:
        return SettingsError(f"{self._source}: {self._path}.{name}: {what}")


_TYPE_NAMES = {str: "a string", list: "a list", dict: "an object", int: "a number", bool: "true or false"}


def _cluster(config: ClusterConfiguration, reader: _Reader) -> ClusterConfiguration:
    reader.ignore("imageRepository", "featureGates", "dns", "proxy")
    algorithm = reader.text("encryptionAlgorithm", config.encryption_algorithm)
    if algorithm not in pki.ALGORITHMS:
        raise reader.wrong("encryptionAlgorithm", f"{algorithm!r} is not one of {', '.join(pki.ALGORITHMS)}")
    endpoint = reader.text("controlPlaneEndpoint", "")
    split_host_port(endpoint)
    api, sans = _component(reader.part("apiServer"))
    manager, _ = _component(reader.part("controllerManager"))
    scheduler, _ = _component(reader.part("scheduler"))
    return replace(
        config,
        cluster_name=reader.text("clusterName", config.cluster_name),
        kubernetes_version=reader.text("kubernetesVersion", config.kubernetes_version),
        control_plane_endpoint=endpoint,
        certificates_dir=reader.text("certificatesDir", config.certificates_dir),
        encryption_algorithm=algorithm,
        certificate_lifetime=reader.span("certificateValidityPeriod", config.certificate_lifetime),
        ca_lifetime=reader.span("caCertificateValidityPeriod", config.ca_lifetime),
        networking=_networking(reader.part("networking")),
        etcd=_etcd(reader.part("etcd")),
        api_server_args=api,
        api_server_cert_sans=sans,
        controller_manager_args=manager,
        scheduler_args=scheduler,
    )


def _component(reader: _Reader) -> tuple[Arguments, tuple[str, ...]]:
    arguments, sans = reader.arguments("extraArgs"), reader.texts("certSANs")
    reader.ignore("extraVolumes", "extraEnvs", "timeoutForControlPlane")
    reader.finish()
    return arguments, sans


def _networking(reader: _Reader) -> Networking:
    default = Networking()
    found = Networking(
        reader.text("serviceSubnet", default.service_subnet),
        reader.text("podSubnet", default.pod_subnet),
        reader.text("dnsDomain", default.dns_domain),
    )
    for name, value in (("serviceSubnet", found.service_subnet), ("podSubnet", found.pod_subnet)):
        for subnet in filter(None, value.split(",")):
            try:
                ipaddress.ip_network(subnet)
            except ValueError as exc:
                raise reader.wrong(name, str(exc)) from exc
    reader.finish()
    return found


def _etcd(reader: _Reader) -> Etcd:
    local, external = reader.part("local"), reader.take("external", dict, None)
    local.ignore("imageRepository", "imageTag", "extraEnvs")
    found = Etcd(
        local.text("dataDir", "/var/lib/etcd"),
        local.arguments("extraArgs"),
        local.texts("serverCertSANs"),
        local.texts("peerCertSANs"),
    )
    local.finish()
    if external is not None:
        part = _Reader(reader._source, f"{reader._path}.external", external)
        part.ignore("httpEndpoints")
        endpoints = part.texts("endpoints")
        if not endpoints:
            raise part.wrong("endpoints", "at least one is needed")
        files = (part.text(name, "") for name in ("caFile", "certFile", "keyFile"))
        found = replace(found, external=ExternalEtcd(endpoints, *files))
        part.finish()
    reader.finish()
    return found


def _host(config: ClusterConfiguration, reader: _Reader) -> ClusterConfiguration:
    """InitConfiguration, or JoinConfiguration (whose API endpoint stands under `controlPlane`)."""
    reader.ignore("bootstrapTokens", "certificateKey", "skipPhases", "patches", "timeouts", "dryRun", "discovery")
    reader.ignore("caCertPath")
    node = _node(reader.part("nodeRegistration"))
    nested = reader.part("controlPlane")
    endpoint = reader.part("localAPIEndpoint")
    for candidate in (nested.part("localAPIEndpoint"), endpoint):
        address = candidate.text("advertiseAddress", config.advertise_address)
        port = candidate.take("bindPort", int, config.bind_port)
        config = replace(config, advertise_address=address, bind_port=port)
        candidate.finish()
    nested.ignore("certificateKey")
    nested.finish()
    return replace(config, node=node)


def _node(reader: _Reader) -> Node:
    taints = reader.take("taints", list, None)
    found = Node(
        reader.text("name", "").lower(),
        reader.text("criSocket", CRI_SOCKET),
        None if taints is None else tuple(taints),
        reader.arguments("kubeletExtraArgs"),
    )
    reader.ignore("ignorePreflightErrors", "imagePullPolicy", "imagePullSerial")
    reader.finish()
    return found
