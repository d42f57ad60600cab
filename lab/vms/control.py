"""`navarch status`, `enter`, `logs`, `stop`, `start` and `kill` on a lab of virtual machines: over ssh, and by Vagrant.

Source: systemctl(1), journalctl(1).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from rich.table import Table

from lab.bootstrap import addons
from lab.bootstrap.staticpods import MANIFESTS, STATIC_PODS
from lab.errors import LabError
from lab.progress import console
from lab.topology import Role
from lab.vms import guests, inventory, programs
from lab.vms.machines import Machine
from lab.vms.place import Place

REGISTRY = "docker-registry"
SERVICES = {
    Role.LOAD_BALANCER: ("haproxy",),
    Role.CONTROL_PLANE: ("containerd", "kubelet"),
    Role.WORKER: ("containerd", "kubelet"),
}
STATIC = tuple(pod.name for pod in STATIC_PODS)
_ON_NODES = (addons.PROXY, addons.NETWORK)
_PODS = {
    Role.LOAD_BALANCER: (),
    Role.CONTROL_PLANE: (*STATIC, *_ON_NODES),
    Role.WORKER: _ON_NODES,
}
_STOPPED = "/etc/kubernetes/stopped"
_POD_SECONDS = 60
_SSH_SECONDS = 120


def status(place: Place) -> int:
    """Print every machine's services and the components that run in pods; the exit status is 0 when all run."""
    machines = place.machines().all
    table = Table(box=None, pad_edge=False)
    for column in ("HOST", "ADDRESS", "COMPONENT", "STATE"):
        table.add_column(column, no_wrap=True)
    with ThreadPoolExecutor(len(machines)) as pool:
        states = list(pool.map(lambda machine: _states(place, machine), machines))
    for machine, found in zip(machines, states, strict=True):
        for component, state in found.items():
            colour = "green" if state == "running" else "red"
            table.add_row(machine.name, machine.address, component, f"[{colour}]{state}[/{colour}]")
    console.print(table)
    return 0 if all(state == "running" for found in states for state in found.values()) else 1


def enter(place: Place, host: str, argv: Sequence[str]) -> None:
    """Become the command (or a shell) on the machine; does not return. Raises LabError."""
    command = inventory.ssh(place, _machine(place, host).name, [shlex.join(argv)] if argv else [])
    sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606


def logs(place: Place, host: str, component: str, *, follow: bool) -> None:
    """Become what prints a component's log; does not return. Raises LabError."""
    machine = _machine(place, host)
    more = "-f" if follow else ""
    if component in _services(place, machine):
        script = f"exec journalctl --no-pager -o cat -u {component} {more}"
    else:
        files = f"/var/log/pods/kube-system_{shlex.quote(component)}-*/*/*.log"
        script = f"exec {'tail -n +1 -F' if follow else 'cat'} {files}"
    enter(place, machine.name, ["sh", "-c", script])


def stop(place: Place, host: str, components: Sequence[str]) -> None:
    """Stop services and static pods of a machine; without any, pull its plug. Raises LabError."""
    machine = _machine(place, host)
    if not components:
        guests.halt(place, machine.name, force=True)
        return
    for each in components:
        if each in STATIC and machine.role is Role.CONTROL_PLANE:
            script = f"mkdir -p {_STOPPED} && mv {MANIFESTS}/{each}.yaml {_STOPPED}/ && {_until(each, running=False)}"
        else:
            script = f"systemctl stop {_service(place, machine, each)}"
        run(place, machine.name, script)


def start(place: Place, host: str, components: Sequence[str]) -> None:
    """Start services and static pods of a machine, or the machine itself. Raises LabError."""
    machine = _machine(place, host)
    if not components:
        guests.up(place, [machine.name])
        return
    for each in components:
        if each in STATIC and machine.role is Role.CONTROL_PLANE:
            script = f"mv {_STOPPED}/{each}.yaml {MANIFESTS}/ && {_until(each, running=True)}"
        else:
            script = f"systemctl start {_service(place, machine, each)}"
        run(place, machine.name, script)


def kill(place: Place, host: str, component: str, signal: str) -> None:
    """Send a signal to a component. Raises LabError."""
    machine = _machine(place, host)
    number = shlex.quote(signal.upper().removeprefix("SIG"))
    if component in _services(place, machine):
        run(place, machine.name, f"systemctl kill -s {number} {component}")
    else:
        run(place, machine.name, f"pkill -{number} -f {_pattern(component)}")


def run(place: Place, host: str, script: str) -> str:
    """What a shell script on the machine prints. Raises LabError with what it said on failure."""
    return programs.output(inventory.ssh(place, host, [shlex.join(["sh", "-c", script])]), _SSH_SECONDS, host)


def _machine(place: Place, host: str) -> Machine:
    """`lb` is the first load balancer, as in the lab on one machine."""
    machines = place.machines()
    balancers = machines.of(Role.LOAD_BALANCER)
    return balancers[0] if host == "lb" and balancers else machines.named(host)


def _services(place: Place, machine: Machine) -> tuple[str, ...]:
    """Without a load balancer the registry is on the control plane."""
    more = (REGISTRY,) if machine == place.machines().registry else ()
    return (*SERVICES[machine.role], *more)


def _service(place: Place, machine: Machine, name: str) -> str:
    known = _services(place, machine)
    if name not in known:
        every = (*known, *(STATIC if machine.role is Role.CONTROL_PLANE else ()))
        raise LabError(f"{machine.name} has no component {name!r}; it has {', '.join(sorted(every))}")
    return name


def _pattern(component: str) -> str:
    """For pgrep: the program of a container, not the shell that looks for it."""
    return shlex.quote(f"(bin/|^)[{component[0]}]{component[1:]} -")


def _until(component: str, *, running: bool) -> str:
    true = "" if running else "! "
    look = f"{true}pgrep -f {_pattern(component)} >/dev/null"
    return f"timeout {_POD_SECONDS} sh -c {shlex.quote(f'until {look}; do sleep 0.2; done')}"


def _states(place: Place, machine: Machine) -> dict[str, str]:
    services = _services(place, machine)
    components = [*services, *_PODS[machine.role]]
    asks = [
        f"systemctl is-active -q {each}" if each in services else f"pgrep -f {_pattern(each)} >/dev/null"
        for each in components
    ]
    script = "; ".join(f"if {ask}; then echo running; else echo stopped; fi" for ask in asks)
    try:
        return dict(zip(components, run(place, machine.name, script).split(), strict=True))
    except LabError:
        return dict.fromkeys(components, "unreachable")
