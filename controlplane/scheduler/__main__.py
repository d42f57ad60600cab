"""kube-scheduler: `python -m controlplane.scheduler --kubeconfig … [--config KubeSchedulerConfiguration.yaml]`."""

from __future__ import annotations

import sys

from controlplane.scheduler.flags import parse
from controlplane.scheduler.program import serve
from machinery import collector, log, process


def main() -> int:
    """The program."""

    async def start() -> None:
        options = parse(sys.argv[1:])
        log.setup(options.flags["v"])
        collector.loading()
        await serve(options)

    return process.run("kube-scheduler", start)


if __name__ == "__main__":
    sys.exit(main())
