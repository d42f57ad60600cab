"""KubeProxyConfiguration and kube-proxy's flags, read into one value.

Source: kube-proxy configuration v1alpha1; `kube-proxy --help` of v1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.proxy.settings import DetectLocalMode
from agent.proxy.validation import MODES, errors_of
from machinery.addresses import is_address
from machinery.errors import SettingsError
from machinery.settings import duration, load_config

KIND = "KubeProxyConfiguration"
API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"

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
    serves_healthz: bool = True
    serves_metrics: bool = True
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
    config_sync_seconds: float = 900  # checked, and without effect: changes come by watches
    burst: int = 10  # checked, and without effect: the API server's fairness limits clients
    conntrack: Conntrack = field(default_factory=Conntrack)
    ipvs: Ipvs = field(default_factory=Ipvs)

    def validated(self) -> ProxyConfiguration:
        """Itself. Raises SettingsError that names every field with which something is wrong."""
        found = list(dict.fromkeys(str(error) for error in errors_of(self)))
        if found:
            raise SettingsError(f"failed validate: {found[0] if len(found) == 1 else '[' + ', '.join(found) + ']'}")
        return self


def host_port(text: str, default_port: int) -> tuple[str, int]:
    """`1.2.3.4:80`, `[::]:80` or an address alone as (address, port)."""
    host, colon, port = text.rpartition(":")
    if not colon or is_address(text):
        host, port = text, str(default_port)
    return host.removeprefix("[").removesuffix("]"), int(port)


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


def _number_or_default(value: Any) -> int | str:
    return _number(value) or ""


def _seconds_or_default(value: Any) -> float | str:
    return _seconds(value) or ""


def _anything(value: Any) -> None:
    """A field without effect here."""


_RULES = {
    "masqueradeBit": (_number, "masquerade_bit"),
    "masqueradeAll": (_switch, "masquerade_all"),
    "syncPeriod": (_seconds_or_default, "sync_seconds"),
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
        "burst": (_number_or_default, "burst"),
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
        "syncPeriod": (_seconds_or_default, "sync_seconds"),
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
    "configSyncPeriod": (_seconds_or_default, "config_sync_seconds"),
    "portRange": (_text, ""),
}


def load(path: str) -> tuple[ProxyConfiguration, list[str]]:
    """What a configuration file says, and which of its fields are not known: they count for nothing, as upstream.

    Raises SettingsError.
    """
    document = load_config(path, KIND, (API_VERSION,))
    mode = document.get("mode") or "iptables"
    reading = _Reading(path, mode)
    reading.read(document, _SECTIONS, "", reading.values)
    return with_values(ProxyConfiguration(), reading.values | {"mode": mode}), reading.unknown


def with_values(configuration: ProxyConfiguration, values: Mapping[str, Any]) -> ProxyConfiguration:
    """The configuration with these values; a dotted name is a field of `conntrack` or `ipvs`."""
    plain = {name: value for name, value in values.items() if "." not in name}
    for section in ("conntrack", "ipvs"):
        own = {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{section}.")}
        plain[section] = replace(getattr(configuration, section), **own)
    return replace(configuration, **plain)


@dataclass
class _Reading:
    """One pass over a file."""

    file: str
    mode: str  # whose section counts
    values: dict[str, Any] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def read(self, section: Any, known: Mapping[str, Any], path: str, values: dict[str, Any]) -> None:
        if not isinstance(section, dict):
            raise SettingsError(f"{self.file}: {path or KIND}: must be a mapping")
        for name, value in section.items():
            where = f"{path}.{name}" if path else str(name)
            if name not in known:
                self.unknown.append(where)
                continue
            if value is None:
                continue
            entry = known[name]
            if isinstance(entry, dict):
                self.read(value, entry, where, values if self._counts(name) else {})
                continue
            reader, target = entry
            try:
                parsed = reader(value)
            except ValueError as error:
                raise SettingsError(f"{self.file}: {where}: Invalid value: {value!r}: {error}") from error
            if target and parsed != "":
                values[target] = parsed

    def _counts(self, section: str) -> bool:
        return section not in MODES or section == self.mode or (section, self.mode) == ("iptables", "ipvs")
