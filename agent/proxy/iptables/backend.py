"""The hand that gives changes to `iptables-restore` and sees whether somebody else has been at the rules."""

from __future__ import annotations

from collections.abc import Mapping

from agent.command import CommandError, CommandResult, run
from agent.proxy.errors import BackendError
from agent.proxy.iptables import saved
from agent.proxy.iptables.ruleset import OWN_PREFIXES, TABLES, Ruleset
from agent.proxy.iptables.skeleton import JUMPS
from agent.proxy.model import Family, PortRules, ServicePortName
from agent.proxy.nftables.generation import ruleset_generation
from agent.proxy.settings import RuleSettings

_TIMEOUT_SECONDS = 120
_LOCK_SECONDS = "5"  # how long to wait for another user of iptables
_SHOWN_CHARS = 600


class IptablesBackend:
    """Keeps the KUBE-… chains of one family as the PortRules say; touches no chain of others but for our jumps."""

    def __init__(self, settings: RuleSettings) -> None:
        self._program = "iptables" if settings.family is Family.IPV4 else "ip6tables"
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
        await self._restore(self._ruleset.replace(everything, now.chains, now.jumps))

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
        try:
            await _checked(f"{self._program}-restore", "--noflush", "-w", _LOCK_SECONDS, stdin=text)
        except BackendError:
            self._state = None
            raise
        if not self._writes_nftables:
            self._state = saved.digest((await self._save()).stdout)
            return
        after = ruleset_generation()
        ours = text.count(b"\nCOMMIT\n")
        alone = self._state in (None, before) and after == before + ours
        self._state = after if alone else -1

    async def _save(self) -> CommandResult:
        return await _checked(f"{self._program}-save")


async def remove_chains(program: str) -> None:
    """Remove everything that this backend, or upstream's, ever makes, with `iptables` or `ip6tables`."""
    now = saved.parse((await _checked(f"{program}-save")).text)
    ours = {chain for chain in now.chains if chain.chain.startswith(OWN_PREFIXES)}
    targets = {jump.target for jump in JUMPS} & {chain.chain for chain in ours}
    lines = []
    for table in TABLES:
        chains = sorted(chain.chain for chain in ours if chain.table == table)
        if not chains:
            continue
        lines += [f"*{table}", *(f":{chain} - [0:0]" for chain in chains)]
        for chain, rule in now.rules:
            words = rule.split()
            if chain.table == table and "-j" in words and words[words.index("-j") + 1] in targets:
                lines.append(f"-D {chain.chain} {rule}")
        lines += [*(f"-X {chain}" for chain in chains), "COMMIT"]
    if lines:
        text = "".join(line + "\n" for line in lines).encode()
        await _checked(f"{program}-restore", "--noflush", "-w", _LOCK_SECONDS, stdin=text)


async def _checked(program: str, *arguments: str, stdin: bytes | None = None) -> CommandResult:
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
