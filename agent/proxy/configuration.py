"""KubeProxyConfiguration and kube-proxy's flags, read strictly into one value.

A flag that is given overrides the file.  (kube-proxy itself ignores most flags beside --config, silently.)

Source: kube-proxy configuration v1alpha1; `kube-proxy --help` of v1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any, get_args

from agent.proxy.settings import DetectLocalMode
from machinery.errors import SettingsError
from machinery.settings import duration, load_config

KIND = "KubeProxyConfiguration"
API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
MODES = ("iptables", "nftables", "ipvs")
NODE_PORT_KEYWORDS = ("primary", "localhost", "all")

HEALTHZ_PORT = 10256
METRICS_PORT = 10249


@dataclass(frozen=True)
class Conntrack:
    """The kernel's connection tracking; None or 0 leaves a value as it is."""

    max_per_core: int = 32768
    min: int = 131072  # of nf_conntrack_max, however few cores there are
    tcp_established_seconds: float = 86400
    tcp_close_wait_seconds: float = 3600
    tcp_be_liberal: bool = False
    udp_seconds: float = 0
    udp_stream_seconds: float = 0


@dataclass(frozen=True)
class Ipvs:
    """What only the IPVS mode needs."""

    scheduler: str = "rr"
    exclude_cidrs: tuple[str, ...] = ()  # virtual servers there belong to others
    strict_arp: bool = False
    tcp_seconds: float = 0
    tcp_fin_seconds: float = 0
    udp_seconds: float = 0


@dataclass(frozen=True)
class ProxyConfiguration:
    """Everything the proxy is told at start."""

    mode: str = "iptables"
    kubeconfig: str = ""
    hostname_override: str = ""
    bind_address: str = "0.0.0.0"  # what the node's primary address is thought to be, and its family
    healthz_bind_address: str = ""  # "": port 10256 on all addresses
    metrics_bind_address: str = ""  # "": port 10249 on loopback
    bind_address_hard_fail: bool = False
    cluster_cidrs: tuple[str, ...] = ()
    detect_local_mode: DetectLocalMode = ""
    bridge_interface: str = ""
    interface_name_prefix: str = ""
    node_port_addresses: tuple[str, ...] = ()
    masquerade_all: bool = False
    masquerade_bit: int = 14
    localhost_node_ports: bool = True
    sync_seconds: float = 30  # between two looks whether the rules are still ours
    min_sync_seconds: float = 0  # between two changes of rules
    oom_score_adj: int = -999
    conntrack: Conntrack = field(default_factory=Conntrack)
    ipvs: Ipvs = field(default_factory=Ipvs)

    def validated(self) -> ProxyConfiguration:
        """Itself. Raises SettingsError that names the field."""
        _require(self.mode in MODES, "mode", self.mode, f"must be one of {', '.join(MODES)}")
        modes = get_args(DetectLocalMode)
        known = self.detect_local_mode in modes
        _require(known, "detectLocalMode", self.detect_local_mode, f"must be one of {', '.join(modes[1:])}")
        _require(0 <= self.masquerade_bit <= 31, "masqueradeBit", self.masquerade_bit, "must be within [0, 31]")
        _require(-1000 <= self.oom_score_adj <= 1000, "oomScoreAdj", self.oom_score_adj, "must be within [-1000, 1000]")
        _require(self.sync_seconds > 0, "syncPeriod", self.sync_seconds, "must be greater than 0")
        _require(self.min_sync_seconds >= 0, "minSyncPeriod", self.min_sync_seconds, "must not be negative")
        if self.detect_local_mode == "BridgeInterface":
            _require(bool(self.bridge_interface), "detectLocal.bridgeInterface", "", "must be set in this mode")
        if self.detect_local_mode == "InterfaceNamePrefix":
            where = "detectLocal.interfaceNamePrefix"
            _require(bool(self.interface_name_prefix), where, "", "must be set in this mode")
        for cidr in self.cluster_cidrs:
            _require(_is_network(cidr), "clusterCIDR", cidr, "must be a CIDR, or one of each family")
        families = [ip_network(cidr, strict=False).version for cidr in self.cluster_cidrs]
        _require(len(families) == len(set(families)), "clusterCIDR", ",".join(self.cluster_cidrs), "one of each family")
        for entry in self.node_port_addresses:
            known = entry in NODE_PORT_KEYWORDS or _is_network(entry)
            _require(known, "nodePortAddresses", entry, f"must be a CIDR or one of {', '.join(NODE_PORT_KEYWORDS)}")
        _require(_is_address(self.bind_address), "bindAddress", self.bind_address, "must be an IP address")
        for name in ("healthz_bind_address", "metrics_bind_address"):
            if getattr(self, name):
                host_port(getattr(self, name), 0)
        return self


def host_port(text: str, default_port: int) -> tuple[str, int]:
    """`1.2.3.4:80`, `[::]:80` or an address alone as (address, port). Raises SettingsError."""
    host, colon, port = text.rpartition(":")
    if not colon or _is_address(text):
        host, port = text, str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not _is_address(host) or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{text!r} is not ADDRESS:PORT")
    return host, int(port)


def _require(condition: bool, where: str, value: Any, message: str) -> None:
    if not condition:
        raise SettingsError(f"{KIND}: {where}: Invalid value: {value!r}: {message}")


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


# -- the file --------------------------------------------------------------------------------------------------------

_Reader = Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("must be a list of strings")
    return tuple(_text(item) for item in value)


def _cidrs(value: Any) -> tuple[str, ...]:
    return tuple(part.strip() for part in _text(value).split(",") if part.strip())


def _seconds(value: Any) -> float:
    return duration(_text(value))


def _anything(value: Any) -> None:
    """A field without effect here."""


_RULES = {
    "masqueradeBit": (_number, "masquerade_bit"),
    "masqueradeAll": (_switch, "masquerade_all"),
    "syncPeriod": (_seconds, "sync_seconds"),
    "minSyncPeriod": (_seconds, "min_sync_seconds"),
}

# Field -> (reader, name in ProxyConfiguration); "" has no effect here; a mapping is a section.
_SECTIONS: dict[str, Any] = {
    "apiVersion": (_text, ""),
    "kind": (_text, ""),
    "featureGates": (_anything, ""),
    "clientConnection": {
        "kubeconfig": (_text, "kubeconfig"),
        "acceptContentTypes": (_text, ""),
        "contentType": (_text, ""),
        "qps": (_anything, ""),
        "burst": (_number, ""),
    },
    "logging": (_anything, ""),
    "hostnameOverride": (_text, "hostname_override"),
    "bindAddress": (_text, "bind_address"),
    "healthzBindAddress": (_text, "healthz_bind_address"),
    "metricsBindAddress": (_text, "metrics_bind_address"),
    "bindAddressHardFail": (_switch, "bind_address_hard_fail"),
    "enableProfiling": (_switch, ""),
    "showHiddenMetricsForVersion": (_text, ""),
    "mode": (_text, "mode"),
    "iptables": {**_RULES, "localhostNodePorts": (_switch, "localhost_node_ports")},
    "nftables": _RULES,
    "ipvs": {
        "syncPeriod": (_seconds, "sync_seconds"),
        "minSyncPeriod": (_seconds, "min_sync_seconds"),
        "scheduler": (_text, "ipvs.scheduler"),
        "excludeCIDRs": (_texts, "ipvs.exclude_cidrs"),
        "strictARP": (_switch, "ipvs.strict_arp"),
        "tcpTimeout": (_seconds, "ipvs.tcp_seconds"),
        "tcpFinTimeout": (_seconds, "ipvs.tcp_fin_seconds"),
        "udpTimeout": (_seconds, "ipvs.udp_seconds"),
    },
    "winkernel": (_anything, ""),
    "windowsRunAsService": (_anything, ""),
    "detectLocalMode": (_text, "detect_local_mode"),
    "detectLocal": {
        "bridgeInterface": (_text, "bridge_interface"),
        "interfaceNamePrefix": (_text, "interface_name_prefix"),
    },
    "clusterCIDR": (_cidrs, "cluster_cidrs"),
    "nodePortAddresses": (_texts, "node_port_addresses"),
    "oomScoreAdj": (_number, "oom_score_adj"),
    "conntrack": {
        "maxPerCore": (_number, "conntrack.max_per_core"),
        "min": (_number, "conntrack.min"),
        "tcpEstablishedTimeout": (_seconds, "conntrack.tcp_established_seconds"),
        "tcpCloseWaitTimeout": (_seconds, "conntrack.tcp_close_wait_seconds"),
        "tcpBeLiberal": (_switch, "conntrack.tcp_be_liberal"),
        "udpTimeout": (_seconds, "conntrack.udp_seconds"),
        "udpStreamTimeout": (_seconds, "conntrack.udp_stream_seconds"),
    },
    "configSyncPeriod": (_seconds, ""),
    "portRange": (_text, ""),
}

_OF_MODE = {"iptables": "iptables", "nftables": "nftables", "ipvs": "ipvs"}


def load(path: str, mode: str = "") -> ProxyConfiguration:
    """Read a configuration file; `mode`, if given, is the mode whose section counts. Raises SettingsError."""
    document = load_config(path, KIND, (API_VERSION,))
    mode = mode or document.get("mode") or "iptables"
    values: dict[str, Any] = {}
    _read(document, _SECTIONS, "", path, mode, values)
    return with_values(ProxyConfiguration(), values | {"mode": mode})


def with_values(configuration: ProxyConfiguration, values: Mapping[str, Any]) -> ProxyConfiguration:
    """The configuration with these values; a dotted name is a field of `conntrack` or `ipvs`."""
    plain = {name: value for name, value in values.items() if "." not in name}
    for section in ("conntrack", "ipvs"):
        own = {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{section}.")}
        plain[section] = replace(getattr(configuration, section), **own)
    return replace(configuration, **plain)


def _read(section: Any, known: Mapping[str, Any], path: str, file: str, mode: str, values: dict[str, Any]) -> None:
    if not isinstance(section, dict):
        raise SettingsError(f"{file}: {path or KIND}: must be a mapping")
    for name, value in section.items():
        where = f"{path}.{name}" if path else str(name)
        if name not in known:
            raise SettingsError(f'{file}: strict decoding error: unknown field "{where}"')
        if value is None:
            continue
        entry = known[name]
        if isinstance(entry, dict):
            kept = values if name not in _OF_MODE or name == mode or (name == "iptables" and mode == "ipvs") else {}
            _read(value, entry, where, file, mode, kept)
            continue
        reader, target = entry
        try:
            parsed = reader(value)
        except ValueError as error:
            raise SettingsError(f"{file}: {where}: Invalid value: {value!r}: {error}") from error
        if target and parsed != "":
            values[target] = parsed
