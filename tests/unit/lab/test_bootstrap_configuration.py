"""kubeadm's configuration files, both versions, and what is wrong with bad ones."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from lab.bootstrap.configuration import ClusterConfiguration, join_host_port, split_host_port
from lab.bootstrap.reading import read_configuration
from machinery.errors import SettingsError

V1BETA3 = """\
apiVersion: kubeadm.k8s.io/v1beta3
kind: ClusterConfiguration
kubernetesVersion: v1.36.0
controlPlaneEndpoint: "lb.example.com:6443"
networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16}
apiServer:
  certSANs: [lb.example.com, 127.0.0.1]
  extraArgs: {audit-log-path: /var/log/audit.log, v: "4"}
  timeoutForControlPlane: 6m0s
etcd:
  local:
    dataDir: /data/etcd
    extraArgs: {quota-backend-bytes: "8589934592"}
    serverCertSANs: [etcd.example.com]
---
apiVersion: kubeadm.k8s.io/v1beta3
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 192.0.2.11, bindPort: 7443}
nodeRegistration:
  name: CP1
  taints: []
  kubeletExtraArgs: {node-labels: "a=b"}
"""

V1BETA4 = """\
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.36.0
controlPlaneEndpoint: "lb.example.com:6443"
networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16}
apiServer:
  certSANs: [lb.example.com, 127.0.0.1]
  extraArgs: [{name: audit-log-path, value: /var/log/audit.log}, {name: v, value: "4"}]
etcd:
  local:
    dataDir: /data/etcd
    extraArgs: [{name: quota-backend-bytes, value: "8589934592"}]
    serverCertSANs: [etcd.example.com]
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
timeouts: {controlPlaneComponentHealthCheck: 6m0s, discovery: 5m0s}
localAPIEndpoint: {advertiseAddress: 192.0.2.11, bindPort: 7443}
nodeRegistration:
  name: CP1
  taints: []
  kubeletExtraArgs: [{name: node-labels, value: "a=b"}]
"""


def read(tmp_path: Path, text: str) -> ClusterConfiguration:
    file = tmp_path / "kubeadm.yaml"
    file.write_text(text)
    return read_configuration(file)


def test_both_versions_say_the_same(tmp_path: Path) -> None:
    config = read(tmp_path, V1BETA4)
    assert config == read(tmp_path, V1BETA3)
    assert config.endpoint == "lb.example.com:6443"
    assert config.local_endpoint == "192.0.2.11:7443"
    assert config.starting_time == timedelta(minutes=6)
    assert config.api_server.arguments == (("audit-log-path", "/var/log/audit.log"), ("v", "4"))
    assert config.etcd.extra_args == (("quota-backend-bytes", "8589934592"),)
    assert (config.node_name, config.node.taints) == ("cp1", ())
    assert config.networking.api_service_address == "10.96.0.1"
    assert config.networking.dns_service_address == "10.96.0.10"


def test_what_is_not_said_is_as_kubeadm_has_it(tmp_path: Path) -> None:
    config = read(tmp_path, "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n")
    assert config.networking.service_subnet == "10.96.0.0/12"
    assert config.certificates_dir == "/etc/kubernetes/pki"
    assert config.encryption_algorithm == "RSA-2048"
    assert config.certificate_lifetime == timedelta(days=365)
    assert config.node.taints is None


def test_a_joining_control_plane_says_its_address_under_control_plane(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n"
        "controlPlane: {localAPIEndpoint: {advertiseAddress: 192.0.2.12}}\n",
    )
    assert config.local_endpoint == "192.0.2.12:6443"


def test_lifetimes_and_component_configurations_are_taken_over(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\ncertificateValidityPeriod: 24h0m0s\n"
        "---\napiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 20\n"
        "---\napiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: iptables\n",
    )
    assert config.certificate_lifetime == timedelta(days=1)
    assert (config.kubelet, config.proxy) == ({"maxPods": 20}, {"mode": "iptables"})


CLUSTER = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("apiVersion: kubeadm.k8s.io/v1beta2\nkind: ClusterConfiguration\n", "has apiVersion 'kubeadm.k8s.io/v1beta2'"),
        (CLUSTER + "colour: red\n", "ClusterConfiguration: unknown field colour"),
        (CLUSTER + "apiServer: {sans: []}\n", r"ClusterConfiguration\.apiServer: unknown field sans"),
        (CLUSTER + "networking: {podSubnet: 10.0.0.1/8}\n", r"networking\.podSubnet: .*host bits"),
        (CLUSTER + "controlPlaneEndpoint: lb:http\n", "'http' is not a port"),
        (CLUSTER + "controlPlaneEndpoint: [1]\n", "expected a string"),
        (CLUSTER + "apiServer: {extraArgs: {v: 4}}\n", "flag 'v': the value must be a string, in quotes"),
        (CLUSTER + "apiServer: {extraArgs: [v]}\n", "expected a map of flags"),
        (CLUSTER + "encryptionAlgorithm: DSA\n", "encryptionAlgorithm: 'DSA' is not one of"),
        (CLUSTER + "certificateValidityPeriod: soon\n", "certificateValidityPeriod: .*invalid duration"),
        (CLUSTER + "etcd: {external: {}}\n", r"etcd\.external\.endpoints: at least one"),
        (CLUSTER + "---\n" + CLUSTER, "more than one ClusterConfiguration"),
        ("kind: Secret\napiVersion: kubeadm.k8s.io/v1beta4\n", "unknown kind 'Secret'"),
        ("just text\n", "every document needs apiVersion and kind"),
    ],
)
def test_mistakes_are_told_with_file_and_field(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        read(tmp_path, text)
    assert str(caught.value).count("\n") == 0


def test_hosts_and_ports() -> None:
    assert split_host_port("[fd00::1]:6443") == ("fd00::1", 6443)
    assert split_host_port("fd00::1") == ("fd00::1", 0)
    assert split_host_port("lb") == ("lb", 0)
    assert join_host_port("fd00::1", 6443) == "[fd00::1]:6443"
