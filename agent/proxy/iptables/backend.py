"""The hand that gives changes to `iptables-restore` and sees whether somebody else has been at the rules."""

from __future__ import annotations

from collections.abc import Mapping

from agent.command import CommandError, CommandResult, run
from agent.proxy import metrics
from agent.proxy.errors import BackendError
from agent.proxy.generation import ruleset_generation
from agent.proxy.iptables import saved
from agent.proxy.iptables.counting import rules_written
from agent.proxy.iptables.restore import TABLES, takeover_text
from agent.proxy.iptables.ruleset import Ruleset
from agent.proxy.model import Family, PortRules, ServicePortName
from agent.proxy.settings import RuleSettings

_TIMEOUT_SECONDS = 120
LOCK_SECONDS = "5"  # how long to wait for another user of iptables
_SHOWN_CHARS = 600


class IptablesBackend:
    """Keeps the KUBE-… chains of one family as the PortRules say; touches no chain of others but for our jumps."""

    def __init__(self, settings: RuleSettings) -> None:
        self._program = "iptables" if settings.family is Family.IPV4 else "ip6tables"
        self._family = settings.family.api_name
        self._ruleset = Ruleset(settings)
        self._writes_nftables: bool | None = None
        self._state: int | bytes | None = None

    def configure(self, settings: RuleSettings) -> None:
        """Use other settings from the next `replace` on."""
        self._ruleset.settings = settings

    async def change(self, changes: Mapping[ServicePortName, PortRules | None]) -> None:
        """Make these service ports as they are here (None: gone)."""
        text = self._ruleset.change(changes)
        if text:
            await self._restore(text)
            if not self._writes_nftables:  # looking at everything after every change would cost more than the change
                self._state = None

    async def replace(self, everything: Mapping[ServicePortName, PortRules]) -> None:
        """Make exactly these true, whatever the tables hold."""
        self._state = None
        now = saved.parse((await self._save()).text)
        await self._restore(self._ruleset.replace(everything, now))

    async def disturbed(self) -> bool:
        """Whether the rules may have changed since our last call, by whomever."""
        if self._state is None:
            return True
        if isinstance(self._state, int):
            return self._state != ruleset_generation()
        return self._state != saved.digest((await self._save()).stdout)

    async def cleanup(self) -> None:
        """Remove our chains and the jumps to them."""
        await remove_chains(self._program)

    async def _restore(self, text: bytes) -> None:
        if self._writes_nftables is None:
            version = await _run(self._program, "--version")
            self._writes_nftables = b"nf_tables" in version.stdout
        before = ruleset_generation() if self._writes_nftables else 0
        written = rules_written(text)
        try:
            await checked(f"{self._program}-restore", "--noflush", "-w", LOCK_SECONDS, stdin=text)
        except BackendError:
            self._state = None
            raise
        for table in TABLES:
            metrics.IPTABLES_RULES.labels(self._family, table).set(self._ruleset.counts[table])
            metrics.IPTABLES_RULES_WRITTEN.labels(self._family, table).set(written[table])
        if not self._writes_nftables:
            self._state = saved.digest((await self._save()).stdout)
            return
        after = ruleset_generation()
        ours = text.count(b"\nCOMMIT\n")
        alone = self._state in (None, before) and after == before + ours
        self._state = after if alone else -1

    async def _save(self) -> CommandResult:
        return await checked(f"{self._program}-save")


async def remove_chains(program: str) -> None:
    """Remove everything that this backend, or upstream's, ever makes, with `iptables` or `ip6tables`."""
    now = saved.parse((await checked(f"{program}-save")).text)
    text = takeover_text({}, now, ())
    if text:
        await checked(f"{program}-restore", "--noflush", "-w", LOCK_SECONDS, stdin=text)


async def checked(program: str, *arguments: str, stdin: bytes | None = None) -> CommandResult:
    """Run a tool that must succeed. Raises BackendError with what it says."""
    result = await _run(program, *arguments, stdin=stdin)
    if result.returncode != 0:
        said = result.stderr.decode(errors="replace").strip()[:_SHOWN_CHARS]
        raise BackendError(f"{program}: {said or f'exit status {result.returncode}'}")
    return result


async def _run(program: str, *arguments: str, stdin: bytes | None = None) -> CommandResult:
    try:
        return await run(program, *arguments, stdin=stdin, timeout_seconds=_TIMEOUT_SECONDS)
    except CommandError as error:
        raise BackendError(str(error)) from error
