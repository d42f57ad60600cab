"""How each component is started: the flags that kubeadm gives it, with the configuration's extraArgs over them.

Source: kubeadm, phases/controlplane and phases/etcd (the static pods' commands), 10-kubeadm.conf (the kubelet's).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lab.bootstrap import kubeconfig
from lab.bootstrap.configuration import TAINT, Arguments, ClusterConfiguration, join_host_port

KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
KUBELET_FLAGS_FILE = "/var/lib/kubelet/kubeadm-flags.env"


def override(defaults: Arguments, extra: Arguments) -> Arguments:
    """`defaults` with every flag that `extra` names replaced by what it says, and new ones after them."""
    named = {name for name, _ in extra}
    return tuple(pair for pair in defaults if pair[0] not in named) + extra


def command_line(arguments: Arguments) -> list[str]:
    """`--name=value` for each, sorted by name as kubeadm writes them; those of one name keep their order."""
    return [f"--{name}={value}" for name, value in sorted(arguments, key=lambda pair: pair[0])]


def etcd(config: ClusterConfiguration) -> list[str]:
    """Arguments of this host's etcd member."""
    pki, own = f"{config.certificates_dir}/etcd", config.advertise_address
    client, peer = f"https://{join_host_port(own, 2379)}", f"https://{join_host_port(own, 2380)}"
    defaults = {
        "name": config.node_name,
        "data-dir": config.etcd.data_dir,
        "listen-client-urls": f"https://127.0.0.1:2379,{client}",
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"{config.node_name}={peer}",
        "cert-file": f"{pki}/server.crt",
        "key-file": f"{pki}/server.key",
        "client-cert-auth": "true",
        "trusted-ca-file": f"{pki}/ca.crt",
        "peer-cert-file": f"{pki}/peer.crt",
        "peer-key-file": f"{pki}/peer.key",
        "peer-client-cert-auth": "true",
        "peer-trusted-ca-file": f"{pki}/ca.crt",
        "snapshot-count": "10000",
        "listen-metrics-urls": "http://127.0.0.1:2381",
        "experimental-initial-corrupt-check": "true",
        # The API server waits for this to know that its cache is as new as a quorum read.
        "experimental-watch-progress-notify-interval": "1s",
    }
    return command_line(override(tuple(defaults.items()), config.etcd.extra_args))


def api_server(config: ClusterConfiguration) -> list[str]:
    """Arguments of this host's API server."""
    pki = config.certificates_dir
    external = config.etcd.external
    storage = {
        "etcd-cafile": external.ca_file if external else f"{pki}/etcd/ca.crt",
        "etcd-certfile": external.cert_file if external else f"{pki}/apiserver-etcd-client.crt",
        "etcd-keyfile": external.key_file if external else f"{pki}/apiserver-etcd-client.key",
        "etcd-servers": ",".join(external.endpoints) if external else "https://127.0.0.1:2379",
    }
    defaults = {
        "advertise-address": config.advertise_address,
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        "client-ca-file": f"{pki}/ca.crt",
        "enable-admission-plugins": "NodeRestriction",
        "enable-bootstrap-token-auth": "true",
        **{name: value for name, value in storage.items() if value},
        "kubelet-client-certificate": f"{pki}/apiserver-kubelet-client.crt",
        "kubelet-client-key": f"{pki}/apiserver-kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
        "proxy-client-cert-file": f"{pki}/front-proxy-client.crt",
        "proxy-client-key-file": f"{pki}/front-proxy-client.key",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-client-ca-file": f"{pki}/front-proxy-ca.crt",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "secure-port": str(config.bind_port),
        "service-account-issuer": f"https://kubernetes.default.svc.{config.networking.dns_domain}",
        "service-account-key-file": f"{pki}/sa.pub",
        "service-account-signing-key-file": f"{pki}/sa.key",
        "service-cluster-ip-range": config.networking.service_subnet,
        "tls-cert-file": f"{pki}/apiserver.crt",
        "tls-private-key-file": f"{pki}/apiserver.key",
    }
    return command_line(override(tuple(defaults.items()), config.api_server.arguments))


def controller_manager(config: ClusterConfiguration) -> list[str]:
    """Arguments of this host's controller manager."""
    pki, own = config.certificates_dir, kubeconfig.CONTROLLER_MANAGER.file
    defaults = {
        "authentication-kubeconfig": own,
        "authorization-kubeconfig": own,
        "bind-address": "127.0.0.1",
        "client-ca-file": f"{pki}/ca.crt",
        "cluster-name": config.cluster_name,
        "cluster-signing-cert-file": f"{pki}/ca.crt",
        "cluster-signing-key-file": f"{pki}/ca.key",
        "controllers": "*,bootstrapsigner,tokencleaner",
        "kubeconfig": own,
        "leader-elect": "true",
        "requestheader-client-ca-file": f"{pki}/front-proxy-ca.crt",
        "root-ca-file": f"{pki}/ca.crt",
        "service-account-private-key-file": f"{pki}/sa.key",
        "use-service-account-credentials": "true",
    }
    if config.networking.pod_subnet:
        defaults |= {
            "allocate-node-cidrs": "true",
            "cluster-cidr": config.networking.pod_subnet,
            "service-cluster-ip-range": config.networking.service_subnet,
        }
    return command_line(override(tuple(defaults.items()), config.controller_manager.arguments))


def scheduler(config: ClusterConfiguration) -> list[str]:
    """Arguments of this host's scheduler."""
    own = kubeconfig.SCHEDULER.file
    defaults = {
        "authentication-kubeconfig": own,
        "authorization-kubeconfig": own,
        "bind-address": "127.0.0.1",
        "kubeconfig": own,
        "leader-elect": "true",
    }
    return command_line(override(tuple(defaults.items()), config.scheduler.arguments))


def kubelet(config: ClusterConfiguration) -> list[str]:
    """All arguments of this host's kubelet; its configuration file says the rest."""
    files = (("config", KUBELET_CONFIG), ("kubeconfig", kubeconfig.kubelet("").file))
    return [*command_line(files), *kubelet_flags(config)]


def kubelet_flags(config: ClusterConfiguration) -> list[str]:
    """The arguments that KUBELET_FLAGS_FILE holds: those that differ from host to host."""
    defaults = {"hostname-override": config.node_name, "node-ip": config.advertise_address}
    taints = config.node.taints
    if taints is None and config.control_plane:
        taints = (TAINT,)  # from the first moment on; `mark-control-plane` sees to it that they stay
    if taints:
        defaults["register-with-taints"] = ",".join(_taint(each) for each in taints)
    present = tuple((name, value) for name, value in defaults.items() if value)
    return command_line(override(present, config.node.kubelet_extra_args))


def _taint(taint: Mapping[str, str]) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"


def initial_cluster(members: Sequence[tuple[str, str]]) -> str:
    """etcd's --initial-cluster for members given as (name, address)."""
    return ",".join(f"{name}=https://{join_host_port(address, 2380)}" for name, address in members)
