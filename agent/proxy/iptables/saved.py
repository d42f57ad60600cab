"""Reading `iptables-save`: which chains and jumps are there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from agent.proxy.iptables.skeleton import ChainName


@dataclass(frozen=True, slots=True)
class Saved:
    """What the tables hold."""

    chains: tuple[ChainName, ...]
    rules: tuple[tuple[ChainName, str], ...]  # of the kernel's own chains alone, as saved, without `-A CHAIN`

    @property
    def targets(self) -> list[str]:
        """What each of the rules leads to; "" if it leads nowhere."""
        found = []
        for _, rule in self.rules:
            words = rule.split()
            found.append(words[words.index("-j") + 1] if "-j" in words else "")
        return found

    @property
    def jumps(self) -> list[ChainName]:
        """Each jump from one of the kernel's own chains, as (table, "SOURCE>TARGET")."""
        pairs = zip(self.rules, self.targets, strict=True)
        return [ChainName(chain.table, f"{chain.chain}>{target}") for (chain, _), target in pairs if target]


def parse(text: str) -> Saved:
    """The chains and the kernel's own chains' rules of iptables-save's output."""
    chains: list[ChainName] = []
    rules: list[tuple[ChainName, str]] = []
    built_in: set[ChainName] = set()
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            chains.append(ChainName(table, name))
            if policy != "-":
                built_in.add(chains[-1])
        elif line.startswith("-A "):
            _, name, rule = line.split(" ", 2)
            if ChainName(table, name) in built_in:
                rules.append((ChainName(table, name), rule))
    return Saved(tuple(chains), tuple(rules))


def digest(text: bytes) -> bytes:
    """A digest of iptables-save's output that does not change with the counters and the time."""
    lines = [line.split(b" [")[0] for line in text.splitlines() if not line.startswith(b"#")]
    return hashlib.sha256(b"\n".join(lines)).digest()
