"""Giving scripts to `nft`. Source: nft(8)."""

from __future__ import annotations

from agent.command import CommandError, CommandResult, run
from agent.nft.errors import NftError

_TIMEOUT_SECONDS = 60
_SHOWN_CHARS = 600


async def apply(script: bytes) -> None:
    """Carry a script out as a whole, or not at all. Raises NftError."""
    result = await query("-f", "-", stdin=script)
    if result.returncode != 0:
        said = result.stderr.decode(errors="replace").strip()[:_SHOWN_CHARS]
        raise NftError(f"nft: {said or f'exit status {result.returncode}'}")


async def query(*arguments: str, stdin: bytes | None = None) -> CommandResult:
    """Run `nft`, whatever its exit status. Raises NftError when it can't be run."""
    try:
        return await run("nft", *arguments, stdin=stdin, timeout_seconds=_TIMEOUT_SECONDS)
    except CommandError as error:
        raise NftError(str(error)) from error
