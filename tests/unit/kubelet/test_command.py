"""agent.command: the one door to other programs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agent.command import CommandError, run


async def test_output_input_and_status_come_back() -> None:
    result = await run("/bin/sh", "-c", "cat; echo oops >&2; exit 3", stdin=b"hello")
    assert (result.returncode, result.stdout, result.stderr) == (3, b"hello", b"oops\n")


async def test_check_raises_with_what_the_program_said() -> None:
    with pytest.raises(CommandError, match=r"/bin/sh: exit status 4: no good") as caught:
        await run("/bin/sh", "-c", "echo no good >&2; exit 4", check=True)
    assert caught.value.result is not None
    assert caught.value.result.returncode == 4


async def test_missing_program_is_named() -> None:
    with pytest.raises(CommandError, match=r"nv-no-such-program: no such program"):
        await run("nv-no-such-program")


async def test_what_is_no_program_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a program")
    with pytest.raises(CommandError, match=r"/text: can't be started: Permission denied"):
        await run(str(tmp_path / "text"))


async def test_slow_program_is_killed() -> None:
    with pytest.raises(CommandError, match=r"still running after 0.05 s"):
        await run("/bin/sleep", "60", timeout_seconds=0.05)


async def test_cancellation_kills_the_program() -> None:
    task = asyncio.create_task(run("/bin/sh", "-c", "exec sleep 60"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_who_is_cancelled_when_the_program_has_just_ended_is_told_so(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    task = asyncio.ensure_future(run("/bin/sh", "-c", f"read line <{fifo}"))
    await asyncio.sleep(0)  # it has begun …
    fifo.write_bytes(b"\n")
    # … and ended, which the event loop has not seen.
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - to keep it from seeing it
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
