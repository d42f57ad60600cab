"""kube-proxy: `python -m agent.proxy --config KubeProxyConfiguration.yaml`."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from agent.proxy import assembly, kernel
from agent.proxy.flags import parse
from machinery import collector, log, process
from machinery.errors import SettingsError


def main() -> int:
    """The program."""
    try:
        options = parse(sys.argv[1:])
    except SettingsError as error:
        print(f"kube-proxy: error: {error}", file=sys.stderr)
        return 1
    log.setup(options.verbosity)
    for warning in options.warnings:
        log.get_logger(__name__).warning(warning)
    collector.loading()
    # uvloop knows no netlink sockets, which IPVS needs, also to be cleaned up.
    netlink = options.configuration.mode == "ipvs" or kernel.has_ipvs()
    loop = asyncio.new_event_loop if netlink else uvloop.new_event_loop
    return process.run("kube-proxy", lambda: assembly.run(options), loop=loop)


if __name__ == "__main__":
    sys.exit(main())
