"""kube-controller-manager: `python -m controlplane.controllers --kubeconfig … [--controllers '*,-x']`."""

from __future__ import annotations

import sys

from controlplane.controllers.manager import serve
from controlplane.controllers.options import parse
from machinery import collector, log, process


def main() -> int:
    """The program."""

    async def start() -> None:
        options = parse(sys.argv[1:])
        log.setup(options["v"])
        collector.loading()
        await serve(options)

    return process.run("kube-controller-manager", start)


if __name__ == "__main__":
    sys.exit(main())
