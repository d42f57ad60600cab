"""Reading kubeadm's configuration file.

A file may hold several documents: ClusterConfiguration, InitConfiguration or JoinConfiguration, KubeletConfiguration,
KubeProxyConfiguration.  v1beta3 and v1beta4 are read alike; a field that neither has is refused by name.

Source: https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/ and …v1beta3/.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import ryaml

from lab.bootstrap.configuration import (
    API_VERSIONS,
    CRI_SOCKET,
    Arguments,
    ClusterConfiguration,
    Component,
    Etcd,
    ExternalEtcd,
    Networking,
    Node,
    Volume,
    split_host_port,
)
from machinery import pki
from machinery.errors import SettingsError
from machinery.settings import duration, read_yaml


def read_configuration(path: str | Path) -> ClusterConfiguration:
    """What a kubeadm configuration file says. Raises SettingsError naming file and field."""
    return parse_configuration(read_yaml(path), str(path))


def cluster_document(path: str | Path) -> str:
    """The ClusterConfiguration of a file by itself: what the cluster keeps as `kubeadm-config`. "" if there is none."""
    found = [each for each in read_yaml(path) if isinstance(each, dict) and each.get("kind") == "ClusterConfiguration"]
    return str(ryaml.dumps(found[0])) if found else ""


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

    def parts(self, name: str) -> list[_Reader]:
        values = self.take(name, list, [])
        if not all(isinstance(value, dict) for value in values):
            raise self.wrong(name, "expected a list of objects")
        return [_Reader(self._source, f"{self._path}.{name}[{i}]", value) for i, value in enumerate(values)]

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
    reader.ignore("featureGates")
    algorithm = reader.text("encryptionAlgorithm", config.encryption_algorithm)
    if algorithm not in pki.ALGORITHMS:
        raise reader.wrong("encryptionAlgorithm", f"{algorithm!r} is not one of {', '.join(pki.ALGORITHMS)}")
    endpoint = reader.text("controlPlaneEndpoint", "")
    split_host_port(endpoint)
    server = reader.part("apiServer")
    sans = server.texts("certSANs")
    dns, proxy = reader.part("dns"), reader.part("proxy")
    found = replace(
        config,
        cluster_name=reader.text("clusterName", config.cluster_name),
        kubernetes_version=reader.text("kubernetesVersion", config.kubernetes_version),
        control_plane_endpoint=endpoint,
        certificates_dir=reader.text("certificatesDir", config.certificates_dir),
        encryption_algorithm=algorithm,
        certificate_lifetime=reader.span("certificateValidityPeriod", config.certificate_lifetime),
        ca_lifetime=reader.span("caCertificateValidityPeriod", config.ca_lifetime),
        starting_time=server.span("timeoutForControlPlane", config.starting_time),  # until v1beta3
        networking=_networking(reader.part("networking")),
        etcd=_etcd(reader.part("etcd")),
        image_repository=reader.text("imageRepository", config.image_repository),
        dns_image_repository=dns.text("imageRepository", ""),
        dns_image_tag=dns.text("imageTag", ""),
        dns_disabled=bool(dns.take("disabled", bool, False)),
        proxy_disabled=bool(proxy.take("disabled", bool, False)),
        api_server=_component(server),
        api_server_cert_sans=sans,
        controller_manager=_component(reader.part("controllerManager")),
        scheduler=_component(reader.part("scheduler")),
    )
    dns.finish()
    proxy.finish()
    return found


def _component(reader: _Reader) -> Component:
    found = Component(
        reader.arguments("extraArgs"),
        tuple(_volume(part) for part in reader.parts("extraVolumes")),
        _environment(reader),
    )
    reader.finish()
    return found


def _volume(reader: _Reader) -> Volume:
    names = ("name", "hostPath", "mountPath")
    name, host_path, mount_path = (reader.text(each, "") for each in names)
    for field, value in zip(names, (name, host_path, mount_path), strict=True):
        if not value:
            raise reader.wrong(field, "must be given")
    found = Volume(name, host_path, mount_path, bool(reader.take("readOnly", bool, False)), reader.text("pathType", ""))
    reader.finish()
    return found


def _environment(reader: _Reader) -> tuple[tuple[str, str], ...]:
    found = []
    for part in reader.parts("extraEnvs"):
        found.append((part.text("name", ""), part.text("value", "")))
        part.finish()
    return tuple(found)


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
    default = Etcd()
    found = Etcd(
        data_dir=local.text("dataDir", default.data_dir),
        extra_args=local.arguments("extraArgs"),
        environment=_environment(local),
        image_repository=local.text("imageRepository", ""),
        image_tag=local.text("imageTag", default.image_tag),
        server_cert_sans=local.texts("serverCertSANs"),
        peer_cert_sans=local.texts("peerCertSANs"),
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
    reader.ignore("bootstrapTokens", "certificateKey", "skipPhases", "patches", "dryRun", "discovery", "caCertPath")
    timeouts = reader.part("timeouts")
    starting_time = timeouts.span("controlPlaneComponentHealthCheck", config.starting_time)
    timeouts.ignore("kubeletHealthCheck", "kubernetesAPICall", "etcdAPICall", "tlsBootstrap", "discovery")
    timeouts.ignore("upgradeManifests")
    timeouts.finish()
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
    return replace(config, node=node, starting_time=starting_time)


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
