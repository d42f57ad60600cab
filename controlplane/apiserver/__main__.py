"""`python -m controlplane.apiserver`: an API server with kube-apiserver's flags."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until stopped; the exit status."""
    gc.disable()  # until the server is ready: what imports and the start make is there to stay
    from controlplane.apiserver import flags
    from controlplane.apiserver.assembly import serve
    from machinery import log, process
    from machinery.errors import SettingsError

    try:
        settings = flags.parse(sys.argv[1:] if arguments is None else arguments)
    except SettingsError as exc:
        print(f"{flags.PROGRAM}: error: {exc}", file=sys.stderr)
        return 1
    log.setup(settings.verbosity)
    return process.run(flags.PROGRAM, lambda: serve(settings))


if __name__ == "__main__":
    sys.exit(main())
