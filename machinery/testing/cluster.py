"""A whole cluster for a test: `navarch dev` as a process of its own, gone when the test is.

    with running_cluster(hollow_nodes=2) as cluster:
        subprocess.run(["kubectl", "get", "nodes"], env=cluster.environment())

It is a process, not a part of the test's own, so that blocking clients can be tested too, and any event loop.
`pytest_plugin.py` has it as a fixture.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from machinery.client.config import ClientConfig
from machinery.errors import NavarchError

COMMAND = (sys.executable, "-P", "-m", "lab", "dev")
"""How `navarch dev` is run by this interpreter."""

_SAYS = "export KUBECONFIG="
_STOP_SECONDS = 20.0


class ClusterDidNotStart(NavarchError):
    """It ended before it was ready; the message is what it said."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that is ready."""

    kubeconfig: Path
    """An administrator's."""
    said: str
    """What it told on standard output, up to the kubeconfig's path."""
    process: subprocess.Popen[str] = field(repr=False)

    @property
    def config(self) -> ClientConfig:
        """The same for `machinery.client.rest.Client`."""
        return ClientConfig.from_kubeconfig(self.kubeconfig)

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self.config.server

    def environment(self) -> dict[str, str]:
        """This process' environment with KUBECONFIG set, for programs that use the cluster."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}


@contextmanager
def running_cluster(
    *arguments: str, hollow_nodes: int = 0, directory: Path | None = None, command: Sequence[str] = COMMAND
) -> Iterator[Cluster]:
    """Start a cluster, wait until it is ready, and end it afterwards.

    Objects are in memory, unless `directory` says where to keep them: the next cluster with this directory has them
    again.  `arguments` are further ones of `navarch dev`.

    Raises:
        ClusterDidNotStart: with what it said.
    """
    argv = [*command, "--port", "0", "--hollow-nodes", str(hollow_nodes)]
    argv += ["--data-dir", str(directory)] if directory is not None else ["--store", "memory"]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([*argv, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True)
        with process:
            try:
                said = _until_ready(process)
                if _SAYS not in said:
                    process.wait()
                    errors.seek(0)
                    raise ClusterDidNotStart(errors.read().strip() or f"exit status {process.returncode}")
                yield Cluster(Path(said.rpartition(_SAYS)[2].strip()), said, process)
            finally:
                _stop(process)


def _until_ready(process: subprocess.Popen[str]) -> str:
    """What it says until it is ready, or until its end."""
    assert process.stdout is not None
    said = ""
    while _SAYS not in said:
        line = process.stdout.readline()
        if not line:
            break
        said += line
    return said


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
