"""What the tables should hold, and the `iptables-restore --noflush` input from one such state to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from agent.proxy.iptables.counting import rules_in, rules_of
from agent.proxy.iptables.rendering import Rendered, Shard, render
from agent.proxy.iptables.restore import restore_text, takeover_text
from agent.proxy.iptables.saved import Saved
from agent.proxy.iptables.skeleton import JUMPS, ChainName, heads
from agent.proxy.model import PortRules, ServicePortName
from agent.proxy.settings import RuleSettings


class Ruleset:
    """The wanted content of one family's tables."""

    def __init__(self, settings: RuleSettings) -> None:
        self.settings = settings
        self._rules: dict[ServicePortName, PortRules] = {}
        self._shards: dict[Shard, dict[ServicePortName, list[str]]] = {}
        self._led: dict[ChainName, set[Shard]] = {}  # the shards that a parent has rules to
        self.counts = Counter[str]()  # table -> rules of ours in it

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
            self.counts.subtract(rules_of(was))
            self.counts.update(rules_of(now))
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
        return restore_text(written | self._write_shards(touched), removed - written.keys())

    def replace(self, everything: Mapping[ServicePortName, PortRules], now: Saved) -> bytes:
        """Take `everything` as the whole content; returns the input that makes tables that hold `now` exactly that."""
        self._rules = dict(everything)
        self._shards, self._led = {}, {}
        self.counts = rules_in(heads(self.settings).items())
        written: dict[ChainName, tuple[str, ...]] = {}
        for name, rules in sorted(everything.items()):
            made = render(rules, self.settings)
            self.counts.update(rules_of(made))
            written |= made.chains
            for shard, entries in made.entries.items():
                self._enter(shard, name, entries)
        written |= heads(self.settings)
        written |= self._write_shards(set(self._shards))
        return takeover_text(written, now, JUMPS)

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
                self.counts[shard.parent.table] += int(bool(shard.suffix))
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
