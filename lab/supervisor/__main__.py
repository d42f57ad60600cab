"""`python -m lab.supervisor`: supervise the daemons of the lab that NAVARCH_LAB names, until told to shut down."""

from __future__ import annotations

import asyncio
import sys

from lab.hosts.cgroups import hierarchies
from lab.layout import Layout
from lab.supervisor.runner import Runner
from lab.supervisor.server import serve
from machinery.errors import NavarchError
from machinery.log import setup
from machinery.process import run


async def main() -> None:
    """Until `shutdown` comes over the socket, or a signal."""
    layout = Layout.from_environment()
    layout.socket.parent.mkdir(parents=True, exist_ok=True)
    layout.socket.unlink(missing_ok=True)
    runner, stop = Runner(layout, hierarchies()), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        server = group.create_task(serve(layout, runner, stop))
        try:
            await runner.run(stop)
        finally:
            server.cancel()
            layout.socket.unlink(missing_ok=True)


if __name__ == "__main__":
    setup()
    try:
        sys.exit(run("navarch-supervisor", main))
    except NavarchError as exc:
        sys.exit(f"navarch-supervisor: error: {exc}")
