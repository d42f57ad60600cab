"""`navarch status`, `kubeconfig`, `enter` and `logs`: looking at a lab that is there."""

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
from lab.hosts import cgroups
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
    """Print every daemon; the exit status is 0 when all run."""
    topology = topology_of(layout)
    reports = await Supervisor(layout).reports()
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
    """Print a daemon's log; with `follow`, go on until interrupted. Raises LabError."""
    found = topology_of(layout).host(host)
    path = layout.log(found.name, component)
    if not path.exists():
        known = sorted(file.stem for file in layout.logs(found.name).glob("*.log"))
        raise LabError(f"{host} has no log of {component!r}; it has {', '.join(known) or 'none yet'}")
    with path.open("rb") as file:
        while True:
            for chunk in iter(lambda: file.read(1 << 16), b""):
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            if not follow:
                return
            await asyncio.sleep(0.2)
            if path.stat().st_size < file.tell():
                file.seek(0)  # begun anew


async def stop(layout: Layout, host: str, components: Sequence[str]) -> None:
    """Stop daemons of a host, or all of them."""
    await Supervisor(layout).stop(await _keys(layout, host, components))


async def start(layout: Layout, host: str, components: Sequence[str]) -> None:
    """Start daemons of a host that were stopped, or all of them."""
    await Supervisor(layout).start_again(await _keys(layout, host, components))


async def _keys(layout: Layout, host: str, components: Sequence[str]) -> list[str]:
    found = topology_of(layout).host(host).name
    known = [report.name for report in await Supervisor(layout).reports() if report.host == found]
    if unknown := [name for name in components if name not in known]:
        raise LabError(f"{host} has no component {unknown[0]!r}; it has {', '.join(sorted(known))}")
    return [f"{found}/{name}" for name in components or known]


def _age(report: Report) -> str:
    if report.state is not State.RUNNING:
        return "-"
    seconds = int(time.time() - report.started)
    if seconds < 120:
        return f"{seconds}s"
    return f"{seconds // 60}m" if seconds < 7200 else f"{seconds // 3600}h"
