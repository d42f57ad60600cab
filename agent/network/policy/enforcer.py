"""The hand that makes the kernel's table as it is planned, by what differs."""

from __future__ import annotations

from agent.network.policy.rendering import HOOK, TABLE, Table
from agent.nft import command
from agent.nft.generation import ruleset_generation
from agent.nft.transaction import Transaction

_COMMENT = "NetworkPolicies of this node's pods"


class Enforcer:
    """One table of nftables. After an NftError the next `enforce` makes the table anew."""

    def __init__(self) -> None:
        self._applied: Table | None = None
        self._generation = -1
        self._begun = False

    async def enforce(self, wanted: Table | None) -> None:
        """Make this true; None is no table at all. Raises NftError."""
        if self._begun and self._applied is None and wanted is None:
            return
        tx = transaction(self._applied if self._begun else None, wanted)
        if not tx:
            return
        self._begun = False
        await command.apply(tx.text())
        self._applied, self._begun = wanted, True
        self._generation = ruleset_generation()

    def doubt(self) -> None:
        """Unless nobody has written any rules since, make the table anew next time."""
        if ruleset_generation() != self._generation:
            self._begun = False


def transaction(was: Table | None, now: Table | None) -> Transaction:
    """From one table to another; from None, whatever the kernel has of it."""
    tx = Transaction(TABLE, _COMMENT)
    if was is None or now is None:
        tx.delete_table_first()
        if now is None:
            return tx
        tx.add_table()
        was = Table()
    for name, declaration in sorted(now.sets.items()):
        if name not in was.sets:
            tx.add_set(name, declaration)
        before, after = was.elements.get(name, {}), now.elements[name]
        for key, rest in before.items():
            if after.get(key) != rest:
                tx.remove_element(name, key)
        for key, rest in after.items():
            if before.get(key) != rest:
                tx.add_element(name, key, rest)
    for chain, rules in sorted(now.chains.items()):
        if chain not in was.chains:
            tx.add_chain(chain, HOOK if chain == "forward" else "")
        if was.chains.get(chain) != rules:
            tx.set_rules(chain, rules)
    for chain in sorted(was.chains.keys() - now.chains.keys()):
        tx.delete_chain(chain)
    for name in sorted(was.sets.keys() - now.sets.keys()):
        tx.delete_set(name, was.sets[name])
    return tx


async def clean_up() -> None:
    """Take the table away. Raises NftError."""
    await command.apply(transaction(None, None).text())
