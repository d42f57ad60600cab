"""`navarch stop`, `start` and `kill`: what high availability is for, tried out.

A daemon is stopped by the supervisor; a static pod by taking its manifest away, as an administrator would; a whole host
by ending all that runs on it, as if its plug were pulled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

from lab.conditions import until
from lab.errors import LabError
from lab.hosts import cgroups, pods
from lab.layout import Layout
from lab.supervisor.control import Supervisor
from lab.verbs.look import topology_of

_POD_SECONDS = 60.0


async def stop(layout: Layout, host: str, components: Sequence[str]) -> None:
    """Stop components of a host, or everything on it. Raises LabError."""
    name = topology_of(layout).host(host).name
    known = await _known(layout, name)
    if not components:
        await Supervisor(layout).stop([f"{name}/{each}" for each in known.daemons])
        await _end_pods(layout, name)
        return
    chosen = known.choose(components)
    for each in chosen.pods:
        pods.take_away(layout, name, each)
    await asyncio.gather(
        Supervisor(layout).stop([f"{name}/{each}" for each in chosen.daemons]),
        *(_until_running(layout, name, each, wanted=False) for each in chosen.pods),
    )


async def start(layout: Layout, host: str, components: Sequence[str]) -> None:
    """Start components of a host that were stopped, or all of them. Raises LabError."""
    name = topology_of(layout).host(host).name
    known = await _known(layout, name)
    chosen = known.choose(components) if components else known
    for each in chosen.pods:
        pods.bring_back(layout, name, each)
    await Supervisor(layout).start_again([f"{name}/{each}" for each in chosen.daemons])
    if components:
        await asyncio.gather(*(_until_running(layout, name, each, wanted=True) for each in chosen.pods))


async def kill(layout: Layout, host: str, component: str, name: str) -> None:
    """Send a signal to a component, wherever it runs. Raises LabError."""
    found = topology_of(layout).host(host).name
    number = signal_of(name)
    in_pod = pods.component(layout, found, component)
    if in_pod is not None:
        pids = pods.processes(layout, cgroups.hierarchies(), in_pod)
    else:
        reports = await Supervisor(layout).reports()
        pids = [each.pid for each in reports if each.key == f"{found}/{component}" and each.pid]
    if not pids:
        raise LabError(f"{component} does not run on {found}")
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def signal_of(name: str) -> signal.Signals:
    """KILL, SIGKILL or 9. Raises LabError."""
    try:
        return (
            signal.Signals(int(name)) if name.isdecimal() else signal.Signals[f"SIG{name.upper().removeprefix('SIG')}"]
        )
    except (KeyError, ValueError):
        raise LabError(f"{name!r} is not a signal") from None


class _Known:
    """What a host has: daemons and static pods."""

    def __init__(self, host: str, daemons: Sequence[str], static: Sequence[str], others: Sequence[str] = ()) -> None:
        self.host, self.daemons, self.pods, self._others = host, daemons, static, others

    def choose(self, names: Sequence[str]) -> _Known:
        """Those of these names. Raises LabError for one that there is not."""
        for name in names:
            if name in self._others:
                raise LabError(
                    f"{name} on {self.host} is a pod of a DaemonSet or Deployment: use kubectl, or `navarch kill`"
                )
            if name not in (*self.daemons, *self.pods):
                every = ", ".join(sorted({*self.daemons, *self.pods}))
                raise LabError(f"{self.host} has no component {name!r}; it has {every}")
        return _Known(
            self.host, [each for each in self.daemons if each in names], [each for each in self.pods if each in names]
        )


async def _known(layout: Layout, host: str) -> _Known:
    reports = await Supervisor(layout).reports()
    daemons = [each.name for each in reports if each.host == host]
    static = [*pods.wanted(layout, host), *pods.stopped(layout, host)]
    others = [each.name for each in pods.components(layout, host) if each.name not in static]
    return _Known(host, daemons, static, others)


async def _until_running(layout: Layout, host: str, name: str, *, wanted: bool) -> None:
    trees = cgroups.hierarchies()

    def so() -> bool:
        found = pods.component(layout, host, name)
        return (found is not None and bool(pods.processes(layout, trees, found))) is wanted

    try:
        await until(so, _POD_SECONDS, every_seconds=0.1)
    except TimeoutError as exc:
        raise LabError(f"{name} on {host} did not {'start' if wanted else 'stop'}: does its kubelet run?") from exc


async def _end_pods(layout: Layout, host: str) -> None:
    trees = cgroups.hierarchies()

    def ended() -> bool:
        left = pods.all_processes(layout, trees, host)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    try:
        await until(ended, _POD_SECONDS, every_seconds=0.1)
    except TimeoutError as exc:
        raise LabError(f"processes in pods of {host} do not die") from exc
