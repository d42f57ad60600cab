"""cloud-controller-manager: `python -m controlplane.cloud --cloud-provider navarch --cloud-config …`."""

from __future__ import annotations

import asyncio
import sys

from controlplane.cloud.manager import serve
from controlplane.cloud.options import PROGRAM, parse
from machinery import log, process


def main() -> int:
    """The program."""

    async def start() -> None:
        flags = parse(sys.argv[1:])
        log.setup(flags["v"])
        await serve(flags)

    # Providers may speak netlink, which uvloop does not.
    return process.run(PROGRAM, start, loop=asyncio.new_event_loop)


if __name__ == "__main__":
    sys.exit(main())
