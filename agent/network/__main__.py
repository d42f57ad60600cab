"""The pod network's agent: `python -m agent.network --kubeconfig … --node-name …`."""

from __future__ import annotations

import asyncio
import sys

from agent.network import assembly
from machinery import log, process


def main() -> int:
    """The program."""

    async def start() -> None:
        options = assembly.parse(sys.argv[1:])
        log.setup(options.verbosity)
        await assembly.run(options)

    # uvloop knows no netlink sockets.
    return process.run("network", start, loop=asyncio.new_event_loop)


if __name__ == "__main__":
    sys.exit(main())
