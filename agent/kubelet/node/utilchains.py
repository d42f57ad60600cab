"""The kubelet's own chains of iptables: a hint for others, and a guard of the loopback's addresses.

KUBE-IPTABLES-HINT tells programs in pods which of iptables' two variants this machine uses. KUBE-FIREWALL drops what
comes from elsewhere to 127.0.0.0/8, which the kernel lets through where route_localnet is set (CVE-2020-8558); IPv6 has
no such setting. KUBE-KUBELET-CANARY is empty: where it is gone, somebody has flushed the tables.

Source: KEP-3178; KubeletConfiguration's makeIPTablesUtilChains; iptables(8), iptables-extensions(8).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from agent.command import CommandError, run
from machinery.clock import Clock
from machinery.log import get_logger

log = get_logger(__name__)

HINT, CANARY, FIREWALL = "KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY", "KUBE-FIREWALL"
GUARDED = ("OUTPUT", "INPUT")
TABLES = ("mangle", "nat", "filter")
LOOK_SECONDS = 60.0
IPV4, IPV6 = "iptables", "ip6tables"

_BLOCK = (
    '-m comment --comment "block incoming localnet connections" --dst 127.0.0.0/8 ! --src 127.0.0.0/8 '
    "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
)
_WAIT = ("-w", "5")  # seconds, for another user of iptables
_BUSY = 4  # the exit status where the kernel or the lock had no room for us
_FLUSH_LOOKS, _FLUSH_SECONDS = 50, 0.1  # a flush goes table by table: how long the others may take


def restore_text(program: str, unguarded: Iterable[str]) -> bytes:
    """The input of `iptables-restore --noflush` that makes all of it; `unguarded` chains get their jump.

    Only chains of the kubelet's own are emptied by it.
    """
    lines: list[str] = []
    for table in TABLES:
        lines += [f"*{table}", f":{CANARY} - [0:0]"]
        if table == "mangle":
            lines.append(f":{HINT} - [0:0]")
        if table == "filter" and program == IPV4:
            lines += [f":{FIREWALL} - [0:0]", f"-A {FIREWALL} {_BLOCK}"]
            lines += [f"-I {chain} 1 -j {FIREWALL}" for chain in unguarded]
        lines.append("COMMIT")
    return "".join(line + "\n" for line in lines).encode()


class UtilChains:
    """Makes the chains of each IP family that iptables knows here, and makes them again when they are gone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def run(self) -> None:
        """Never ends where there is something to watch; what can't be done is logged."""
        programs = [program for program in (IPV4, IPV6) if await _is_present(program)]
        if not programs:
            log.info(f"No iptables support on this system; not creating the {HINT} chain")
        async with asyncio.TaskGroup() as group:
            for program in programs:
                group.create_task(self._keep(program), name=f"chains of {program}")

    async def _keep(self, program: str) -> None:
        if not await _make(program):
            log.info("Failed to initialize iptables rules; some functionality may be missing.", program=program)
            return
        log.info("Initialized iptables rules.", program=program)
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            if await _may_exist(program, TABLES[0]):
                continue
            await self._flushed(program)
            log.info("Reloading after iptables flush", program=program)
            await _make(program)  # its canaries come with the rules: what failed is seen at the next look

    async def _flushed(self, program: str) -> None:
        """Wait until a flush that has begun is through."""
        for _ in range(_FLUSH_LOOKS):
            if not any([await _may_exist(program, table) for table in TABLES[1:]]):
                return
            await self._clock.sleep(_FLUSH_SECONDS)
        log.info("Inconsistent iptables state detected", program=program)


async def _is_present(program: str) -> bool:
    try:
        return (await run(program, *_WAIT, "-t", "nat", "-S", "POSTROUTING")).returncode == 0
    except CommandError:
        return False


async def _may_exist(program: str, table: str) -> bool:
    """Whether the canary is there, for all that can be known now."""
    try:
        result = await run(program, *_WAIT, "-t", table, "-S", CANARY)
    except CommandError as error:
        log.error("Could not check for iptables canary", table=table, error=error)
        return True
    return result.returncode in (0, _BUSY)


async def _make(program: str) -> bool:
    try:
        missing = [chain for chain in GUARDED if await _is_unguarded(program, chain)] if program == IPV4 else []
        await run(f"{program}-restore", "--noflush", *_WAIT, stdin=restore_text(program, missing), check=True)
    except CommandError as error:
        log.error("Failed to ensure that the kubelet's iptables chains exist", error=error)
        return False
    return True


async def _is_unguarded(program: str, chain: str) -> bool:
    result = await run(program, *_WAIT, "-t", "filter", "-C", chain, "-j", FIREWALL)
    if result.returncode == _BUSY:
        raise CommandError(f"{program}: {result.stderr.decode(errors='replace').strip()}", result=result)
    return result.returncode != 0
