"""The hand that gives transactions to `nft` and sees whether somebody else has been at the rules."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from agent.command import CommandError, CommandResult, run
from agent.proxy.errors import BackendError
from agent.proxy.model import PortRules, ServicePortName
from agent.proxy.nftables.generation import ruleset_generation
from agent.proxy.nftables.ruleset import Ruleset
from agent.proxy.nftables.skeleton import TABLE, nft_family
from agent.proxy.nftables.transaction import Transaction
from agent.proxy.settings import RuleSettings
from machinery.log import get_logger

log = get_logger(__name__)

_TIMEOUT_SECONDS = 60
_SHOWN_CHARS = 600


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
        result = await _nft("-f", "-", stdin=tx.text())
        if result.returncode != 0:
            self._generation = None
            raise BackendError(f"nft: {_first_error(result)}")
        after = ruleset_generation()
        # Only when nobody else's change came between is the table known to be as we left it.
        alone = self._generation in (None, before) and after == before + 1
        self._generation = after if alone else -1

    async def _existing(self) -> tuple[list[str], dict[str, str]]:
        result = await _nft("-j", "-t", "list", "table", self._family, TABLE)
        if result.returncode != 0:  # there is none
            return [], {}
        listed = orjson.loads(result.stdout)["nftables"]
        chains = [item["chain"]["name"] for item in listed if "chain" in item]
        sets = {item["set"]["name"]: "" for item in listed if "set" in item}
        sets |= {item["map"]["name"]: " : " for item in listed if "map" in item}
        return chains, sets


async def remove_table(family: str) -> None:
    """Remove our table of one family, if it is there. Raises BackendError."""
    result = await _nft("-f", "-", stdin=f"add table {family} {TABLE}\ndelete table {family} {TABLE}\n".encode())
    if result.returncode != 0:
        raise BackendError(f"nft: {_first_error(result)}")


async def _nft(*arguments: str, stdin: bytes | None = None) -> CommandResult:
    try:
        return await run("nft", *arguments, stdin=stdin, timeout_seconds=_TIMEOUT_SECONDS)
    except CommandError as error:
        raise BackendError(str(error)) from error


def _first_error(result: CommandResult) -> str:
    said = result.stderr.decode(errors="replace").strip()
    return said[:_SHOWN_CHARS] or f"exit status {result.returncode}"
