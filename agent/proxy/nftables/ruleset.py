"""What the table should hold, and the transaction from one such state to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.nft.transaction import Transaction
from agent.proxy.model import PortRules, ServicePortName
from agent.proxy.nftables.rendering import Balance, Element, Rendered, render
from agent.proxy.nftables.skeleton import TABLE, nft_family, skeleton
from agent.proxy.settings import RuleSettings

_Claim = tuple[ServicePortName, str]


class Ruleset:
    """The wanted content of one family's table.

    Two service ports may claim the same element (two Services with one external IP and port): the first by name has
    it, and the next gets it when the first lets go.
    """

    def __init__(self, settings: RuleSettings) -> None:
        self.settings = settings
        self._ip = nft_family(settings.family)
        self._rules: dict[ServicePortName, PortRules] = {}
        self._claims: dict[Element, tuple[_Claim, ...]] = {}
        self._shared: set[Balance] = set()

    def change(self, changes: Mapping[ServicePortName, PortRules | None]) -> Transaction:
        """Take the changes in, and return the transaction that brings a table with the old content up to date."""
        tx = Transaction(f"{self._ip} {TABLE}", "rules for kube-proxy")
        before: dict[Element, str | None] = {}
        for name, new in sorted(changes.items()):
            old = self._rules.get(name)
            if old == new:
                continue
            was = render(old, self.settings) if old else Rendered()
            now = render(new, self.settings) if new else Rendered()
            for element in was.elements.keys() - now.elements.keys():
                before.setdefault(element, self._effective(element))
                self._release(name, element)
            for element, rest in now.elements.items():
                if was.elements.get(element) != rest:
                    before.setdefault(element, self._effective(element))
                    self._claim(name, element, rest)
            self._change_own(was, now, tx)
            self._share(now.shared, tx)
            if new is None:
                self._rules.pop(name, None)
            else:
                self._rules[name] = new
        for element, value in before.items():
            wanted = self._effective(element)
            if value == wanted:
                continue
            if value is not None:
                tx.remove_element(*element)
            if wanted is not None:
                tx.add_element(*element, wanted)
        return tx

    def replace(
        self, everything: Mapping[ServicePortName, PortRules], chains: Iterable[str], sets: Mapping[str, str]
    ) -> Transaction:
        """Take `everything` as the whole content, and return the transaction that brings about exactly that.

        `chains` and `sets` (name -> something that tells a map from a set, as a declaration does) are what the table
        holds at the moment, or nothing.  What clients' affinity remembers is kept.
        """
        self._rules, self._claims, self._shared = {}, {}, set()
        frame = skeleton(self.settings)
        tx = Transaction(f"{self._ip} {TABLE}", "rules for kube-proxy")
        tx.add_table()
        tx.flush_all_chains()
        own_sets: dict[str, str] = {}
        own_chains: dict[str, tuple[str, ...]] = {}
        shared: set[Balance] = set()
        for name, rules in sorted(everything.items()):
            made = render(rules, self.settings)
            for element, rest in made.elements.items():
                self._claim(name, element, rest)
            own_sets |= made.sets
            own_chains |= made.chains
            shared |= made.shared
            self._rules[name] = rules
        for name_, declaration in frame.sets.items():
            tx.add_set(name_, declaration)
            tx.flush_set(name_, declaration)
        for chain in frame.chains:
            tx.add_chain(chain, frame.hooks.get(chain, ""))
        self._share(shared, tx, flush=True)
        for name_, declaration in sorted(own_sets.items()):
            tx.add_set(name_, declaration)
        for chain in sorted(own_chains):
            tx.add_chain(chain)
        for chain, lines in [*frame.chains.items(), *sorted(own_chains.items())]:
            tx.set_rules(chain, lines)
        for element, claims in self._claims.items():
            tx.add_element(*element, claims[0][1])
        kept_chains = {*frame.chains, *own_chains, *(b.chain for b in shared)}
        kept_sets = {*frame.sets, *own_sets, *(b.map for b in shared)}
        for chain in sorted(set(chains) - kept_chains):
            tx.delete_chain(chain)
        for name_ in sorted(sets.keys() - kept_sets):
            tx.flush_set(name_, sets[name_])
            tx.delete_set(name_, sets[name_])
        return tx

    def recreate(self, everything: Mapping[ServicePortName, PortRules]) -> Transaction:
        """As replace, but the table is made from nothing: for one whose chains or sets are of another kind than
        ours.
        """
        tx = self.replace(everything, (), {})
        tx.delete_table_first()
        return tx

    def _share(self, wanted: Iterable[Balance], tx: Transaction, *, flush: bool = False) -> None:
        """Declare the balancing maps and chains that are not there yet; they stay until the next replace."""
        for balance in sorted(set(wanted) - self._shared):
            declaration = balance.declaration(self._ip)
            tx.add_set(balance.map, declaration)
            if flush:
                tx.flush_set(balance.map, declaration)
            tx.add_chain(balance.chain)
            tx.set_rules(balance.chain, balance.rules(self._ip))
            self._shared.add(balance)

    @staticmethod
    def _change_own(was: Rendered, now: Rendered, tx: Transaction) -> None:
        for name, declaration in sorted(now.sets.items()):
            if name not in was.sets:
                tx.add_set(name, declaration)
            elif was.sets[name] != declaration:
                tx.replace_set(name, was.sets[name], declaration)
        replaced = any(name in now.sets and now.sets[name] != old for name, old in was.sets.items())
        for chain, lines in sorted(now.chains.items()):
            if chain not in was.chains:
                tx.add_chain(chain)
            if replaced or was.chains.get(chain) != lines:
                tx.set_rules(chain, lines)
        for chain in sorted(was.chains.keys() - now.chains.keys()):
            tx.delete_chain(chain)
        for name in sorted(was.sets.keys() - now.sets.keys()):
            tx.delete_set(name, was.sets[name])

    def _effective(self, element: Element) -> str | None:
        claims = self._claims.get(element)
        return claims[0][1] if claims else None

    def _claim(self, name: ServicePortName, element: Element, rest: str) -> None:
        claims = self._claims.get(element)
        if claims is None:
            self._claims[element] = ((name, rest),)
        else:
            others = [c for c in claims if c[0] != name]
            self._claims[element] = tuple(sorted([*others, (name, rest)]))

    def _release(self, name: ServicePortName, element: Element) -> None:
        left = tuple(c for c in self._claims.get(element, ()) if c[0] != name)
        if left:
            self._claims[element] = left
        else:
            self._claims.pop(element, None)
