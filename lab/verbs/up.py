"""`navarch up`: from nothing (or from whatever is there) to a cluster whose nodes are ready."""

from __future__ import annotations

import contextlib
import errno
import shutil
import socket
import time
from pathlib import Path

from lab import access, cluster, sweep
from lab.building import build, furnish
from lab.errors import LabError, NotRunning
from lab.images import release
from lab.layout import PROJECT, Layout
from lab.progress import Steps, console
from lab.starting import Start
from lab.supervisor.control import Supervisor
from lab.topology import Topology
from lab.updating import update

_PROGRAMS = {
    "etcd": "etcd-server",
    "etcdctl": "etcd-client",
    "haproxy": "haproxy",
    "containerd": "containerd",
    "runc": "runc",
    "docker-registry": "docker-registry",
    "nft": "nftables",
    "iptables-restore": "iptables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "catatonit": "catatonit",
    "busybox": "busybox-static",
    "ip": "iproute2",
    "unshare": "util-linux",
}


async def up(layout: Layout, topology: Topology) -> None:
    """Bring the lab up, or finish bringing it up. Raises LabError saying what stands in the way."""
    started, steps = time.monotonic(), Steps()
    supervisor = await _present(layout, topology, steps)
    if supervisor is None:
        _check_machine(topology)
    with steps.step("images of etcd and of the components"):
        made = await release.release()
    config = cluster.configuration(topology, made)
    if supervisor is None:
        supervisor = await build(layout, topology, config, steps)
        with steps.step("images on every host"):
            await furnish(layout, topology, made)
        await Start(layout, topology, config, supervisor, steps).everything()
    else:
        start = Start(layout, topology, config, supervisor, steps)
        await start.again()
        await update(start, made)
        await start.everything()
    known = access.make_known(layout)
    _tell(layout, topology, known, time.monotonic() - started)


async def _present(layout: Layout, topology: Topology, steps: Steps) -> Supervisor | None:
    """The supervisor of a lab of this shape if one runs; remains of any other are removed."""
    if not sweep.exists(layout):
        return None
    supervisor = Supervisor(layout)
    with contextlib.suppress(NotRunning, OSError):
        present = Topology.from_json(layout.topology_file.read_text())
        await supervisor.reports()
        if present != topology:
            raise LabError("a lab of another shape is running: `navarch down` first, or give the same options")
        return supervisor
    with steps.step("removing what an earlier run left"):
        await sweep.sweep(layout)
    return None


def _check_machine(topology: Topology) -> None:
    missing = {package for program, package in _PROGRAMS.items() if shutil.which(program) is None}
    if not Path("/usr/lib/cni/bridge").exists():
        missing.add("containernetworking-plugins")
    if missing:
        raise LabError(f"Debian packages are missing: {' '.join(sorted(missing))}: run `navarch setup`")
    free_port(topology.api_port)
    if Path("/run") in PROJECT.parents:
        raise LabError(f"the checkout is in {PROJECT}, and hosts have a /run of their own: move it elsewhere")


def free_port(port: int) -> None:
    """Nothing if 127.0.0.1:PORT can be listened on. Raises LabError saying why it can't."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise LabError(f"cannot listen on 127.0.0.1:{port}: {exc.strerror}") from exc
            raise LabError(
                f"port {port} of 127.0.0.1 is in use by another program (`ss -ltnp` shows which): "
                "stop it, or choose another with --api-port"
            ) from exc


def _tell(layout: Layout, topology: Topology, known: Path, seconds: float) -> None:
    console.print(
        f"\nThe lab is up ({seconds:.0f} s). {known} knows it as context [bold]{access.context_name(layout)}[/bold]."
    )
    console.print("What to type next:\n")
    worker = topology.worker_hosts[0].name if topology.workers else topology.control_plane_hosts[0].name
    for command, what in (
        ("kubectl get nodes", "who is there"),
        ("kubectl get pods -A -o wide", "the control plane, kube-proxy, the network, DNS"),
        ("kubectl apply -f examples/web.yaml", "three pods and a service"),
        ("kubectl get pods -o wide -w", "see them start"),
        (f"./navarch enter {worker}", "a shell on a host"),
        ("./navarch status", "every daemon and component of the lab"),
        ("./navarch down", "remove it all"),
    ):
        console.print(f"  {command:<38} [dim]{what}[/dim]")
