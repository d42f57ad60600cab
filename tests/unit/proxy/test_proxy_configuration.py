"""KubeProxyConfiguration and flags: what is read, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.proxy.configuration import ProxyConfiguration, host_port
from agent.proxy.flags import parse
from agent.proxy.model import Family, NodeView
from agent.proxy.thisnode import ThisNode, node_port_ranges, rule_settings
from machinery.errors import SettingsError

KUBEADM = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16,fd00:244::/56
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: 12h
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables: {localhostNodePorts: null, masqueradeAll: true, masqueradeBit: 5, minSyncPeriod: 0s, syncPeriod: 10s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s}
nftables: {masqueradeAll: false, masqueradeBit: 7, minSyncPeriod: 1s, syncPeriod: 45s}
logging: {flushFrequency: 0, verbosity: 0}
metricsBindAddress: ""
mode: nftables
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel: {enableDSR: false}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.conf"
    path.write_text(KUBEADM)
    return path


def test_kubeadms_file_is_read_with_the_modes_own_section(file: Path) -> None:
    read = parse(["--config", str(file)]).configuration
    assert read.mode == "nftables"
    assert read.kubeconfig == "/var/lib/kube-proxy/kubeconfig.conf"
    assert read.cluster_cidrs == ("10.244.0.0/16", "fd00:244::/56")
    assert (read.masquerade_all, read.masquerade_bit, read.sync_seconds, read.min_sync_seconds) == (False, 7, 45, 1)
    assert (read.conntrack.max_per_core, read.conntrack.tcp_established_seconds) == (32768, 43200)
    assert read.ipvs.scheduler == "rr"


def test_given_flags_override_the_file(file: Path) -> None:
    read = parse(["--config", str(file), "--proxy-mode=iptables", "--hostname-override", "W1", "-v=3"])
    assert (read.configuration.mode, read.configuration.hostname_override, read.verbosity) == ("iptables", "W1", 3)
    assert (read.configuration.masquerade_all, read.configuration.masquerade_bit) == (True, 5)
    assert parse(["--nodeport-addresses=10.0.0.0/8,primary"]).configuration.node_port_addresses == (
        "10.0.0.0/8",
        "primary",
    )
    assert parse(["--ipvs-scheduler=lc"]).configuration.ipvs.scheduler == "lc"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("modus: nftables", 'strict decoding error: unknown field "modus"'),
        ("iptables: {masquerade: true}", 'strict decoding error: unknown field "iptables.masquerade"'),
        ("iptables: 5", "iptables: must be a mapping"),
        ("mode: 5", "mode: Invalid value: 5: must be a string"),
        ("oomScoreAdj: high", "oomScoreAdj: Invalid value: 'high': must be a whole number"),
        ("configSyncPeriod: soon", "configSyncPeriod: Invalid value: 'soon'"),
        ("nodePortAddresses: primary", "nodePortAddresses: Invalid value: 'primary': must be a list of strings"),
        ("mode: userspace", "mode: Invalid value: 'userspace': must be one of iptables, nftables, ipvs"),
        ("clusterCIDR: rubbish", "clusterCIDR: Invalid value: 'rubbish'"),
        ("clusterCIDR: 10.0.0.0/8,10.1.0.0/16", "clusterCIDR: Invalid value"),
        ("detectLocalMode: Guess", "detectLocalMode: Invalid value: 'Guess'"),
        ("detectLocalMode: BridgeInterface", "detectLocal.bridgeInterface: Invalid value: ''"),
        ("iptables: {masqueradeBit: 32}", "masqueradeBit: Invalid value: 32: must be within [0, 31]"),
        ("iptables: {syncPeriod: 0s}", "syncPeriod: Invalid value: 0.0: must be greater than 0"),
        ("nodePortAddresses: [10.0.0.1]", "nodePortAddresses: Invalid value: '10.0.0.1'"),
        ("healthzBindAddress: somewhere:80", "'somewhere:80' is not ADDRESS:PORT"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "config.conf"
    path.write_text(f"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{line}\n")
    with pytest.raises(SettingsError) as caught:
        parse(["--config", str(path)])
    assert message in str(caught.value)


def test_unknown_flags_are_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="--frobnicate"):
        parse(["--frobnicate"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0:10256", ("0.0.0.0", 10256)),
        ("127.0.0.1", ("127.0.0.1", 9)),
        ("[::]:80", ("::", 80)),
        ("::1", ("::1", 9)),
    ],
)
def test_addresses_with_and_without_port(text: str, expected: tuple[str, int]) -> None:
    assert host_port(text, 9) == expected


NODE = ThisNode(NodeView("w1", pod_ranges=("10.244.1.0/24",)), ("10.0.0.1", "fd00::1", "203.0.113.1"))


@pytest.mark.parametrize(
    ("mode", "addresses", "expected"),
    [
        ("nftables", (), ("10.0.0.1/32",)),
        ("iptables", (), None),
        ("iptables", ("primary",), ("10.0.0.1/32",)),
        ("nftables", ("all",), None),
        ("nftables", ("0.0.0.0/0",), None),
        ("iptables", ("localhost", "192.168.1.7/24", "fd00::/8"), ("127.0.0.0/8", "192.168.1.0/24")),
        ("iptables", ("fd00::/8",), ()),
    ],
)
def test_which_addresses_serve_node_ports(mode: str, addresses: tuple[str, ...], expected: object) -> None:
    wanted = ProxyConfiguration(mode=mode, node_port_addresses=addresses)
    assert node_port_ranges(Family.IPV4, wanted, NODE) == expected


def test_localhost_serves_node_ports_in_iptables_mode_unless_told_otherwise() -> None:
    def served(**changes: object) -> bool:
        wanted = ProxyConfiguration(**changes)  # type: ignore[arg-type]
        return rule_settings(Family.IPV4, wanted, NODE, ()).localhost_node_ports

    assert served()
    assert not served(localhost_node_ports=False)
    assert not served(node_port_addresses=("primary",))
    assert served(node_port_addresses=("primary", "localhost"))


def test_what_a_node_object_tells() -> None:
    node = {
        "metadata": {"name": "w1", "labels": {"topology.kubernetes.io/zone": "z"}},
        "spec": {"podCIDR": "10.244.1.0/24"},
        "status": {
            "addresses": [
                {"type": "Hostname", "address": "w1"},
                {"type": "ExternalIP", "address": "203.0.113.1"},
                {"type": "InternalIP", "address": "10.0.0.1"},
            ]
        },
    }
    assert ThisNode.of("w1", node, ()) == ThisNode(NodeView("w1", "z", ("10.244.1.0/24",)), ("10.0.0.1", "203.0.113.1"))
    assert ThisNode.of("cp1", None, ["10.0.0.9"]) == ThisNode(NodeView("cp1"), ("10.0.0.9",))
