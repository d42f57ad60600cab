"""The way from this machine's loopback to the cluster, whose network has no other way in: an HAProxy.

Source: https://docs.haproxy.org/2.6/configuration.html (server … namespace).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from lab.errors import LabError
from lab.vms.place import Place


def configuration(api_port: int, endpoint: str, namespace: str) -> str:
    """HAProxy's file; `namespace` may be "": the cluster's network is the machine's own then."""
    where = f" namespace {namespace}" if namespace else ""
    return f"""\
global
    maxconn 2000

defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h

listen kubernetes
    bind 127.0.0.1:{api_port}
    server endpoint {endpoint}{where}
"""


def start(place: Place, api_port: int, endpoint: str) -> None:
    """Listen on 127.0.0.1:API_PORT. Raises LabError."""
    stop(place)
    file, pid = place.folder / "forward.cfg", place.folder / "forward.pid"
    namespace = place.namespace if place.namespace_file.exists() else ""
    file.write_text(configuration(api_port, endpoint, namespace))
    done = subprocess.run(
        ["haproxy", "-D", "-f", str(file), "-p", str(pid)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LabError(f"cannot forward 127.0.0.1:{api_port} to the cluster: {done.stderr.strip()}")


def stop(place: Place) -> None:
    """End it, if it runs."""
    pid = place.folder / "forward.pid"
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        for number in map(int, pid.read_text().split()):
            if "haproxy" in Path(f"/proc/{number}/comm").read_text():
                os.kill(number, signal.SIGKILL)
    pid.unlink(missing_ok=True)
