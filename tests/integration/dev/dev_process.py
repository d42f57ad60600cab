"""What the tests of `navarch dev` do with one that runs."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

from machinery.testing.cluster import Cluster


def kubectl(cluster: Cluster, *arguments: str) -> str:
    """The output of kubectl, which must succeed."""
    argv = ["kubectl", *arguments]
    environment = cluster.environment()
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def get(cluster: Cluster, *arguments: str) -> Any:
    """What `kubectl get` gives."""
    return json.loads(kubectl(cluster, "get", *arguments, "-o", "json"))


def end(cluster: Cluster, number: signal.Signals) -> int:
    """Send a signal; the exit status."""
    cluster.process.send_signal(number)
    return cluster.process.wait(30)
