"""kube-proxy: `python -m agent.proxy --config KubeProxyConfiguration.yaml`."""

from __future__ import annotations

import sys

from agent.proxy import assembly
from agent.proxy.flags import parse
from machinery import log, process


def main() -> int:
    """The program."""

    async def start() -> None:
        options = parse(sys.argv[1:])
        log.setup(options.verbosity)
        await assembly.run(options)

    return process.run("kube-proxy", start)


if __name__ == "__main__":
    sys.exit(main())
