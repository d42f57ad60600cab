"""The hand that gives transactions to `nft` and sees whether somebody else has been at the rules."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from agent.nft import command
from agent.nft.errors import NftError
from agent.nft.transaction import Transaction
from agent.proxy.errors import BackendError
from agent.proxy.generation import ruleset_generation
from agent.proxy.model import PortRules, ServicePortName
from agent.proxy.nftables.ruleset import Ruleset
from agent.proxy.nftables.skeleton import TABLE, nft_family
from agent.proxy.settings import RuleSettings
from machinery.log import get_logger

log = get_logger(__name__)


class NftablesBackend:
    """Keeps `table ip kube-proxy` (or ip6) as the PortRules say.

    After a BackendError from `change`, call `replace`: what this object believes of the table is then no longer true.
    """

    def __init__(self, settings: RuleSettings) -> None:
        self._family = nft_family(settings.family)
        self._ruleset = Ruleset(settings)
        self._generation: int | None = None

    def configure(self, settings: RuleSettings) -> None:
        """Use other settings from the next `replace` on."""
        self._ruleset.settings = settings

    async def change(self, changes: Mapping[ServicePortName, PortRules | None]) -> None:
        """Make these service ports as they are here (None: gone)."""
        tx = self._ruleset.change(changes)
        if tx:
            await self._apply(tx)

    async def replace(self, everything: Mapping[ServicePortName, PortRules]) -> None:
        """Make exactly these true, whatever the table holds."""
        self._generation = None
        chains, sets = await self._existing()
        try:
            await self._apply(self._ruleset.replace(everything, chains, sets))
        except BackendError as error:
            # Another version's table may have chains or sets of the same name and another type: those can't be changed.
            log.info("nftables table can't be updated in place, making it anew", family=self._family, reason=str(error))
            await self._apply(self._ruleset.recreate(everything))

    async def disturbed(self) -> bool:
        """Whether the kernel's rules have changed since our last transaction, by whomever."""
        return self._generation is None or ruleset_generation() != self._generation

    async def cleanup(self) -> None:
        """Remove the table."""
        await remove_table(self._family)

    async def _apply(self, tx: Transaction) -> None:
        before = ruleset_generation()
        try:
            await _nft(tx.text())
        except BackendError:
            self._generation = None
            raise
        after = ruleset_generation()
        # Only when nobody else's change came between is the table known to be as we left it.
        alone = self._generation in (None, before) and after == before + 1
        self._generation = after if alone else -1

    async def _existing(self) -> tuple[list[str], dict[str, str]]:
        try:
            result = await command.query("-j", "-t", "list", "table", self._family, TABLE)
        except NftError as error:
            raise BackendError(str(error)) from error
        if result.returncode != 0:  # there is none
            return [], {}
        listed = orjson.loads(result.stdout)["nftables"]
        chains = [item["chain"]["name"] for item in listed if "chain" in item]
        sets = {item["set"]["name"]: "" for item in listed if "set" in item}
        sets |= {item["map"]["name"]: " : " for item in listed if "map" in item}
        return chains, sets


async def remove_table(family: str) -> None:
    """Remove our table of one family, if it is there. Raises BackendError."""
    await _nft(f"add table {family} {TABLE}\ndelete table {family} {TABLE}\n".encode())


async def _nft(script: bytes) -> None:
    try:
        await command.apply(script)
    except NftError as error:
        raise BackendError(str(error)) from error
