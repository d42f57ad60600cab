"""`navarch dev` as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.layout import PROJECT

COMMAND = (sys.executable, "-P", "-m", "lab", "dev")


@dataclass
class Dev:
    """A cluster that has said it is ready."""

    process: subprocess.Popen[str]
    kubeconfig: Path
    said: str

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """The output of kubectl, which must succeed."""
        argv = ["kubectl", "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """What `kubectl get` gives."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; exit status and what was on standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@contextmanager
def running_dev(
    *arguments: str, command: Sequence[str] = COMMAND, environment: dict[str, str] | None = None
) -> Iterator[Dev]:
    """Start it, wait until it is ready, and see it gone."""
    process = subprocess.Popen(
        [*command, "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env={**os.environ, **(environment or {})},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        said, deadline = "", time.monotonic() + 60
        while "export KUBECONFIG=" not in said:
            line = process.stdout.readline()
            assert line, (said, process.stderr.read())
            assert time.monotonic() < deadline, said
            said += line
        yield Dev(process, Path(said.rpartition("=")[2].strip()), said)
    finally:
        if process.returncode is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
