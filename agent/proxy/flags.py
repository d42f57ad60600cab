"""kube-proxy's command line. Source: `kube-proxy --help` of v1.36."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.proxy import configuration
from agent.proxy.configuration import ProxyConfiguration
from machinery import component
from machinery.addresses import is_address
from machinery.errors import SettingsError
from machinery.settings import Flag, FlagSet, boolean, duration, strings


def _tuple(text: str) -> tuple[str, ...]:
    return tuple(strings(text))


# Flag -> field of ProxyConfiguration. A flag that is not given is None and leaves the field as the file has it.
_FIELDS: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "proxy-mode": ("mode", str, "which proxy mode to use: iptables (default), nftables or ipvs"),
    "kubeconfig": ("kubeconfig", str, "path to a kubeconfig file"),
    "hostname-override": ("hostname_override", str, "name of the Node that this runs on; default: the host's name"),
    "bind-address": ("bind_address", str, "what is taken for the node's primary address"),
    "healthz-bind-address": ("healthz_bind_address", str, "address and port of the health server (0.0.0.0:10256)"),
    "metrics-bind-address": ("metrics_bind_address", str, "address and port of the metrics server (127.0.0.1:10249)"),
    "bind-address-hard-fail": ("bind_address_hard_fail", boolean, "treat failure to bind to a port as fatal"),
    "cluster-cidr": ("cluster_cidrs", _tuple, "CIDR of the pods, or one of each family"),
    "detect-local-mode": ("detect_local_mode", str, "how to tell pods' traffic: ClusterCIDR, NodeCIDR, …"),
    "pod-bridge-interface": ("bridge_interface", str, "pods' bridge, for --detect-local-mode=BridgeInterface"),
    "pod-interface-name-prefix": ("interface_name_prefix", str, "for --detect-local-mode=InterfaceNamePrefix"),
    "nodeport-addresses": ("node_port_addresses", _tuple, "CIDRs, or primary: the addresses that serve NodePorts"),
    "masquerade-all": ("masquerade_all", boolean, "masquerade all traffic to cluster IPs"),
    "iptables-masquerade-bit": ("masquerade_bit", int, "bit of the packet mark that asks for masquerading"),
    "iptables-localhost-nodeports": ("localhost_node_ports", boolean, "serve NodePorts on localhost (iptables, IPv4)"),
    "iptables-sync-period": ("sync_seconds", duration, "time between two looks whether the rules are intact"),
    "iptables-min-sync-period": ("min_sync_seconds", duration, "shortest time between two changes of rules"),
    "ipvs-sync-period": ("sync_seconds", duration, "as --iptables-sync-period, for IPVS"),
    "ipvs-min-sync-period": ("min_sync_seconds", duration, "as --iptables-min-sync-period, for IPVS"),
    "ipvs-scheduler": ("ipvs.scheduler", str, "IPVS scheduler (rr)"),
    "ipvs-exclude-cidrs": ("ipvs.exclude_cidrs", _tuple, "CIDRs whose virtual servers belong to others"),
    "ipvs-strict-arp": ("ipvs.strict_arp", boolean, "set arp_ignore to 1 and arp_announce to 2"),
    "ipvs-tcp-timeout": ("ipvs.tcp_seconds", duration, "timeout of idle TCP connections, 0: as it is"),
    "ipvs-tcpfin-timeout": ("ipvs.tcp_fin_seconds", duration, "timeout of TCP connections after a FIN, 0: as it is"),
    "ipvs-udp-timeout": ("ipvs.udp_seconds", duration, "timeout of UDP, 0: as it is"),
    "oom-score-adj": ("oom_score_adj", int, "oom-score-adj of this process"),
    "conntrack-max-per-core": ("conntrack.max_per_core", int, "tracked connections for each core, 0: as it is"),
    "conntrack-min": ("conntrack.min", int, "tracked connections however few cores there are"),
    "conntrack-tcp-timeout-established": ("conntrack.tcp_established_seconds", duration, "0: as it is"),
    "conntrack-tcp-timeout-close-wait": ("conntrack.tcp_close_wait_seconds", duration, "0: as it is"),
    "conntrack-tcp-be-liberal": ("conntrack.tcp_be_liberal", boolean, "accept packets outside the TCP window"),
    "conntrack-udp-timeout": ("conntrack.udp_seconds", duration, "0: as it is"),
    "conntrack-udp-timeout-stream": ("conntrack.udp_stream_seconds", duration, "0: as it is"),
}

_BESIDE_A_FILE = frozenset({"hostname-override"})  # the only ones of these that count when --config is given, too

_FLAGS = FlagSet(
    "kube-proxy",
    [
        *component.LOG_FLAGS,
        Flag("master", str, "", "address of the API server, overriding the kubeconfig's"),
        Flag("config", str, "", "path to a KubeProxyConfiguration file; flags that are given override it"),
        Flag("write-config-to", str, "", "write the configuration to this file, and exit"),
        Flag(
            "healthz-port", int, configuration.HEALTHZ_PORT, "deprecated: of a --healthz-bind-address without; 0: none"
        ),
        Flag(
            "metrics-port", int, configuration.METRICS_PORT, "deprecated: of a --metrics-bind-address without; 0: none"
        ),
        Flag("cleanup", boolean, False, "remove all rules of all modes, and exit"),
        Flag("init-only", boolean, False, "set what needs full root privileges (sysctls), and exit"),
        *(Flag(name, parse, None, told) for name, (_, parse, told) in _FIELDS.items()),
    ],
    harmless=(
        "config-sync-period",
        "feature-gates",
        "kube-api-burst",
        "kube-api-content-type",
        "kube-api-qps",
        "log-flush-frequency",
        "log-json-info-buffer-size",
        "log-json-split-stream",
        "log-text-info-buffer-size",
        "log-text-split-stream",
        "logging-format",
        "profiling",
        "show-hidden-metrics-for-version",
        "vmodule",
    ),
)


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    configuration: ProxyConfiguration
    master: str = ""
    cleanup: bool = False
    init_only: bool = False
    verbosity: int = 0
    config_file: str = ""
    write_config_to: str = ""
    warnings: tuple[str, ...] = ()  # to be logged once there is a log


def parse(arguments: Sequence[str]) -> Options:
    """Read flags and file. Raises SettingsError."""
    flags = _FLAGS.parse(arguments)
    given = {name: flags[name] for name in _FIELDS if flags[name] is not None}
    warnings = []
    base = ProxyConfiguration()
    if flags["config"]:
        base, unknown = configuration.load(flags["config"])
        warnings += [f'using lenient decoding as strict decoding failed: unknown field "{name}"' for name in unknown]
        warnings += [
            f"--{name} is ignored, because a config file is specified by --config"
            for name in given.keys() - _BESIDE_A_FILE
        ]
        given = {name: value for name, value in given.items() if name in _BESIDE_A_FILE}
    name = flags["hostname-override"] or ""
    if name and not name.strip():
        raise SettingsError("failed complete: empty hostname-override is invalid")
    values = {_FIELDS[name][0]: value for name, value in given.items()}
    if not flags["config"]:
        for what in ("healthz", "metrics"):
            values |= _bind_address(what, flags[f"{what}-bind-address"], flags[f"{what}-port"])
    made = configuration.with_values(base, values).validated()
    return Options(
        made,
        flags["master"],
        flags["cleanup"],
        flags["init-only"],
        flags["v"],
        flags["config"],
        flags["write-config-to"],
        warnings=tuple(sorted(warnings)),
    )


def _bind_address(what: str, address: str | None, port: int) -> dict[str, Any]:
    """Where to serve, from an address and a deprecated port of its own; an empty address, or port 0, is nowhere."""
    if port == 0 or address == "":
        return {f"serves_{what}": False}
    if address is None:
        return {}
    host, number = configuration.host_port(address, port) if is_address(address) else ("", 0)
    return {f"{what}_bind_address": (f"[{host}]:{number}" if ":" in host else f"{host}:{number}") if host else address}
