"""A configuration as the file that says the same: --write-config-to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ryaml

from agent.proxy.configuration import API_VERSION, HEALTHZ_PORT, KIND, METRICS_PORT, ProxyConfiguration
from machinery.errors import SettingsError
from machinery.settings import show_duration


def write(configuration: ProxyConfiguration, path: str) -> None:
    """Write the file. Raises SettingsError when that can't be."""
    try:
        Path(path).write_text(ryaml.dumps(document(configuration)))
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error


def document(given: ProxyConfiguration) -> dict[str, Any]:
    """The KubeProxyConfiguration, its fields in the order of their names."""
    conntrack, ipvs = given.conntrack, given.ipvs
    periods = {"minSyncPeriod": show_duration(given.min_sync_seconds), "syncPeriod": show_duration(given.sync_seconds)}
    rules = {"masqueradeAll": given.masquerade_all, "masqueradeBit": given.masquerade_bit, **periods}
    six = ":" in given.bind_address
    return {
        "apiVersion": API_VERSION,
        "bindAddress": given.bind_address,
        "bindAddressHardFail": given.bind_address_hard_fail,
        "clientConnection": {"burst": given.burst, "kubeconfig": given.kubeconfig},
        "clusterCIDR": ",".join(given.cluster_cidrs),
        "configSyncPeriod": show_duration(given.config_sync_seconds),
        "conntrack": {
            "maxPerCore": conntrack.max_per_core,
            "min": conntrack.min,
            "tcpBeLiberal": conntrack.tcp_be_liberal,
            "tcpCloseWaitTimeout": show_duration(conntrack.tcp_close_wait_seconds),
            "tcpEstablishedTimeout": show_duration(conntrack.tcp_established_seconds),
            "udpStreamTimeout": show_duration(conntrack.udp_stream_seconds),
            "udpTimeout": show_duration(conntrack.udp_seconds),
        },
        "detectLocal": {
            "bridgeInterface": given.bridge_interface,
            "interfaceNamePrefix": given.interface_name_prefix,
        },
        "detectLocalMode": given.detect_local_mode,
        "healthzBindAddress": given.healthz_bind_address or f"{'[::]' if six else '0.0.0.0'}:{HEALTHZ_PORT}",
        "hostnameOverride": given.hostname_override,
        "iptables": {"localhostNodePorts": given.localhost_node_ports, **rules},
        "ipvs": {
            "excludeCIDRs": list(ipvs.exclude_cidrs),
            **periods,
            "scheduler": ipvs.scheduler,
            "strictARP": ipvs.strict_arp,
            "tcpFinTimeout": show_duration(ipvs.tcp_fin_seconds),
            "tcpTimeout": show_duration(ipvs.tcp_seconds),
            "udpTimeout": show_duration(ipvs.udp_seconds),
        },
        "kind": KIND,
        "metricsBindAddress": given.metrics_bind_address or f"{'[::1]' if six else '127.0.0.1'}:{METRICS_PORT}",
        "mode": given.mode,
        "nftables": rules,
        "nodePortAddresses": list(given.node_port_addresses),
        "oomScoreAdj": given.oom_score_adj,
    }
