"""`navarch dev`: a cluster for those who write what runs on one; ends with Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import tempfile
import time
from pathlib import Path

from lab.dev.home import Home
from lab.dev.settings import DevSettings, default_directory
from machinery import collector, log, process

_SHOWN_FROM = 2  # -v at which everything the components log is shown, not only what went wrong


def dev(arguments: argparse.Namespace) -> int:
    """Run until interrupted; the exit status. Raises LabError for what can't work."""
    settings = DevSettings(
        store=arguments.store,
        port=arguments.port,
        directory=Path(arguments.data_dir).absolute() if arguments.data_dir else None,
        hollow_nodes=arguments.hollow_nodes,
        verbosity=arguments.v,
    )
    log.setup(settings.verbosity)
    if settings.verbosity < _SHOWN_FROM:
        logging.getLogger().setLevel(logging.WARNING)
    with contextlib.ExitStack() as stack:
        home = Home(_directory(settings, stack))
        stack.enter_context(home.claimed())
        home.ensure_certificates()
        return _serve(settings, home)


def _directory(settings: DevSettings, stack: contextlib.ExitStack) -> Path:
    """Where things are kept: nowhere that outlives the process if nothing is to."""
    if settings.directory is not None:
        return settings.directory
    if settings.store == "memory":
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="navarch-dev-")))
    return default_directory()


def _serve(settings: DevSettings, home: Home) -> int:
    gc.disable()  # loading makes a hundred thousand objects that stay: to look through them again and again is a waste
    from lab.dev.cluster import run  # loads the API server: not before what the user got wrong has been told

    def tell(port: int) -> None:
        kept = str(home.store) if settings.store == "sqlite" else "memory"
        nodes = f", {settings.hollow_nodes} hollow nodes" if settings.hollow_nodes else ""
        print(f"Kubernetes v1.36 on https://127.0.0.1:{port}, ready after {_age_seconds():.1f} s")
        print(f"objects in {kept}{nodes}; Ctrl-C ends it")
        print(f"export KUBECONFIG={home.kubeconfig}", flush=True)
        collector.settled()

    return process.run("navarch", lambda: run(settings, home, tell))


def _age_seconds() -> float:
    """How long ago this process began, the interpreter's own start included where the system tells."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / 100
    return time.process_time()
