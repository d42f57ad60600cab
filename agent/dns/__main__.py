"""The cluster's DNS server: `python -m agent.dns --conf Corefile`."""

from __future__ import annotations

import sys

from agent.dns import assembly
from machinery import log, process


def main() -> int:
    """The program."""

    async def start() -> None:
        options = assembly.parse(sys.argv[1:])
        log.setup(options.verbosity)
        await assembly.run(options)

    return process.run("dns", start)


if __name__ == "__main__":
    sys.exit(main())
