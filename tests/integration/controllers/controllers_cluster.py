"""A cluster without nodes for stories about controllers: an API server as clusters have it, the real manager, and a
hollow node that binds pods, says that they run, and lets them go.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from controlplane.apiserver.admission import factory as admission
from controlplane.apiserver.authn import factory as authn
from controlplane.apiserver.authz import factory as authz
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.testing import RunningServer, running_apiserver
from controlplane.controllers.clients import ManagerClients
from controlplane.controllers.manager import Manager, assemble
from controlplane.controllers.options import parse
from machinery import pki
from machinery.api.catalogue import EVENTS, NODES, PODS
from machinery.api.meta import Object, format_time, is_deleting, key_of, name_of, namespace_of, uid_of
from machinery.api.resource import ResourceType
from machinery.cache.informer import Informer
from machinery.client.config import ClientConfig
from machinery.client.rest import STRATEGIC, Client
from machinery.clock import Clock, SystemClock
from machinery.errors import AlreadyExists, Conflict, Forbidden, NotFound

_MANAGER_TOKEN = "manager-token"


class LateClock(SystemClock):
    """A clock that can be put forward: `ahead` seconds."""

    ahead = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@dataclass
class Cluster:
    """What a story has at hand. `admin` may do everything."""

    admin: Client
    server: RunningServer
    directory: Path

    async def until(
        self, resource: ResourceType, fulfilled: Callable[[list[Object]], Any], namespace: str = "", seconds: float = 15
    ) -> list[Object]:
        """Wait until the objects of a type fulfil a condition; returns them."""
        found: list[Object] = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    listed = await self.admin.list(resource, namespace)
                    found = listed.items
                    if fulfilled(found):
                        return found
                    version = listed.resource_version
                    async for _ in self.admin.watch(resource, namespace, resource_version=version, timeout_seconds=20):
                        break
        except TimeoutError:
            raise AssertionError(f"never: {[o.get('status') or o for o in found]}") from None

    async def object(
        self, resource: ResourceType, name: str, fulfilled: Callable[[Object], Any], namespace: str = "default"
    ) -> Object:
        """Wait until one object is there and fulfils a condition; returns it."""

        def found(objects: list[Object]) -> Any:
            return any(name_of(o) == name and fulfilled(o) for o in objects)

        where = namespace if resource.namespaced else ""
        return next(o for o in await self.until(resource, found, where) if name_of(o) == name)

    async def gone(self, resource: ResourceType, name: str, namespace: str = "default") -> None:
        """Wait until an object is gone."""
        where = namespace if resource.namespaced else ""
        await self.until(resource, lambda objects: all(name_of(o) != name for o in objects), where)

    async def event(self, reason: str, namespace: str = "") -> Object:
        """Wait for an event; returns it."""
        events = await self.until(EVENTS, lambda found: any(e["reason"] == reason for e in found), namespace)
        return next(e for e in events if e["reason"] == reason)

    async def status(self, resource: ResourceType, name: str, status: Object, namespace: str = "default") -> Object:
        """Write part of an object's status."""
        where = namespace if resource.namespaced else ""
        return await self.admin.patch(resource, name, {"status": status}, where, subresource="status")

    async def node(self, name: str = "n1", *, ready: str = "True", **metadata: Any) -> Object:
        """A node that is Ready."""
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, **metadata}}
        await self.admin.create(NODES, node)
        return await self.node_ready(name, ready)

    async def node_ready(self, name: str, ready: str, clock: Clock | None = None) -> Object:
        """What the node says of itself now."""
        now = format_time((clock or SystemClock()).now())
        told = {"type": "Ready", "status": ready, "lastHeartbeatTime": now, "lastTransitionTime": now}
        status = {"conditions": [told]}
        return await self.admin.patch(NODES, name, {"status": status}, content_type=STRATEGIC, subresource="status")


@dataclass
class HollowNode:
    """Binds every pod to itself and says that it runs; what is deleted is gone at once.

    `phase_of(pod)` tells how a pod goes on: Running, Succeeded, Failed, or Pending to leave it be.
    """

    client: Client
    name: str = "n1"
    phase_of: Callable[[Object], str] = lambda _: "Running"
    _addresses: dict[str, str] = field(default_factory=dict)
    """By pod (uid): the cache may be behind, and a pod keeps its address however often it is said."""

    _queue: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def run(self) -> None:
        """Play until cancelled."""
        pods = Informer(self.client, PODS)
        pods.on_change(lambda old, new: self._queue.put_nowait(key_of(new)) if new is not None else None)
        async with asyncio.TaskGroup() as group:
            group.create_task(pods.run())
            while True:
                pod = pods.get(await self._queue.get())
                if pod is not None:
                    try:
                        await self._tend(pod)
                    except (NotFound, Conflict, AlreadyExists, Forbidden):
                        continue  # gone, changed, done already, or of a namespace that ends: it is looked at again

    async def _tend(self, pod: Object) -> None:
        name, namespace = name_of(pod), namespace_of(pod)
        phase = (pod.get("status") or {}).get("phase", "Pending")
        if is_deleting(pod):
            if phase == "Running" and pod["metadata"].get("finalizers"):
                await self._report(pod, "Failed")
            await self.client.delete(PODS, name, namespace, grace_seconds=0, uid=uid_of(pod))
            return
        wanted = self.phase_of(pod)
        if wanted == "Pending":
            return
        if not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": self.name}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
            await self.client.create_subresource(PODS, name, "binding", binding, namespace)
        if phase == "Pending":
            await self._report(pod, "Running")
        if wanted != "Running" and phase in ("Pending", "Running"):
            await self._report(pod, wanted)

    async def _report(self, pod: Object, phase: str) -> None:
        now = format_time(SystemClock().now())
        ready = "True" if phase == "Running" else "False"
        status: Object = {
            "phase": phase,
            "startTime": now,
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now}],
        }
        if phase == "Running":
            address = self._addresses.setdefault(uid_of(pod), f"10.1.0.{len(self._addresses) + 1}")
            status |= {"podIP": address, "podIPs": [{"ip": address}]}
        else:
            code = 0 if phase == "Succeeded" else 1
            state = {"terminated": {"exitCode": code, "finishedAt": now}}
            container = {"image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
            name = pod["spec"]["containers"][0]["name"]
            status["containerStatuses"] = [{"name": name, **container}]
        await self.client.patch(
            PODS, name_of(pod), {"status": status}, namespace_of(pod), content_type=STRATEGIC, subresource="status"
        )


def _settings(directory: Path) -> Settings:
    (directory / "tokens.csv").write_text(f"{_MANAGER_TOKEN},system:kube-controller-manager,manager\n")
    (directory / "sa.key").write_bytes(pki.key_pem(pki.new_key("ECDSA-P256")))
    key = str(directory / "sa.key")
    return Settings(
        token_auth_file=str(directory / "tokens.csv"),
        service_account_issuers=("https://kubernetes.default.svc",),
        service_account_key_files=(key,),
        service_account_signing_key_file=key,
        service_cluster_ip_ranges=("10.96.0.0/16",),
        authorization_modes=("Node", "RBAC"),
        endpoint_reconciler_type="none",
    )


def counted(metric: str, **labels: str) -> float:
    """What a metric of this process stands at."""
    return REGISTRY.get_sample_value(metric, labels) or 0.0


@asynccontextmanager
async def running_cluster() -> AsyncIterator[Cluster]:
    """An API server with authentication, RBAC and admission."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="navarch-test-")))
        factories = (authn.build, authz.build, admission.build)
        server = await stack.enter_async_context(running_apiserver(_settings(directory), factories=factories))
        config = ClientConfig(server.url, ca_data=server.ca, token=server.token)
        admin = await stack.enter_async_context(Client(config, user_agent="test"))
        yield Cluster(admin, server, directory)


def _arguments(cluster: Cluster, controllers: str, flags: dict[str, Any]) -> list[str]:
    ca = cluster.directory / "ca.crt"
    ca.write_bytes(cluster.server.ca)
    given = {"root-ca-file": ca, "service-account-private-key-file": cluster.directory / "sa.key"}
    given |= {name.replace("_", "-"): value for name, value in flags.items()}
    return [f"--controllers={controllers}", *(f"--{name}={value}" for name, value in given.items())]


@asynccontextmanager
async def cluster_manager(
    cluster: Cluster, controllers: str, clock: Clock | None = None, **flags: Any
) -> AsyncIterator[Manager]:
    """The manager with these controllers, each to act as its own ServiceAccount; not yet running."""
    config = ClientConfig(cluster.server.url, ca_data=cluster.server.ca, token=_MANAGER_TOKEN)
    clock = clock or SystemClock()
    async with ManagerClients(config, clock, own_accounts=True) as clients:
        yield assemble(parse(_arguments(cluster, controllers, flags)), clients, clock)


@asynccontextmanager
async def running_manager(
    cluster: Cluster, controllers: str, clock: Clock | None = None, **flags: Any
) -> AsyncIterator[Manager]:
    """The manager with these controllers, running."""
    async with cluster_manager(cluster, controllers, clock, **flags) as manager, background(manager.run()):
        yield manager


@asynccontextmanager
async def background(work: Any) -> AsyncIterator[None]:
    """Something that runs beside the story and must not fail before it ends."""
    task = asyncio.ensure_future(work)
    try:
        yield
        assert not task.done() or task.result() is None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def story(controllers: str, *, hollow: bool = True, **flags: Any) -> AsyncIterator[Cluster]:
    """Cluster, manager and hollow node together."""
    async with running_cluster() as cluster, running_manager(cluster, controllers, **flags):
        if not hollow:
            yield cluster
            return
        async with background(HollowNode(cluster.admin).run()):
            yield cluster


def pod_template(image: str = "web:1", **spec: Any) -> Object:
    """A pod template with labels app=web."""
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image}], **spec},
    }


def workload(resource: ResourceType, name: str, **spec: Any) -> Object:
    """An object with a selector for app=web and such a template."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": pod_template(), **spec},
    }
