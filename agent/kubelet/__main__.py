"""`python -m agent.kubelet`: the kubelet's entry point."""

from __future__ import annotations

import sys

from agent.kubelet import flags
from agent.kubelet.kubelet import Kubelet
from machinery import log, process
from machinery.errors import SettingsError


def main() -> int:
    """Read flags and run until a signal."""
    try:
        options = flags.parse(sys.argv[1:])
    except SettingsError as error:
        print(f"kubelet: error: {error}", file=sys.stderr)
        return 1
    log.setup(options.verbosity)
    return process.run("kubelet", Kubelet(options).run)


if __name__ == "__main__":
    sys.exit(main())
