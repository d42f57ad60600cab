"""What the tables should hold, and the `iptables-restore --noflush` input from one such state to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.proxy.iptables.rendering import Rendered, Shard, render
from agent.proxy.iptables.skeleton import JUMPS, ChainName, heads, jump_rule
from agent.proxy.model import PortRules, ServicePortName
from agent.proxy.settings import RuleSettings

TABLES = ("filter", "nat")  # in this order, so that nothing is let through that is not translated

# Chains that belong to us by their names, those of kube-proxy's versions before this one included.
OWN_PREFIXES = (
    "KUBE-SVC-",
    "KUBE-SVL-",
    "KUBE-EXT-",
    "KUBE-FW-",
    "KUBE-SEP-",
    "KUBE-XLB-",
    "KUBE-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-PROXY-FIREWALL",
    "KUBE-HAIRPIN",
    "KUBE-FORWARD",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
    "KUBE-FIREWALL",
    "KUBE-PROXY-CANARY",
)


class Ruleset:
    """The wanted content of one family's tables."""

    def __init__(self, settings: RuleSettings) -> None:
        self.settings = settings
        self._rules: dict[ServicePortName, PortRules] = {}
        self._shards: dict[Shard, dict[ServicePortName, list[str]]] = {}
        self._led: dict[ChainName, set[Shard]] = {}  # the shards that a parent has rules to

    def change(self, changes: Mapping[ServicePortName, PortRules | None]) -> bytes:
        """Take the changes in; returns the input that brings tables with the old content up to date, or b""."""
        written: dict[ChainName, tuple[str, ...]] = {}
        removed: set[ChainName] = set()
        touched: set[Shard] = set()
        for name, new in sorted(changes.items()):
            old = self._rules.get(name)
            if old == new:
                continue
            was = render(old, self.settings) if old else Rendered()
            now = render(new, self.settings) if new else Rendered()
            removed |= was.chains.keys() - now.chains.keys()
            written |= {chain: rules for chain, rules in now.chains.items() if was.chains.get(chain) != rules}
            for shard in was.entries.keys() | now.entries.keys():
                if was.entries.get(shard) != now.entries.get(shard):
                    touched.add(shard)
                    self._enter(shard, name, now.entries.get(shard))
            if new is None:
                self._rules.pop(name, None)
            else:
                self._rules[name] = new
        return self._text(written | self._write_shards(touched), removed - written.keys())

    def replace(
        self, everything: Mapping[ServicePortName, PortRules], chains: Iterable[ChainName], jumps: Iterable[ChainName]
    ) -> bytes:
        """Take `everything` as the whole content; returns the input that brings about exactly that.

        `chains` are those the tables hold at the moment, `jumps` the (source, as table and "SOURCE>TARGET") jumps that
        are in place.
        """
        self._rules = dict(everything)
        self._shards, self._led = {}, {}
        written: dict[ChainName, tuple[str, ...]] = {}
        for name, rules in sorted(everything.items()):
            made = render(rules, self.settings)
            written |= made.chains
            for shard, entries in made.entries.items():
                self._enter(shard, name, entries)
        written |= heads(self.settings)
        written |= self._write_shards(set(self._shards))
        present = set(jumps)
        inserted = [j for j in JUMPS if ChainName(j.table, f"{j.source}>{j.target}") not in present]
        extra = {table: [f"-I {j.source} 1 {jump_rule(j)}" for j in inserted if j.table == table] for table in TABLES}
        stale = {c for c in chains if c.chain.startswith(OWN_PREFIXES)} - written.keys()
        return self._text(written, stale, extra)

    def _enter(self, shard: Shard, name: ServicePortName, entries: list[str] | None) -> None:
        if entries is not None:
            self._shards.setdefault(shard, {})[name] = entries
        else:
            self._shards.get(shard, {}).pop(name, None)

    def _write_shards(self, touched: set[Shard]) -> dict[ChainName, tuple[str, ...]]:
        """The content of these shards, and of the chains that lead to them where those are new.

        An emptied shard stays, and so does what leads to it, until the next replace: it is likely to be used again.
        """
        written: dict[ChainName, tuple[str, ...]] = {}
        fixed: dict[ChainName, tuple[str, ...]] = {}
        for shard in touched:
            led = self._led.setdefault(shard.parent, set())
            if shard.suffix:
                written[shard.name] = self._content(shard)
            if not shard.suffix or shard not in led:
                led.add(shard)
                fixed = fixed or heads(self.settings)
                written[shard.parent] = fixed[shard.parent]
        for parent in [name for name in written if name in fixed]:
            shards = sorted(self._led[parent])
            leads = tuple(f"{s.match} -j {s.name.chain}" for s in shards if s.suffix)
            rare = tuple(rule for s in shards if not s.suffix for rule in self._content(s))
            written[parent] = (*leads, *rare, *fixed[parent])
        return written

    def _content(self, shard: Shard) -> tuple[str, ...]:
        return tuple(rule for _, entries in sorted(self._shards[shard].items()) for rule in entries)

    @staticmethod
    def _text(
        written: Mapping[ChainName, tuple[str, ...]],
        removed: Iterable[ChainName],
        extra: Mapping[str, list[str]] | None = None,
    ) -> bytes:
        gone = sorted(removed)
        lines: list[str] = []
        for table in TABLES:
            chains = sorted(name for name in written if name.table == table)
            unused = [name.chain for name in gone if name.table == table]
            jumps = (extra or {}).get(table, [])
            if not chains and not unused and not jumps:
                continue
            lines.append(f"*{table}")
            lines += [f":{name} - [0:0]" for name in sorted([*(c.chain for c in chains), *unused])]
            for chain in chains:
                lines += [f"-A {chain.chain} {rule}" for rule in written[chain]]
            lines += jumps
            lines += [f"-X {name}" for name in unused]
            lines.append("COMMIT")
        return "".join(line + "\n" for line in lines).encode()
