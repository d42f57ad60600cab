"""Talking to a lab's supervisor, and starting it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from lab.conditions import until_async
from lab.errors import LabError, NotRunning
from lab.hosts import cgroups
from lab.hosts.cgroups import Hierarchy
from lab.hosts.namespaces import into_cgroup
from lab.layout import PROJECT, Layout
from lab.supervisor.daemon import Daemon, Report, State
from lab.supervisor.runner import ENVIRONMENT, tail
from lab.supervisor.server import REQUEST_BYTES

_START_SECONDS = 15.0
CGROUP = "supervisor"
"""The supervisor's own cgroup, beside those of the hosts."""


class Supervisor:
    """The supervisor of one lab, from outside. Every method raises NotRunning when it does not answer."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def start(self, daemons: Iterable[Daemon]) -> list[Report]:
        """Start daemons that are not running."""
        return await self._ask({"do": "start", "daemons": [daemon.to_wire() for daemon in daemons]})

    async def start_again(self, keys: Sequence[str]) -> list[Report]:
        """Start daemons (HOST/NAME) that were stopped."""
        return await self._ask({"do": "start-again", "keys": list(keys)})

    async def stop(self, keys: Sequence[str]) -> list[Report]:
        """Stop daemons and wait until they have ended."""
        return await self._ask({"do": "stop", "keys": list(keys)})

    async def reports(self) -> list[Report]:
        """How every daemon is."""
        return await self._ask({"do": "list"})

    async def shut_down(self) -> None:
        """Stop all daemons in order, and the supervisor."""
        await self._ask({"do": "shutdown"})

    async def _ask(self, request: dict[str, Any]) -> list[Report]:
        try:
            reader, writer = await asyncio.open_unix_connection(self._layout.socket, limit=REQUEST_BYTES)
        except OSError as exc:
            raise NotRunning("no lab is running (its supervisor does not answer): run `navarch up`") from exc
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            line = await reader.readline()
        except OSError as exc:
            raise NotRunning(f"the lab's supervisor broke off: {exc}") from exc
        finally:
            writer.close()
        if not line:
            raise NotRunning("the lab's supervisor broke off")
        answer = json.loads(line)
        if "error" in answer:
            raise LabError(f"supervisor: {answer['error']}")
        return [Report(**{**each, "state": State(each["state"])}) for each in answer["daemons"]]


async def launch(layout: Layout, trees: Sequence[Hierarchy]) -> Supervisor:
    """Start the supervisor in the background and wait until it answers. Raises LabError."""
    cgroups.create(trees, f"{layout.cgroup}/{CGROUP}")
    process, supervisor = _spawn(layout, trees), Supervisor(layout)

    async def answers() -> bool:
        try:
            await supervisor.reports()
        except NotRunning:
            if process.poll() is None:
                return False
            raise LabError("\n".join(["the supervisor ended:", *tail(layout.supervisor_log)])) from None
        return True

    try:
        await until_async(answers, _START_SECONDS)
    except TimeoutError as exc:
        raise LabError(f"the supervisor does not answer; see {layout.supervisor_log}") from exc
    process.returncode = 0  # no longer ours to wait for
    return supervisor


def _spawn(layout: Layout, trees: Sequence[Hierarchy]) -> subprocess.Popen[bytes]:
    """It outlives this process, on purpose: `down` finds it by its socket, or by its cgroup."""
    argv = [sys.executable, "-m", "lab.supervisor"]
    descriptor = os.open(layout.supervisor_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        return subprocess.Popen(
            into_cgroup(trees, f"{layout.cgroup}/{CGROUP}", argv),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            env=ENVIRONMENT | {"NAVARCH_LAB": layout.name},
            cwd=PROJECT,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
