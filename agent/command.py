"""The only door through which a node's agents run other programs.

Output is read whole, so this is for short-lived tools (nft, mount, conntrack), not for daemons or streams.
"""

from __future__ import annotations

import asyncio
import asyncio.subprocess
import contextlib
from dataclasses import dataclass

from machinery.errors import NavarchError

_SHOWN_STDERR_CHARS = 2000


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a program ended and all that it wrote."""

    returncode: int  # negative: killed by that signal
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are replaced."""
        return self.stdout.decode(errors="replace")


class CommandError(NavarchError):
    """A program is missing, could not be started, took too long, or (with check) failed.

    `result` is None unless the program ended by itself.
    """

    def __init__(self, message: str, *, result: CommandResult | None = None) -> None:
        super().__init__(message)
        self.result = result


async def run(
    *argv: str,
    stdin: bytes | None = None,
    timeout_seconds: float = 30,
    check: bool = False,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
) -> CommandResult:
    """Run one program to its end and return what it wrote; no shell is involved.

    The program is killed when the timeout passes or the caller is cancelled. `env`, if given, is the whole
    environment. Never put secrets in `argv`: every user of the host can read it; use `stdin`.

    Raises CommandError when the program can't be started or takes too long and, with `check`, when it fails.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd,
            env=env,
        )
    except FileNotFoundError as error:
        raise CommandError(f"{argv[0]}: no such program; is its package installed?") from error
    except OSError as error:
        raise CommandError(f"{argv[0]}: can't be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(timeout_seconds):
            stdout, stderr = await process.communicate(stdin)
    except TimeoutError as error:
        await _kill(process)
        raise CommandError(f"{argv[0]}: still running after {timeout_seconds:g} s, killed") from error
    except BaseException:
        await _kill(process)
        raise
    assert process.returncode is not None
    result = CommandResult(process.returncode, stdout, stderr)
    if check and result.returncode != 0:
        said = stderr.decode(errors="replace").strip()[-_SHOWN_STDERR_CHARS:]
        how = f"exit status {result.returncode}" if result.returncode > 0 else f"killed by signal {-result.returncode}"
        raise CommandError(f"{argv[0]}: {how}: {said}" if said else f"{argv[0]}: {how}", result=result)
    return result


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
