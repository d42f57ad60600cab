"""`navarch up`: from nothing (or from whatever is there) to a cluster whose nodes are ready."""

from __future__ import annotations

import contextlib
import errno
import shutil
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from lab import access, assembly, cluster, sweep
from lab.bootstrap import dns, objects
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.phases import inside
from lab.building import build
from lab.daemons import plan
from lab.errors import LabError, NotRunning, failing_as_one
from lab.hosts import sockets
from lab.images import catalogue
from lab.images.push import push
from lab.images.python import NAVARCH, navarch_image
from lab.layout import PROJECT, Layout
from lab.progress import Steps, console
from lab.readiness import Endpoint, Watch
from lab.supervisor.control import Supervisor
from lab.supervisor.daemon import Daemon
from lab.topology import REGISTRY_PORT, Topology
from machinery.api.catalogue import DEPLOYMENTS, NODES
from machinery.api.meta import condition, name_of
from machinery.client.rest import Client
from machinery.errors import TransportError

FIRST_DAEMONS = frozenset({"etcd", "haproxy", "registry", "containerd", "kube-apiserver"})
"""Started at once; the others when an API server answers, so that they do not compete with it for the processor."""

_PROGRAMS = {
    "etcd": "etcd-server",
    "haproxy": "haproxy",
    "containerd": "containerd",
    "runc": "runc",
    "docker-registry": "docker-registry",
    "nft": "nftables",
    "iptables-restore": "iptables",
    "conntrack": "conntrack",
    "catatonit": "catatonit",
    "busybox": "busybox-static",
    "ip": "iproute2",
    "unshare": "util-linux",
}
_SECONDS = 120.0


async def up(layout: Layout, topology: Topology) -> None:
    """Bring the lab up, or finish bringing it up. Raises LabError saying what stands in the way."""
    started, steps = time.monotonic(), Steps()
    supervisor = await _present(layout, topology, steps)
    config = cluster.configuration(topology)
    if supervisor is None:
        _check_machine(topology)
        supervisor = await build(layout, topology, config, steps)
    await _start(layout, topology, config, supervisor, steps)
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
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", topology.api_port))
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise LabError(f"cannot listen on 127.0.0.1:{topology.api_port}: {exc.strerror}") from exc
            raise LabError(
                f"port {topology.api_port} of 127.0.0.1 is in use by another program (`ss -ltnp` shows which): "
                "stop it, or choose another with --api-port"
            ) from exc
    if Path("/run") in PROJECT.parents:
        raise LabError(f"the checkout is in {PROJECT}, and hosts have a /run of their own: move it elsewhere")


async def _start(
    layout: Layout, topology: Topology, config: ClusterConfiguration, supervisor: Supervisor, steps: Steps
) -> None:
    """Start the daemons and wait until all is ready."""
    wanted = plan.daemons(topology, config)
    first = [daemon for daemon in wanted if daemon.name in FIRST_DAEMONS]
    await supervisor.start(first)
    watch = Watch(layout, supervisor)
    async with failing_as_one() as group:
        group.create_task(_images(layout, topology, watch, steps))
        group.create_task(_cluster(layout, topology, config, supervisor, watch, wanted, steps))


async def _images(layout: Layout, topology: Topology, watch: Watch, steps: Steps) -> None:
    balancer = topology.load_balancer
    url = f"http://{balancer.address}:{REGISTRY_PORT}"
    factory = sockets.factory(layout.namespace(balancer.name, "net"))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=factory)) as session:
        with steps.step("images pause, busybox and echo in the lab's registry"):
            images = await catalogue.build()
            await watch.endpoints([(f"{balancer.name}/registry", Endpoint(balancer.name, f"{url}/v2/"))], _SECONDS)
            await push(session, url, images)
        with steps.step("image navarch in the lab's registry"):
            await push(session, url, [await navarch_image()])


async def _cluster(
    layout: Layout,
    topology: Topology,
    config: ClusterConfiguration,
    supervisor: Supervisor,
    watch: Watch,
    wanted: Sequence[Daemon],
    steps: Steps,
) -> None:
    planes = topology.control_plane_hosts
    with steps.step(f"etcd on {', '.join(host.name for host in planes)}"):
        health = [(f"{host.name}/etcd", Endpoint(host.name, "http://127.0.0.1:2381/health")) for host in planes]
        await watch.endpoints(health, _SECONDS)
    with steps.step(f"API server on {', '.join(host.name for host in planes)}, behind HAProxy"):
        authority = inside(layout.root(planes[0].name), f"{config.certificates_dir}/ca.crt")
        tls = ssl.create_default_context(cafile=str(authority))
        ready = [
            (f"{host.name}/kube-apiserver", Endpoint(host.name, f"https://127.0.0.1:{config.bind_port}/readyz", tls))
            for host in planes
        ]
        await watch.endpoints(ready, _SECONDS)
        balancer = Endpoint(None, f"https://127.0.0.1:{topology.api_port}/readyz", tls)
        await watch.endpoints([(f"{topology.load_balancer.name}/haproxy", balancer)], _SECONDS)
    await supervisor.start(wanted)
    async with Client(access.super_admin(layout, topology), user_agent="navarch") as client:
        with steps.step("roles, bindings and configuration in the cluster"):
            documents = inside(layout.root(planes[0].name), assembly.DOCUMENTS).read_text()
            planned = [*objects.plan(config, documents), *objects.cluster_info(config, authority.read_bytes())]
            planned += dns.plan(config, f"{catalogue.PREFIX}/{NAVARCH}")
            await objects.apply(client, planned)
        if topology.workers:
            names = [host.name for host in topology.worker_hosts]
            with steps.step(f"nodes {', '.join(names)}"):
                keys = [f"{name}/{daemon}" for name in names for daemon in ("kubelet", "containerd", "network")]
                await watch.until(keys, lambda: _unready(client, names), _SECONDS)
        with steps.step("kube-proxy on every host but lb"):
            hosts = [*planes, *topology.worker_hosts]
            health = [(f"{h.name}/kube-proxy", Endpoint(h.name, "http://127.0.0.1:10256/healthz")) for h in hosts]
            await watch.endpoints(health, _SECONDS)
        if topology.workers:
            with steps.step("cluster DNS"):
                keys = [f"{host.name}/kubelet" for host in topology.worker_hosts]
                await watch.until(keys, lambda: _unavailable(client, dns.NAME), _SECONDS)


async def _unavailable(client: Client, name: str) -> str:
    """ "" when a pod of this Deployment in kube-system can be used; else what there is of it."""
    try:
        status = (await client.get(DEPLOYMENTS, name, "kube-system")).get("status") or {}
    except TransportError as exc:
        return str(exc)
    if status.get("availableReplicas"):
        return ""
    return f"Deployment {name}: {status.get('replicas', 0)} pods, none of them available"


async def _unready(client: Client, names: Sequence[str]) -> str:
    """ "" when all these nodes are ready; else which are not, and why."""
    try:
        nodes = {name_of(node): node for node in (await client.list(NODES)).items}
    except TransportError as exc:
        return str(exc)
    missing = []
    for name in names:
        if name not in nodes:
            missing.append(f"{name} has not registered")
            continue
        ready = condition(nodes[name].get("status", {}).get("conditions"), "Ready") or {}
        if ready.get("status") != "True":
            missing.append(f"{name}: {ready.get('message') or 'no word from its kubelet'}")
    return "; ".join(missing)


def _tell(layout: Layout, topology: Topology, known: Path, seconds: float) -> None:
    console.print(
        f"\nThe lab is up ({seconds:.0f} s). {known} knows it as context [bold]{access.context_name(layout)}[/bold]."
    )
    console.print("What to type next:\n")
    worker = topology.worker_hosts[0].name if topology.workers else topology.control_plane_hosts[0].name
    for command, what in (
        ("kubectl get nodes", "who is there"),
        ("kubectl apply -f examples/web.yaml", "three pods and a service"),
        ("kubectl get pods -o wide -w", "see them start"),
        (f"./navarch enter {worker}", "a shell on a host"),
        ("./navarch status", "every daemon of the lab"),
        ("./navarch down", "remove it all"),
    ):
        console.print(f"  {command:<38} [dim]{what}[/dim]")
