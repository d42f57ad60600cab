"""The manager's flags: cloud-controller-manager's own names, defaults and meanings.

Source: k8s.io/cloud-provider/options; https://kubernetes.io/docs/reference/command-line-tools-reference/.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from machinery import component, servingguard
from machinery.errors import SettingsError
from machinery.settings import Flag, FlagSet, boolean, duration, strings

PROGRAM = "cloud-controller-manager"


def _count(text: str) -> int:
    number = int(text)
    if number <= 0:
        raise ValueError("must be greater than 0")
    return number


def _networks(text: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(part) for part in strings(text)]


_FLAGS = [
    *component.CLIENT_FLAGS,
    *component.SERVING_FLAGS,
    *servingguard.FLAGS,
    *component.LEADER_FLAGS,
    *component.LOG_FLAGS,
    Flag("controllers", strings, ["*"], "controllers to run: '*' all that are on by default, 'foo' on, '-foo' off"),
    Flag("cloud-provider", str, "", "the provider of cloud services; cannot be empty"),
    Flag("cloud-config", str, "", "path to the cloud provider's configuration file"),
    Flag("secure-port", int, 10258, "port to serve health and metrics on; 0: do not serve"),
    Flag("concurrent-node-syncs", _count, 1, "nodes worked on at the same time"),
    Flag("concurrent-node-status-updates", int, 0, "nodes whose addresses are looked at at the same time; 0: as above"),
    Flag("concurrent-service-syncs", _count, 1, "services worked on at the same time"),
    Flag("allocate-node-cidrs", boolean, False, "nodes have pod networks that the cloud is to route"),
    Flag("configure-cloud-routes", boolean, True, "route nodes' pod networks, if they are allocated"),
    Flag("cluster-cidr", _networks, [], "the pods' network, one each IP family"),
    Flag("cluster-name", str, "kubernetes", "prefix of the cluster's instances"),
    Flag("node-monitor-period", duration, 5.0, "how often the machines of silent nodes are looked for"),
    Flag("node-status-update-frequency", duration, 300.0, "how often nodes' addresses are looked at again"),
    Flag("route-reconciliation-period", duration, 10.0, "how often routes are compared"),
    Flag("use-service-account-credentials", boolean, False, "act as one ServiceAccount for each controller"),
]

_HARMLESS = (
    *component.HARMLESS,
    "allow-untagged-cloud",
    "cidr-allocator-type",
    "controller-start-interval",
    "enable-leader-migration",
    "leader-migration-config",
    "min-resync-period",
    "node-sync-period",
    "tls-curve-preferences",
)


def parse(arguments: Sequence[str]) -> dict[str, Any]:
    """Values by flag name. Raises SettingsError that names the flag and says what to do."""
    values = FlagSet(PROGRAM, _FLAGS, _HARMLESS).parse(arguments)
    if not values["cloud-provider"]:
        raise SettingsError("--cloud-provider cannot be empty")
    return values
