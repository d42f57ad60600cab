"""The kubelet's iptables chains in a kernel, in a network namespace of the test's own: made, and made again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from kubelet_host import own_network
from kubelet_node import eventually

from agent.command import run
from agent.kubelet.node.utilchains import LOOK_SECONDS, UtilChains
from machinery.testing.clock import FakeClock

FAMILIES = ("iptables", "ip6tables")
OWN = {"*mangle :KUBE-IPTABLES-HINT", *(f"*{table} :KUBE-KUBELET-CANARY" for table in ("mangle", "nat", "filter"))}
GUARD = {
    "*filter :KUBE-FIREWALL",
    "*filter -A INPUT -j KUBE-FIREWALL",
    "*filter -A OUTPUT -j KUBE-FIREWALL",
    "*filter -A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "
    '"block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP',
}
WANTED = {"iptables": sorted(OWN | GUARD), "ip6tables": sorted(OWN)}


async def held() -> dict[str, list[str]]:
    """What each family has that is not the kernel's own."""
    found: dict[str, list[str]] = {}
    for program in FAMILIES:
        table, lines = "", []
        for line in (await run(f"{program}-save", check=True)).text.splitlines():
            if line.startswith("*"):
                table = line
            elif line.startswith(("-A", ":")) and "ACCEPT [" not in line:
                lines.append(f"{table} {line.removesuffix(' - [0:0]')}")
        found[program] = sorted(lines)
    return found


@pytest.fixture
async def clock() -> AsyncIterator[FakeClock]:
    """The clock of a keeper of the chains that runs in a namespace of its own, where all is made already."""
    clock = FakeClock()
    with own_network():
        keeper = asyncio.create_task(UtilChains(clock).run())
        try:
            await after_a_look(clock)
            yield clock
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper


async def after_a_look(clock: FakeClock) -> None:
    async def all_there() -> bool:
        await clock.advance(LOOK_SECONDS)
        return await held() == WANTED

    await eventually(all_there, "all chains and rules, once each")


@pytest.mark.parametrize(
    "breakage",
    [
        "iptables -t mangle -F; iptables -t mangle -X; iptables -t nat -X; iptables -F; iptables -X",
        "ip6tables -t mangle -X; ip6tables -t nat -X; ip6tables -X",
        "nft flush ruleset",
        "iptables -t mangle -X KUBE-KUBELET-CANARY; iptables -D INPUT -j KUBE-FIREWALL; iptables -F KUBE-FIREWALL",
    ],
    ids=["flushed", "flushed IPv6", "all gone", "partly gone"],
)
async def test_what_somebody_flushes_is_made_again(clock: FakeClock, breakage: str) -> None:
    await run("sh", "-c", breakage)
    assert await held() != WANTED
    await after_a_look(clock)


async def test_rules_of_others_stay(clock: FakeClock) -> None:
    await run("iptables", "-I", "INPUT", "-s", "192.0.2.1/32", "-j", "DROP", check=True)
    for table in ("mangle", "nat", "filter"):
        await run("iptables", "-t", table, "-X", "KUBE-KUBELET-CANARY", check=True)

    async def repaired() -> bool:
        await clock.advance(LOOK_SECONDS)
        return (await run("iptables", "-t", "mangle", "-S", "KUBE-KUBELET-CANARY")).returncode == 0

    await eventually(repaired, "the canary")
    assert (await held())["iptables"] == sorted([*WANTED["iptables"], "*filter -A INPUT -s 192.0.2.1/32 -j DROP"])
