"""How many rules of ours the tables hold, told without looking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from agent.proxy.iptables.rendering import Rendered
from agent.proxy.iptables.skeleton import ChainName


def rules_in(chains: Iterable[tuple[ChainName, tuple[str, ...]]]) -> Counter[str]:
    """Table -> the rules of these chains."""
    found = Counter[str]()
    for chain, rules in chains:
        found[chain.table] += len(rules)
    return found


def rules_of(rendered: Rendered) -> Counter[str]:
    """Table -> the rules that one service port contributes."""
    found = rules_in(rendered.chains.items())
    for shard, entries in rendered.entries.items():
        found[shard.parent.table] += len(entries)
    return found


def rules_written(text: bytes) -> Counter[str]:
    """Table -> the rules that an input of `iptables-restore` adds."""
    found = Counter[str]()
    table = ""
    for line in text.splitlines():
        if line.startswith(b"*"):
            table = line[1:].decode()
        elif line.startswith((b"-A ", b"-I ")):
            found[table] += 1
    return found
