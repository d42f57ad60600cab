"""Kernel settings that proxying needs. What can't be set is logged: rules are more useful than an exit.

Source: Documentation/networking/ip-sysctl and nf_conntrack-sysctl; kube-proxy's conntrack settings.
"""

from __future__ import annotations

import os
from pathlib import Path

from agent.proxy.configuration import Conntrack
from machinery.log import get_logger

log = get_logger(__name__)

_SYSCTLS = Path("/proc/sys/net")
_CONNTRACK = "netfilter/nf_conntrack"


def conntrack_sysctls(wanted: Conntrack, cores: int) -> dict[str, int]:
    """Setting -> value for connection tracking; the maximum is only ever raised."""
    found: dict[str, int] = {}
    if wanted.max_per_core > 0:
        found[f"{_CONNTRACK}_max"] = max(wanted.min, wanted.max_per_core * cores)
    for name, seconds in (
        ("tcp_timeout_established", wanted.tcp_established_seconds),
        ("tcp_timeout_close_wait", wanted.tcp_close_wait_seconds),
        ("udp_timeout", wanted.udp_seconds),
        ("udp_timeout_stream", wanted.udp_stream_seconds),
    ):
        if seconds > 0:
            found[f"{_CONNTRACK}_{name}"] = int(seconds)
    if wanted.tcp_be_liberal:
        found[f"{_CONNTRACK}_tcp_be_liberal"] = 1
    return found


def apply_conntrack(wanted: Conntrack, cores: int) -> None:
    """Set connection tracking up."""
    for name, value in conntrack_sysctls(wanted, cores).items():
        current = read(name)
        if current is None or current == value or (name.endswith("_max") and current >= value):
            continue
        write(name, value)


def read(name: str) -> int | None:
    """The number a setting below /proc/sys/net has, or None."""
    try:
        return int((_SYSCTLS / name).read_text())
    except (OSError, ValueError):
        return None


def write(name: str, value: int) -> None:
    """Set a setting below /proc/sys/net, if it is not so already."""
    if read(name) == value:
        return
    try:
        (_SYSCTLS / name).write_text(f"{value}\n")
        log.info("set sysctl", name=f"net/{name}", value=value)
    except OSError as error:
        log.warning("sysctl can't be set", name=f"net/{name}", value=value, reason=error.strerror)


def set_oom_score_adjustment(value: int) -> None:
    """Tell the kernel how much this process may be missed when memory runs out."""
    try:
        Path("/proc/self/oom_score_adj").write_text(f"{value}\n")
    except OSError as error:
        log.warning("oom_score_adj can't be set", value=value, reason=error.strerror)


def has_ipv6() -> bool:
    """Whether this network namespace speaks IPv6."""
    return os.path.exists("/proc/net/if_inet6")


def has_ipvs() -> bool:
    """Whether this kernel has IPVS now: where its module is not loaded, there is nothing of it."""
    return os.path.exists("/proc/thread-self/net/ip_vs")


async def addresses() -> list[str]:
    """All of this network namespace's addresses, of both families."""
    from pyroute2 import AsyncIPRoute  # takes 0.1 s and 10 MiB, and few ask

    async with AsyncIPRoute() as route:
        found = [message async for message in await route.addr("dump")]
    # IFA_LOCAL is missing where it is the same as IFA_ADDRESS: everywhere but on links from point to point.
    return [str(each.get("IFA_LOCAL") or each.get("IFA_ADDRESS")) for each in found]
