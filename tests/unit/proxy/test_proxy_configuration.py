"""KubeProxyConfiguration and flags: what is read, what is refused, and in which words."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.proxy.configuration import ProxyConfiguration, host_port
from agent.proxy.filewatch import until_written
from agent.proxy.flags import parse
from agent.proxy.model import Family, NodeView
from agent.proxy.thisnode import ThisNode, node_port_ranges, rule_settings
from agent.proxy.writing import document, write
from machinery.errors import SettingsError
from machinery.testing.clock import FakeClock

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


def test_beside_a_file_only_the_hostname_counts_and_the_rest_is_told(file: Path) -> None:
    read = parse(["--config", str(file), "--proxy-mode=iptables", "--hostname-override", "W1", "-v=3"])
    made = read.configuration
    assert (made.mode, made.hostname_override, read.verbosity) == ("nftables", "W1", 3)
    assert read.warnings == ("--proxy-mode is ignored, because a config file is specified by --config",)


def test_flags_alone() -> None:
    addresses = parse(["--nodeport-addresses=10.0.0.0/8,fd00::/8"]).configuration.node_port_addresses
    assert addresses == ("10.0.0.0/8", "fd00::/8")
    assert parse(["--ipvs-scheduler=lc"]).configuration.ipvs.scheduler == "lc"
    with pytest.raises(SettingsError, match="empty hostname-override is invalid"):
        parse(["--hostname-override", " "])


@pytest.mark.parametrize(
    ("flags", "healthz", "metrics"),
    [
        ([], "", ""),
        (["--healthz-port=0", "--metrics-port=0"], None, None),
        (["--healthz-bind-address=", "--metrics-bind-address="], None, None),
        (["--healthz-bind-address=10.0.0.1", "--healthz-port=7"], "10.0.0.1:7", ""),
        (["--healthz-bind-address=10.0.0.1:8", "--healthz-port=7"], "10.0.0.1:8", ""),
        (["--healthz-port=7", "--metrics-bind-address=::1"], "", "[::1]:10249"),
    ],
)
def test_where_health_and_metrics_are_served(flags: list[str], healthz: str | None, metrics: str | None) -> None:
    made = parse(flags).configuration
    assert (made.healthz_bind_address if made.serves_healthz else None) == healthz
    assert (made.metrics_bind_address if made.serves_metrics else None) == metrics


ROOT = "KubeProxyConfiguration"
LINUX = f"{ROOT}.KubeProxyLinuxConfiguration"
CIDRS = f"{ROOT}.DetectLocalConfiguration.ClusterCIDRs"
PAIR = "must be a either a single CIDR or dual-stack pair of CIDRs (e.g. [10.100.0.0/16, fde4:8dba:82e1::/48]"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("iptables: 5", "iptables: must be a mapping"),
        ("mode: 5", "mode: Invalid value: 5: must be a string"),
        ("oomScoreAdj: high", "oomScoreAdj: Invalid value: 'high': must be a whole number"),
        ("configSyncPeriod: soon", "configSyncPeriod: Invalid value: 'soon'"),
        ("nodePortAddresses: primary", "nodePortAddresses: Invalid value: 'primary': must be a list of strings"),
    ],
)
def test_what_is_of_the_wrong_type_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(["--config", str(_file(tmp_path, line))])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "messages"),
    [
        (
            "mode: userspace",
            [
                f'{ROOT}.Mode.ProxyMode: Invalid value: "userspace": must be iptables, ipvs, nftables or blank '
                "(blank means the best-available proxy [currently iptables])"
            ],
        ),
        (
            "bindAddress: 10.10.12.11:2000",
            [
                f'{ROOT}.BindAddress: Invalid value: "10.10.12.11:2000": '
                "not a valid textual representation of an IP address"
            ],
        ),
        (
            "healthzBindAddress: somewhere:80",
            [f'{ROOT}.HealthzBindAddress: Invalid value: "somewhere": must be a valid IP'],
        ),
        ("metricsBindAddress: localhost", [f'{ROOT}.MetricsBindAddress: Invalid value: "localhost": must be IP:port']),
        (
            "metricsBindAddress: 127.0.0.1:99999",
            [f'{ROOT}.MetricsBindAddress: Invalid value: "99999": must be a valid port'],
        ),
        (
            "clusterCIDR: rubbish",
            [
                f'{CIDRS}[0]: Invalid value: "rubbish": must be a valid CIDR block '
                "(e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"
            ],
        ),
        (
            "clusterCIDR: 10.0.0.0/8,10.1.0.0/16",
            [f'{CIDRS}: Invalid value: ["10.0.0.0/8","10.1.0.0/16"]: {PAIR}'],
        ),
        (
            "clusterCIDR: 10.0.0.0/8,fd00::/64,10.1.0.0/16",
            [f'{CIDRS}: Invalid value: ["10.0.0.0/8","fd00::/64","10.1.0.0/16"]: {PAIR}'],
        ),
        (
            "detectLocalMode: Guess",
            [
                f'{ROOT}.DetectLocalMode: Unsupported value: "Guess": supported values: "ClusterCIDR", "NodeCIDR", '
                '"BridgeInterface", "InterfaceNamePrefix", ""'
            ],
        ),
        (
            "detectLocalMode: BridgeInterface",
            [f'{ROOT}.DetectLocalConfiguration.InterfaceName: Invalid value: "": must not be empty'],
        ),
        (
            "detectLocalMode: InterfaceNamePrefix",
            [f'{ROOT}.DetectLocalConfiguration.InterfacePrefix: Invalid value: "": must not be empty'],
        ),
        (
            "iptables: {masqueradeBit: 32}",
            [
                f"{ROOT}.KubeProxyIPTablesConfiguration.MasqueradeBit: Invalid value: 32: "
                "must be within the range [0, 31]"
            ],
        ),
        (
            "iptables: {syncPeriod: 1s, minSyncPeriod: 1m5s}",
            [f'{ROOT}.SyncPeriod: Invalid value: "1m5s": must be greater than or equal to {ROOT}.MinSyncPeriod'],
        ),
        (
            "iptables: {minSyncPeriod: -1s}",
            [f'{ROOT}.MinSyncPeriod: Invalid value: "-1s": must be greater than or equal to 0'],
        ),
        (
            "nodePortAddresses: [10.0.0.1]",
            [f'{ROOT}.NodePortAddresses[0]: Invalid value: "10.0.0.1": must be a valid CIDR'],
        ),
        (
            "nodePortAddresses: [10.0.0.0/8, primary]",
            [f"{ROOT}.NodePortAddresses[1]: Invalid value: \"primary\": can't use both 'primary' and CIDRs"],
        ),
        (
            "{oomScoreAdj: 1001, conntrack: {min: -1, udpTimeout: -500ms}, clientConnection: {burst: -5}}",
            [
                f"{LINUX}.KubeProxyConntrackConfiguration.Min: Invalid value: -1: must be greater than or equal to 0",
                f'{LINUX}.KubeProxyConntrackConfiguration.UDPTimeout: Invalid value: "-500ms": '
                "must be greater than or equal to 0",
                f"{LINUX}.OOMScoreAdj: Invalid value: 1001: must be within the range [-1000, 1000]",
                f"{ROOT}.ClientConnection.Burst: Invalid value: -5: must be greater than or equal to 0",
            ],
        ),
        (
            "{mode: ipvs, ipvs: {tcpTimeout: -1h, excludeCIDRs: [10.0.0.0/8, odd]}}",
            [
                f'{ROOT}.KubeProxyIPVSConfiguration.TCPTimeout: Invalid value: "-1h0m0s": '
                "must be greater than or equal to 0",
                f'{ROOT}.KubeProxyIPVSConfiguration.ExcludeCidrs[1]: Invalid value: "odd": must be a valid CIDR',
            ],
        ),
    ],
)
def test_everything_that_is_wrong_is_told_in_upstreams_words(tmp_path: Path, line: str, messages: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(["--config", str(_file(tmp_path, line))])
    told = messages[0] if len(messages) == 1 else f"[{', '.join(messages)}]"
    assert str(caught.value) == f"failed validate: {told}"


def test_fields_that_are_not_known_count_for_nothing(tmp_path: Path) -> None:
    read = parse(["--config", str(_file(tmp_path, "{modus: nftables, iptables: {odd: 1, syncPeriod: 0s}}"))])
    assert (read.configuration.mode, read.configuration.sync_seconds) == ("iptables", 30)
    assert [warning.rpartition(": ")[2] for warning in read.warnings] == [
        'unknown field "iptables.odd"',
        'unknown field "modus"',
    ]


def test_what_is_written_reads_the_same(file: Path, tmp_path: Path) -> None:
    for flags in (
        ["--config", str(file)],
        ["--proxy-mode=ipvs", "--ipvs-exclude-cidrs=10.0.0.0/8", "--bind-address=::", "--cluster-cidr=fd00::/64"],
    ):
        made = parse(flags).configuration
        write(made, str(tmp_path / "written"))
        again = parse(["--config", str(tmp_path / "written")]).configuration
        assert document(again) == document(made)
    with pytest.raises(SettingsError, match="cannot write"):
        write(made, str(tmp_path / "nowhere" / "written"))


async def test_a_file_that_is_written_to_ends_the_proxy(file: Path) -> None:
    clock = FakeClock()
    task = asyncio.ensure_future(until_written(str(file), clock))
    await clock.advance(10)
    assert not task.done()
    file.write_text(KUBEADM + "\n")
    await clock.advance(10)
    with pytest.raises(SettingsError, match="content of the proxy server's configuration file was updated"):
        await task


async def test_a_file_in_the_place_of_the_first_is_no_reason_to_end(file: Path) -> None:
    clock = FakeClock()
    task = asyncio.ensure_future(until_written(str(file), clock))
    await clock.advance(10)
    other = file.with_name("other")
    other.write_text("")
    other.replace(file)
    await clock.advance(10)
    await task


def _file(folder: Path, line: str) -> Path:
    path = folder / "config.conf"
    if line.startswith("{"):
        text = f"{{apiVersion: kubeproxy.config.k8s.io/v1alpha1, kind: KubeProxyConfiguration, {line[1:]}"
    else:
        text = f"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{line}\n"
    path.write_text(text)
    return path


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
        ("nftables", ("0.0.0.0/0",), None),
        ("iptables", ("127.0.0.0/8", "192.168.1.7/24", "fd00::/8"), ("127.0.0.0/8", "192.168.1.0/24")),
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
    assert served(node_port_addresses=("10.0.0.0/8", "127.0.0.0/8"))


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
