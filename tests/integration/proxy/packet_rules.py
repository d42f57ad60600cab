"""Rules that the packet suite asks its backends to make true."""

from __future__ import annotations

import os
from dataclasses import replace

from proxy_hosts import NODE_IP, POD_RANGE, PODS, PORT, SERVICE_RANGE

from agent.proxy.model import Endpoint, Family, PortRules, Protocol4, ServicePortName
from agent.proxy.settings import LocalDetector, RuleSettings

MODES = os.environ.get("NAVARCH_PROXY_MODES", "nftables,iptables").split(",")
IP = "10.96.0.10"
HERE = ("pod1", "pod2", "pod3")
SILENCE_SECONDS = 0.3


def settings(mode: str, **changes: object) -> RuleSettings:
    base = RuleSettings(
        Family.IPV4,
        local=LocalDetector("ClusterCIDR", POD_RANGE),
        node_port_ranges=(f"{NODE_IP}/32",) if mode == "nftables" else None,
        localhost_node_ports=mode == "iptables",
        service_ranges=(SERVICE_RANGE,),
        node_ips=(NODE_IP,),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def to(*pods: str) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(PODS[pod], PORT) for pod in sorted(pods, key=lambda p: PODS[p]))


def service(name: str = "web", *, protocol: Protocol4 = "tcp", ip: str = IP, pods: tuple[str, ...] = HERE) -> PortRules:
    return PortRules(
        ServicePortName("default", name, "http", protocol),
        port=80,
        cluster_ip=ip,
        cluster=to(*pods),
        hairpin_ips=tuple(PODS[pod] for pod in pods if pod in HERE),
        serving_ips=frozenset(PODS[pod] for pod in pods if protocol == "udp"),
    )


def everything(*rules: PortRules) -> dict[ServicePortName, PortRules]:
    return {each.name: each for each in rules}
