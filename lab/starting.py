"""Starting what a built lab is to run, and waiting until each part says that it is ready."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence

import aiohttp

from lab import access
from lab.bootstrap import dns, marking, objects
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.rooted import inside
from lab.cluster import documents_text
from lab.daemons import plan
from lab.errors import PASSING, failing_as_one
from lab.hosts import pods, sockets
from lab.images import catalogue
from lab.images.push import push
from lab.layout import Layout
from lab.progress import Steps
from lab.readiness import Endpoint, Watch
from lab.supervisor.control import Supervisor
from lab.topology import REGISTRY_PORT, Host, Topology
from machinery.api.catalogue import DEPLOYMENTS, NODES
from machinery.api.meta import condition, name_of
from machinery.client.rest import Client
from machinery.errors import NotFound

_SECONDS = 120.0
_LATER = "kubelet"
"""Workers' kubelets start when an API server answers, so that they do not compete with it for the processor."""


class Start:
    """One run of `up` over a lab whose hosts are there. Every method raises LabError for what is not ready in time."""

    def __init__(
        self, layout: Layout, topology: Topology, config: ClusterConfiguration, supervisor: Supervisor, steps: Steps
    ) -> None:
        self.layout, self.topology, self.config = layout, topology, config
        self.supervisor, self.steps = supervisor, steps
        self.watch = Watch(layout, supervisor)
        authority = inside(layout.root(self.planes[0].name), f"{config.certificates_dir}/ca.crt")
        self._authority = authority
        self._tls = ssl.create_default_context(cafile=str(authority)) if authority.exists() else None

    @property
    def planes(self) -> tuple[Host, ...]:
        """The control-plane hosts."""
        return self.topology.control_plane_hosts

    async def again(self) -> None:
        """Bring back what was stopped by hand."""
        for host in self.planes:
            for name in pods.stopped(self.layout, host.name):
                pods.bring_back(self.layout, host.name, name)

    async def everything(self) -> None:
        """Start the daemons and wait until all is ready."""
        wanted = plan.daemons(self.topology, self.config)
        workers = {host.name for host in self.topology.worker_hosts}
        await self.supervisor.start([each for each in wanted if each.name != _LATER or each.host not in workers])
        async with failing_as_one() as group:
            group.create_task(self._registry())
            group.create_task(self._cluster())

    async def control_plane(self, hosts: Sequence[Host]) -> None:
        """Wait for etcd and the API servers of these hosts."""
        names = ", ".join(host.name for host in hosts)
        with self.steps.step(f"etcd on {names}"):
            health = [(f"{host.name}/etcd", Endpoint(host.name, "http://127.0.0.1:2381/health")) for host in hosts]
            await self.watch.endpoints(health, _SECONDS)
        with self.steps.step(f"API server on {names}"):
            url = f"https://127.0.0.1:{self.config.bind_port}/readyz"
            ready = [(f"{host.name}/kube-apiserver", Endpoint(host.name, url, self._tls)) for host in hosts]
            await self.watch.endpoints(ready, _SECONDS)

    async def _registry(self) -> None:
        balancer = self.topology.load_balancer
        url = f"http://{balancer.address}:{REGISTRY_PORT}"
        factory = sockets.factory(self.layout.namespace(balancer.name, "net"))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=factory)) as session:
            with self.steps.step("images pause, busybox and echo in the lab's registry"):
                images = await catalogue.build()
                ready = Endpoint(balancer.name, f"{url}/v2/")
                await self.watch.endpoints([(f"{balancer.name}/registry", ready)], _SECONDS)
                await push(session, url, images)

    async def _cluster(self) -> None:
        await self.control_plane(self.planes)
        with self.steps.step("HAProxy in front of them"):
            balancer = Endpoint(None, f"https://127.0.0.1:{self.topology.api_port}/readyz", self._tls)
            await self.watch.endpoints([(f"{self.topology.load_balancer.name}/haproxy", balancer)], _SECONDS)
        await self.supervisor.start(plan.daemons(self.topology, self.config))
        async with Client(access.super_admin(self.layout, self.topology), user_agent="navarch") as client:
            with self.steps.step("roles, bindings, configuration, kube-proxy, network and DNS in the cluster"):
                planned = objects.plan(self.config, documents_text(self.topology, self.config))
                planned += objects.cluster_info(self.config, self._authority.read_bytes())
                await objects.apply(client, planned)
            hosts = [*self.planes, *self.topology.worker_hosts]
            names = [host.name for host in hosts]
            with self.steps.step(f"nodes {', '.join(names)}"):
                keys = [f"{name}/{daemon}" for name in names for daemon in ("kubelet", "containerd")]
                await self.watch.until(keys, lambda: self._unmarked(client), _SECONDS)
                await self.watch.until(keys, lambda: unready(client, names), _SECONDS)
            with self.steps.step("kube-proxy on every node"):
                health = [(f"{h.name}/kube-proxy", Endpoint(h.name, "http://127.0.0.1:10256/healthz")) for h in hosts]
                await self.watch.endpoints(health, _SECONDS)
            with self.steps.step("cluster DNS"):
                keys = [f"{host.name}/kubelet" for host in self.topology.worker_hosts]
                await self.watch.until(keys, lambda: unavailable(client, dns.NAME), _SECONDS)

    async def _unmarked(self, client: Client) -> str:
        """Mark the control planes; "" when all are marked, else which have not registered."""
        missing = []
        for host in self.planes:
            try:
                await marking.mark(client, host.name)
            except NotFound:
                missing.append(f"{host.name} has not registered")
            except PASSING as exc:
                return str(exc)
        return "; ".join(missing)


async def unavailable(client: Client, name: str) -> str:
    """ "" when a pod of this Deployment in kube-system can be used; else what there is of it."""
    try:
        status = (await client.get(DEPLOYMENTS, name, "kube-system")).get("status") or {}
    except PASSING as exc:
        return str(exc)
    if status.get("availableReplicas"):
        return ""
    return f"Deployment {name}: {status.get('replicas', 0)} pods, none of them available"


async def unready(client: Client, names: Iterable[str]) -> str:
    """ "" when all these nodes are ready; else which are not, and why."""
    try:
        nodes = {name_of(node): node for node in (await client.list(NODES)).items}
    except PASSING as exc:
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
