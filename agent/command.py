"""The only door through which a node's agents run other programs.

Output is read whole, so this is for short-lived tools (nft, mount, conntrack), not for daemons or streams.

What goes in and comes out lies in files in memory, and the program is started by vfork: a fork, as the event loop's own
subprocesses have it, copies the page tables of the agent, which costs more than all that nft does (decision 54).
Source: memfd_create(2), pidfd_open(2), vfork(2).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from dataclasses import dataclass
from io import FileIO

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
    with _memory("in") as given, _memory("out") as out, _memory("err") as err:
        if stdin is not None:
            given.write(stdin)
            given.seek(0)
        try:
            process = subprocess.Popen(  # noqa: ASYNC220 - vfork: back as soon as the program has begun
                argv, stdin=given, stdout=out, stderr=err, cwd=cwd, env=env
            )
        except FileNotFoundError as error:
            raise CommandError(f"{argv[0]}: no such program; is its package installed?") from error
        except OSError as error:
            raise CommandError(f"{argv[0]}: can't be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(timeout_seconds):
                status = await _end_of(process)
        except TimeoutError as error:
            await _kill(process)
            raise CommandError(f"{argv[0]}: still running after {timeout_seconds:g} s, killed") from error
        except BaseException:
            await _kill(process)
            raise
        stdout, stderr = _whole(out), _whole(err)
    result = CommandResult(status, stdout, stderr)
    if check and result.returncode != 0:
        said = stderr.decode(errors="replace").strip()[-_SHOWN_STDERR_CHARS:]
        how = f"exit status {result.returncode}" if result.returncode > 0 else f"killed by signal {-result.returncode}"
        raise CommandError(f"{argv[0]}: {how}: {said}" if said else f"{argv[0]}: {how}", result=result)
    return result


def _memory(name: str) -> FileIO:
    return FileIO(os.memfd_create(name), "w+")


def _whole(file: FileIO) -> bytes:
    file.seek(0)
    return file.readall()


async def _end_of(process: subprocess.Popen[bytes]) -> int:
    """Its exit status; negative: killed by that signal."""
    if process.poll() is not None:  # and so it can't be watched any more
        return process.returncode
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    watched = os.pidfd_open(process.pid)
    try:
        loop.add_reader(watched, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(watched)
        os.close(watched)
    return process.wait()


async def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    await _end_of(process)
