"""Making this host a router for its pods, and letting netfilter see what only crosses their bridge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.network.errors import NetworkError
from machinery.log import get_logger

log = get_logger(__name__)

_SYSCTLS = Path("/proc/sys/net")
_FORWARD = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
_BRIDGE = {4: "bridge/bridge-nf-call-iptables", 6: "bridge/bridge-nf-call-ip6tables"}


def enable(pod_ranges: Sequence[str]) -> None:
    """Turn on what pods of these ranges need. Raises NetworkError when forwarding can't be turned on."""
    for version in sorted({6 if ":" in r else 4 for r in pod_ranges}):
        try:
            _turn_on(_FORWARD[version])
        except OSError as error:
            raise NetworkError(f"net/{_FORWARD[version]} can't be set: {error.strerror}") from error
        try:
            # Without it, the answer of a pod to a neighbour that called it through a Service is not translated back.
            _turn_on(_BRIDGE[version])
        except OSError as error:
            _warn_once(_BRIDGE[version], str(error.strerror))


def _turn_on(name: str) -> None:
    file = _SYSCTLS / name
    if file.read_text().strip() != "1":
        file.write_text("1\n")
        log.info("set sysctl", name=f"net/{name}", value=1)


_warned: set[str] = set()


def _warn_once(name: str, reason: str) -> None:
    if name not in _warned:
        _warned.add(name)
        log.warning(
            "Services between pods of one node may not work: is br_netfilter there?",
            sysctl=f"net/{name}",
            reason=reason,
        )
