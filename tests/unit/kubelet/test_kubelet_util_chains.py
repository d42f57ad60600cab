"""The kubelet's own iptables chains: what is given to iptables-restore, and where there is no iptables."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.kubelet import flags
from agent.kubelet.node.utilchains import GUARDED, IPV4, IPV6, UtilChains, restore_text
from machinery.testing.clock import FakeClock

BLOCK = (
    '-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" --dst 127.0.0.0/8 '
    "! --src 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
)
ALWAYS = [
    "*mangle",
    ":KUBE-KUBELET-CANARY - [0:0]",
    ":KUBE-IPTABLES-HINT - [0:0]",
    "COMMIT",
    "*nat",
    ":KUBE-KUBELET-CANARY - [0:0]",
    "COMMIT",
    "*filter",
    ":KUBE-KUBELET-CANARY - [0:0]",
]


@pytest.mark.parametrize(
    ("unguarded", "jumps"),
    [
        (GUARDED, ["-I OUTPUT 1 -j KUBE-FIREWALL", "-I INPUT 1 -j KUBE-FIREWALL"]),
        (("INPUT",), ["-I INPUT 1 -j KUBE-FIREWALL"]),
        ((), []),
    ],
    ids=["at first", "one jump is gone", "again"],
)
def test_ipv4_has_a_guard_of_the_loopback(unguarded: tuple[str, ...], jumps: list[str]) -> None:
    lines = restore_text(IPV4, unguarded).decode().splitlines()
    assert lines == [*ALWAYS, ":KUBE-FIREWALL - [0:0]", BLOCK, *jumps, "COMMIT"]


def test_ipv6_needs_none() -> None:
    assert restore_text(IPV6, GUARDED).decode().splitlines() == [*ALWAYS, "COMMIT"]


async def test_without_iptables_there_is_nothing_to_watch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    await UtilChains(FakeClock()).run()


@pytest.mark.parametrize(("flag", "wanted"), [([], True), (["--make-iptables-util-chains=false"], False)])
def test_they_can_be_done_without(flag: list[str], wanted: bool) -> None:
    assert flags.parse(flag).settings.make_util_chains is wanted
