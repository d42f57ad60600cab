"""The control plane's pods, as kubeadm writes them to a host's /etc/kubernetes/manifests.

Everything here is data made of the configuration; `phases.py` writes it.

Source: kubeadm, phases/controlplane (manifests, volumes), phases/etcd (local), util/staticpod.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.bootstrap import components, images, kubeconfig
from lab.bootstrap.configuration import ClusterConfiguration, Component, Volume, join_host_port
from machinery.api.meta import Object

MANIFESTS = "/etc/kubernetes/manifests"
CERTIFICATES = "navarch.dev/certificates"
"""Annotation: a digest of the certificate files that the component reads when it starts. Another one, another pod."""

ADVERTISED_SERVER = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"
ADVERTISED_ETCD = "kubeadm.kubernetes.io/etcd.advertise-client-urls"

_PRIORITY = 2_000_001_000  # of system-node-critical
_ETCD_ALIVE, _ETCD_READY = "/metrics", "/health"
"""Debian's etcd has no /livez yet, and its /health asks for a quorum: to start the others again and again while one
is missing would only keep it away for longer."""
_ETCD_READY_SECONDS = 5  # between looks: each is an entry in the log of every member

# More certificates of authorities, where systems have them. Source: kubeadm, caCertsExtraVolumePaths.
_MORE_AUTHORITIES = (
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
)


@dataclass(frozen=True, slots=True)
class StaticPod:
    """One component as a pod of its host's kubelet."""

    name: str
    make: Callable[[ClusterConfiguration, Path], Object]
    """The manifest; the folder is the host's root, which says what the host has."""
    reads: Callable[[ClusterConfiguration], tuple[str, ...]]
    """Certificates and kubeconfigs that it reads at its start alone."""


def _etcd(config: ClusterConfiguration, root: Path) -> Object:
    del root
    url = f"https://{join_host_port(config.advertise_address, 2379)}"
    alive, ready = _Probe(_ETCD_ALIVE, 2381, "HTTP"), _Probe(_ETCD_READY, 2381, "HTTP")
    volumes = [
        Volume("etcd-data", config.etcd.data_dir, config.etcd.data_dir, path_type="DirectoryOrCreate"),
        Volume(
            "etcd-certs",
            f"{config.certificates_dir}/etcd",
            f"{config.certificates_dir}/etcd",
            path_type="DirectoryOrCreate",
        ),
    ]
    container = {
        "name": "etcd",
        "image": images.etcd(config),
        "imagePullPolicy": "IfNotPresent",
        "command": ["etcd", *components.etcd(config)],
        "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}},
        **alive.live(),
        **ready.ready(_ETCD_READY_SECONDS),
        **alive.start(config),
    }
    said = Component(environment=config.etcd.environment)
    return _pod(container, said, volumes, {ADVERTISED_ETCD: url})


def _api_server(config: ClusterConfiguration, root: Path) -> Object:
    live = _Probe("/livez", config.bind_port, "HTTPS", config.advertise_address)
    ready = _Probe("/readyz", config.bind_port, "HTTPS", config.advertise_address)
    container = {
        **_container("kube-apiserver", "250m", config),
        "command": ["kube-apiserver", *components.api_server(config)],
        **live.live(),
        **ready.ready(),
        **live.start(config),
    }
    volumes = [*_authorities(root), _certificates(config), *_external_etcd(config)]
    return _pod(container, config.api_server, volumes, {ADVERTISED_SERVER: config.local_endpoint})


def _controller_manager(config: ClusterConfiguration, root: Path) -> Object:
    probe = _Probe("/healthz", 10257, "HTTPS")
    container = {
        **_container("kube-controller-manager", "200m", config),
        "command": ["kube-controller-manager", *components.controller_manager(config)],
        **probe.live(),
        **probe.start(config),
    }
    volumes = [*_authorities(root), _certificates(config), _kubeconfig(kubeconfig.CONTROLLER_MANAGER.file)]
    return _pod(container, config.controller_manager, volumes, {})


def _scheduler(config: ClusterConfiguration, root: Path) -> Object:
    del root
    live, ready = _Probe("/livez", 10259, "HTTPS"), _Probe("/readyz", 10259, "HTTPS")
    container = {
        **_container("kube-scheduler", "100m", config),
        "command": ["kube-scheduler", *components.scheduler(config)],
        **live.live(),
        **ready.ready(),
        **live.start(config),
    }
    return _pod(container, config.scheduler, [_kubeconfig(kubeconfig.SCHEDULER.file)], {})


def _reads_etcd(config: ClusterConfiguration) -> tuple[str, ...]:
    pki = f"{config.certificates_dir}/etcd"
    return (f"{pki}/ca.crt",)  # server and peer certificates are read anew for each handshake


def _reads_api_server(config: ClusterConfiguration) -> tuple[str, ...]:
    names = ("apiserver", "apiserver-kubelet-client", "apiserver-etcd-client", "front-proxy-client", "ca", "etcd/ca")
    return tuple(f"{config.certificates_dir}/{name}.crt" for name in (*names, "front-proxy-ca"))


def _reads_controller_manager(config: ClusterConfiguration) -> tuple[str, ...]:
    pki = config.certificates_dir
    return (kubeconfig.CONTROLLER_MANAGER.file, f"{pki}/ca.crt", f"{pki}/front-proxy-ca.crt")


def _reads_scheduler(config: ClusterConfiguration) -> tuple[str, ...]:
    del config
    return (kubeconfig.SCHEDULER.file,)


ETCD = StaticPod("etcd", _etcd, _reads_etcd)
STATIC_PODS = (
    ETCD,
    StaticPod("kube-apiserver", _api_server, _reads_api_server),
    StaticPod("kube-controller-manager", _controller_manager, _reads_controller_manager),
    StaticPod("kube-scheduler", _scheduler, _reads_scheduler),
)


def of(config: ClusterConfiguration) -> tuple[StaticPod, ...]:
    """Those that a control-plane host of this configuration has."""
    return tuple(pod for pod in STATIC_PODS if pod is not ETCD or config.etcd.external is None)


# -- parts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Probe:
    """One question over HTTP, and the three ways in which kubeadm has it asked."""

    path: str
    port: int
    scheme: str
    host: str = "127.0.0.1"

    def live(self) -> dict[str, Any]:
        return {"livenessProbe": self._asked(initialDelaySeconds=10, periodSeconds=10, failureThreshold=8)}

    def ready(self, period_seconds: int = 1) -> dict[str, Any]:
        return {"readinessProbe": self._asked(periodSeconds=period_seconds, failureThreshold=3)}

    def start(self, config: ClusterConfiguration) -> dict[str, Any]:
        """Also names the port, which all three use."""
        ports = [{"name": "probe-port", "containerPort": self.port, "protocol": "TCP"}]
        times = math.ceil(config.starting_time.total_seconds() / 10)
        asked = self._asked(initialDelaySeconds=10, periodSeconds=10, failureThreshold=times)
        return {"startupProbe": asked, "ports": ports}

    def _asked(self, **when: int) -> dict[str, Any]:
        get = {"host": self.host, "path": self.path, "port": "probe-port", "scheme": self.scheme}
        return {"httpGet": get, "timeoutSeconds": 15, **when}


def _container(name: str, cpu: str, config: ClusterConfiguration) -> dict[str, Any]:
    return {
        "name": name,
        "image": images.component(config, name),
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": cpu}},
    }


def _pod(container: dict[str, Any], said: Component, volumes: Iterable[Volume], annotations: dict[str, str]) -> Object:
    named = {volume.name: volume for volume in (*volumes, *said.volumes)}  # the configuration's own over kubeadm's
    ordered = [named[name] for name in sorted(named)]
    environment = [{"name": name, "value": value} for name, value in said.environment]
    mounts = [_mount(volume) for volume in ordered]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": container["name"],
            "namespace": "kube-system",
            "annotations": annotations,
            "labels": {"component": container["name"], "tier": "control-plane"},
        },
        "spec": {
            "containers": [{**container, **({"env": environment} if environment else {}), "volumeMounts": mounts}],
            "hostNetwork": True,
            "priority": _PRIORITY,
            "priorityClassName": "system-node-critical",
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [_volume(volume) for volume in ordered],
        },
    }


def _mount(volume: Volume) -> dict[str, Any]:
    return {
        "mountPath": volume.mount_path,
        "name": volume.name,
        **({"readOnly": True} if volume.read_only else {}),
    }


def _volume(volume: Volume) -> dict[str, Any]:
    kind = {"type": volume.path_type} if volume.path_type else {}
    return {"name": volume.name, "hostPath": {"path": volume.host_path, **kind}}


def _authorities(root: Path) -> list[Volume]:
    """The system's own authorities, for webhooks and identity providers that are known to them."""
    more = [path for path in _MORE_AUTHORITIES if (root / path[1:]).is_dir()]
    named = [("ca-certs", "/etc/ssl/certs"), *((path[1:].replace("/", "-"), path) for path in more)]
    return [Volume(name, path, path, read_only=True, path_type="DirectoryOrCreate") for name, path in named]


def _certificates(config: ClusterConfiguration) -> Volume:
    folder = config.certificates_dir
    return Volume("k8s-certs", folder, folder, read_only=True, path_type="DirectoryOrCreate")


def _kubeconfig(path: str) -> Volume:
    return Volume("kubeconfig", path, path, read_only=True, path_type="FileOrCreate")


def _external_etcd(config: ClusterConfiguration) -> list[Volume]:
    """Folders of an external etcd's certificates, where the API server would not see them otherwise."""
    external = config.etcd.external
    if external is None:
        return []
    folders = {str(Path(file).parent) for file in (external.ca_file, external.cert_file, external.key_file) if file}
    outside = sorted(folder for folder in folders if not Path(folder).is_relative_to(config.certificates_dir))
    return [
        Volume(f"etcd-certs-{number}", folder, folder, read_only=True, path_type="DirectoryOrCreate")
        for number, folder in enumerate(outside)
    ]
