"""`navarch status`, `kubeconfig`, `token`, `enter` and `logs`: looking at a lab that is there."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from lab.bootstrap.kubeconfig import ADMIN
from lab.errors import LabError, NotRunning
from lab.hosts import cgroups, pods
from lab.hosts.namespaces import visit
from lab.layout import Layout
from lab.progress import console
from lab.supervisor.control import Supervisor
from lab.supervisor.daemon import Report, State
from lab.supervisor.runner import ENVIRONMENT
from lab.topology import Role, Topology

_COLOURS = {State.RUNNING: "green", State.WAITING: "red", State.STOPPED: "yellow"}


def topology_of(layout: Layout) -> Topology:
    """The lab that is there. Raises NotRunning."""
    try:
        return Topology.from_json(layout.topology_file.read_text())
    except OSError as exc:
        raise NotRunning("there is no lab: run `navarch up`") from exc


async def status(layout: Layout) -> int:
    """Print every daemon, and every component in a pod; the exit status is 0 when all run."""
    topology = topology_of(layout)
    reports = [*await Supervisor(layout).reports(), *_in_pods(layout, topology)]
    addresses = {host.name: host.address for host in topology.hosts}
    table = Table(box=None, pad_edge=False)
    for column in ("HOST", "ADDRESS", "COMPONENT", "STATE", "PID", "SINCE", "RESTARTS", "LAST END"):
        table.add_column(column, no_wrap=True)
    for report in sorted(reports, key=lambda each: (list(addresses).index(each.host), each.name)):
        colour = _COLOURS[report.state]
        state, pid, since = f"[{colour}]{report.state}[/{colour}]", str(report.pid or "-"), _age(report)
        table.add_row(
            report.host,
            addresses[report.host],
            report.name,
            state,
            pid,
            since,
            str(report.restarts),
            report.ended if report.restarts else "",
        )
    console.print(table)
    return 0 if all(report.state is State.RUNNING for report in reports) else 1


def _in_pods(layout: Layout, topology: Topology) -> list[Report]:
    """The components that run in pods, in the form of daemons' reports."""
    trees, found = cgroups.hierarchies(), []
    for host in topology.hosts:
        away = set(pods.stopped(layout, host.name))
        for each in pods.components(layout, host.name):
            pids = pods.processes(layout, trees, each)
            state = State.RUNNING if pids else State.STOPPED if each.name in away else State.WAITING
            started = pods.started(pids[0]) if pids else 0.0
            found.append(Report(host.name, each.name, state, next(iter(pids), 0), started, each.restarts))
    return found


def kubeconfig_path(layout: Layout) -> Path:
    """The administrator's kubeconfig. Raises NotRunning."""
    topology_of(layout)
    return layout.kubeconfig


def token(layout: Layout) -> str:
    """The administrator's bearer token, for tools that take no client certificate. Raises NotRunning."""
    topology_of(layout)
    return layout.token_file.read_text().strip()


def enter(layout: Layout, host: str, argv: Sequence[str]) -> None:
    """Become the command (or a shell) inside the host; does not return. Raises LabError."""
    found = topology_of(layout).host(host)
    if not layout.namespace(host, "net").exists():
        raise NotRunning("the lab is not running: run `navarch up`")
    trees = cgroups.hierarchies()
    environment = ENVIRONMENT | {name: os.environ[name] for name in ("TERM", "COLUMNS", "LINES") if name in os.environ}
    if found.role is Role.CONTROL_PLANE:
        environment |= {"KUBECONFIG": ADMIN.file}
    if not argv:
        environment |= {"PS1": f"{host}# "}
        argv = ["bash", "--norc"] if Path("/bin/bash").exists() else ["sh"]
    command = visit(layout, trees, host, argv)
    sys.stdout.flush()
    os.execvpe(command[0], command, environment)  # noqa: S606


async def logs(layout: Layout, host: str, component: str, *, follow: bool) -> None:
    """Print the log of a daemon or of a component in a pod; with `follow`, until interrupted. Raises LabError."""
    found = topology_of(layout).host(host)
    in_pod = pods.component(layout, found.name, component)
    path = in_pod.log if in_pod is not None else layout.log(found.name, component)
    if not path.exists():
        known = {file.stem for file in layout.logs(found.name).glob("*.log")}
        known |= {each.name for each in pods.components(layout, found.name)}
        raise LabError(f"{host} has no log of {component!r}; it has {', '.join(sorted(known)) or 'none yet'}")
    written = _message if in_pod is not None else bytes
    with path.open("rb") as file:
        while True:
            for line in file:
                sys.stdout.buffer.write(written(line))
            sys.stdout.buffer.flush()
            if not follow:
                return
            await asyncio.sleep(0.2)
            if path.stat().st_size < file.tell():
                file.seek(0)  # begun anew


def _message(line: bytes) -> bytes:
    """What a line of a container's log says: the runtime writes time, stream and a tag before it."""
    parts = line.split(b" ", 3)
    if len(parts) < 4:
        return line
    return parts[3].removesuffix(b"\n") if parts[2] == b"P" else parts[3]


def _age(report: Report) -> str:
    if report.state is not State.RUNNING:
        return "-"
    seconds = int(time.time() - report.started)
    if seconds < 120:
        return f"{seconds}s"
    return f"{seconds // 60}m" if seconds < 7200 else f"{seconds // 3600}h"
