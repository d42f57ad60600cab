"""The proxy modes: which backend each has, what it needs, and how its rules are removed.

IPVS's modules are imported where they are used: pyroute2 takes 0.1 s and 10 MiB, and the other modes do without.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from agent.command import CommandError, run
from agent.proxy import kernel, metrics
from agent.proxy.errors import BackendError
from agent.proxy.generation import ruleset_generation
from agent.proxy.iptables.backend import IptablesBackend, remove_chains
from agent.proxy.model import Backend, Family
from agent.proxy.nftables.backend import NftablesBackend, remove_table
from agent.proxy.settings import RuleSettings
from machinery.errors import SettingsError
from machinery.log import get_logger

log = get_logger(__name__)

_PROGRAMS = {
    "iptables": ("iptables-restore",),
    "nftables": ("nft",),
    "ipvs": ("iptables-restore", "ipset"),
}
_OLDEST_NFT = (1, 0, 1)  # the first that upstream's mode accepts; maps of concatenations are older


def _ipvs_backend(settings: RuleSettings) -> Backend:
    from agent.proxy.ipvs.backend import IpvsBackend

    return IpvsBackend(settings)


_BACKENDS: dict[str, Callable[[RuleSettings], Backend]] = {
    "iptables": IptablesBackend,
    "nftables": NftablesBackend,
    "ipvs": _ipvs_backend,
}


def make_backend(mode: str, settings: RuleSettings) -> Backend:
    """The backend of a mode for one family."""
    return _BACKENDS[mode](settings)


def others(mode: str) -> tuple[str, ...]:
    """The modes whose rules must go when this one has its own: IPVS's have taken the place of iptables' already."""
    return tuple(other for other in _BACKENDS if other != mode and (mode, other) != ("ipvs", "iptables"))


def failures_of(mode: str) -> metrics.SyncFailures:
    """The counters of a mode's failed syncs."""
    return metrics.NFTABLES_SYNC_FAILURES if mode == "nftables" else metrics.IPTABLES_SYNC_FAILURES


async def require(mode: str) -> None:
    """See that this machine can do what the mode needs. Raises SettingsError that says what is missing."""
    said = ""
    for program in _PROGRAMS[mode]:
        try:
            said = (await run(program, "--version")).text.strip()
        except CommandError as error:
            raise SettingsError(f"proxy mode {mode}: {error}") from error
    if mode == "ipvs":
        await _require_ipvs()
    if mode == "nftables":
        found = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
        if found is None or tuple(int(part) for part in found.groups()) < _OLDEST_NFT:
            oldest = ".".join(str(part) for part in _OLDEST_NFT)
            raise SettingsError(f"proxy mode nftables: needs nft {oldest} or newer, found {said!r}")
        try:
            ruleset_generation()
        except BackendError as error:
            raise SettingsError(f"proxy mode nftables: {error}") from error


async def _require_ipvs() -> None:
    from agent.proxy.ipvs import ipset
    from agent.proxy.ipvs.kernel import IpvsKernel

    try:
        async with IpvsKernel(Family.IPV4) as servers:
            await servers.services()
        await ipset.present(Family.IPV4)
    except BackendError as error:
        raise SettingsError(f"proxy mode ipvs: {error}; does this kernel have ip_vs and ip_set?") from error


async def clean_up(modes: Iterable[str]) -> bool:
    """Remove all rules of these modes, of both families; False if something could not be removed."""
    well = True
    for mode in modes:
        for family in Family:
            try:
                await _clean_up(mode, family)
            except BackendError as error:
                if "no such program" in str(error):
                    continue  # where the tool is missing, it has left nothing behind
                log.error("rules could not be removed", mode=mode, family=family.api_name, error=error)
                well = False
    return well


async def _clean_up(mode: str, family: Family) -> None:
    if mode == "nftables":
        await remove_table("ip" if family is Family.IPV4 else "ip6")
    elif mode == "iptables":
        await remove_chains("iptables" if family is Family.IPV4 else "ip6tables")
    elif mode == "ipvs" and kernel.has_ipvs():
        from agent.proxy.ipvs import backend

        await backend.clean_up(family)
