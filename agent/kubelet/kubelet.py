"""The kubelet put together: every part built once, in the order in which they need each other, and run.

Source: kubelet's NewMainKubelet and Run.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import ssl
from collections.abc import Iterable, Sequence
from typing import Any

from agent.cri.client import CriClient
from agent.kubelet.backoff import Backoff
from agent.kubelet.cgroups.hierarchy import Hierarchy
from agent.kubelet.cgroups.pods import PodCgroups
from agent.kubelet.container.errors import StartError
from agent.kubelet.container.images import ImageManager
from agent.kubelet.container.view import RuntimeView
from agent.kubelet.flags import Options
from agent.kubelet.kit import Kit, NodeFacts
from agent.kubelet.node import capacity, machine
from agent.kubelet.node.lease import NodeLease
from agent.kubelet.node.registrar import NodeInputs, NodeRegistrar
from agent.kubelet.node.runtimehealth import RuntimeHealth
from agent.kubelet.pods.allocation import Allocations
from agent.kubelet.pods.manager import PodManager
from agent.kubelet.pods.mirror import Mirrors
from agent.kubelet.pods.staticpods import StaticPods
from agent.kubelet.pods.statusmanager import StatusManager
from agent.kubelet.probes.handlers import Handlers
from agent.kubelet.probes.manager import ProbeManager
from agent.kubelet.references import References
from agent.kubelet.runtimeclass import RuntimeClasses
from agent.kubelet.server.app import KubeletServer
from agent.kubelet.server.authn import Guard
from agent.kubelet.server.statistics import Statistics
from agent.kubelet.server.tls import server_context
from agent.kubelet.slots import Slots
from agent.kubelet.telling import Teller
from agent.kubelet.volumes.manager import VolumeManager
from agent.kubelet.volumes.persistent import PersistentVolumes
from agent.kubelet.volumes.projection import Sources
from agent.kubelet.volumes.tokens import Tokens
from machinery.api.catalogue import NODES, PODS, SERVICES
from machinery.api.meta import Object
from machinery.cache.informer import Informer, Informers
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.clock import Clock, SystemClock
from machinery.errors import NavarchError, SettingsError
from machinery.events import EventRecorder
from machinery.log import get_logger
from machinery.serving import HealthServer

log = get_logger(__name__)

_CRASH_SECONDS = 10.0
_OWN_DIRS = ("pods", "plugins", "plugins_registry", "seccomp")


class Kubelet:
    """One node's agent. `await run()` until cancelled; containers go on."""

    def __init__(self, options: Options, clock: Clock | None = None) -> None:
        self._options = options
        self._clock = clock or SystemClock()
        self.manager: PodManager | None = None
        self.server: KubeletServer | None = None

    async def run(self) -> None:
        """Build everything and run it. Raises SettingsError for what can't work."""
        options, settings = self._options, self._options.settings
        _make_directories(options.root_dir, settings.pod_logs_dir)
        facts = await asyncio.to_thread(machine.read_machine)
        if settings.fail_swap_on and facts.swap_bytes:
            raise SettingsError(
                "running with swap on is not supported, please disable swap or set --fail-swap-on=false"
            )
        ips = await asyncio.to_thread(machine.default_address, options.node_ips)
        has = capacity.capacity(facts, settings, _disk_bytes(options.root_dir))
        may_use = capacity.allocatable(has, settings)
        cgroups = PodCgroups(settings, Hierarchy.detect())
        limit = may_use if settings.enforce_allocatable else has
        cgroups.set_up(limit["cpu"].milli_value(), has["memory"].value() - _reserved_memory(settings))
        node = NodeFacts(options.node_name, facts.memory_bytes, ips, may_use)
        inputs = NodeInputs(options, facts, ips, has, may_use)
        tls = server_context(settings, options.cert_dir, options.node_name, ips)
        async with contextlib.AsyncExitStack() as stack:
            cri = await stack.enter_async_context(
                CriClient(
                    settings.runtime_endpoint, settings.image_endpoint, timeout_seconds=settings.runtime_timeout_seconds
                )
            )
            client = None
            if options.kubeconfig:
                config = ClientConfig.from_kubeconfig(options.kubeconfig)
                client = await stack.enter_async_context(Client(config, user_agent="kubelet/v1.36"))
            await self._run_with(stack, cri, client, cgroups, node, inputs, tls)

    async def _run_with(
        self,
        stack: contextlib.AsyncExitStack,
        cri: CriClient,
        client: Client | None,
        cgroups: PodCgroups,
        node: NodeFacts,
        inputs: NodeInputs,
        tls: ssl.SSLContext,
    ) -> None:
        options, settings = self._options, self._options.settings
        informers = Informers(client) if client is not None else None
        recorder = EventRecorder(client, component="kubelet", host=options.node_name) if client is not None else None
        teller = Teller(recorder)
        health = RuntimeHealth(cri, node)
        view = RuntimeView(cri, lambda uid: manager.runtime_changed(uid))
        handlers = Handlers(cri)
        stack.push_async_callback(handlers.close)
        probes = ProbeManager(handlers, teller, lambda uid: manager.probe_changed(uid), self._clock)
        stack.push_async_callback(probes.close)
        references = References(client, informers, lambda uid: manager.reference_changed(uid))
        tokens = Tokens(client)
        images = ImageManager(
            cri,
            options.root_dir,
            parallel=settings.parallel_pulls,
            qps=settings.pull_qps,
            burst=settings.pull_burst,
        )
        stack.push_async_callback(images.close)
        registrar = self._registrar(client, cri, inputs, health, view)
        mirrors = Mirrors(client, lambda: registrar.node if registrar is not None else None)
        services = informers.of(SERVICES) if informers is not None else None
        kit = Kit(
            settings=settings,
            root_dir=options.root_dir,
            node=node,
            clock=self._clock,
            cri=cri,
            view=view,
            images=images,
            volumes=VolumeManager(options.root_dir, Sources(references, tokens), PersistentVolumes(client)),
            tokens=tokens,
            references=references,
            handlers=handlers,
            probes=probes,
            statuses=StatusManager(client, mirrors.get),
            cgroups=cgroups,
            teller=teller,
            crashes=Backoff(min(_CRASH_SECONDS, settings.crash_loop_max_seconds), settings.crash_loop_max_seconds),
            slots=Slots(max(2, os.cpu_count() or 1)),
            runtime_classes=RuntimeClasses(client),
            services=lambda: _known_services(services),
            allocations=Allocations(options.root_dir),
            active_pods=lambda: manager.active_pods,
        )
        manager = self.manager = PodManager(kit, mirrors, lambda: (registrar.node if registrar else None) or {})
        async with asyncio.TaskGroup() as group:
            await health.first(self._clock)
            if settings.enable_server:
                guard = Guard(settings, client, options.node_name)
                shown = _configuration(settings)
                server = KubeletServer(kit, manager, guard, Statistics(kit), shown, tls)
                self.server = await stack.enter_async_context(server)
            if settings.healthz_port:
                checks = {"syncloop": _fresh(view)}
                await stack.enter_async_context(
                    HealthServer(settings.healthz_address, settings.healthz_port, checks=checks)
                )
            group.create_task(health.run(self._clock), name="runtime health")
            group.create_task(view.run(), name="runtime view")
            group.create_task(kit.statuses.run(), name="pod statuses")
            if recorder is not None:
                group.create_task(recorder.run(), name="events")
            if registrar is not None and client is not None:
                health.on_change(registrar.poke)
                group.create_task(registrar.run(), name="node status")
                lease = NodeLease(
                    client, options.node_name, settings.lease_seconds, self._clock, lambda: registrar.node
                )

                async def beat() -> None:
                    await registrar.registered.wait()  # the lease belongs to the node's object
                    await lease.run()

                group.create_task(beat(), name="node lease")
            await self._follow_sources(stack, group, manager, view, informers, registrar)
            group.create_task(manager.run(), name="pods")

    def _registrar(
        self, client: Client | None, cri: CriClient, inputs: NodeInputs, health: RuntimeHealth, view: RuntimeView
    ) -> NodeRegistrar | None:
        if client is None:
            return None

        async def problems() -> Sequence[str]:
            return health.problems(view)

        return NodeRegistrar(client, cri, inputs, self._clock, problems, frozenset)

    async def _follow_sources(
        self,
        stack: contextlib.AsyncExitStack,
        group: asyncio.TaskGroup,
        manager: PodManager,
        view: RuntimeView,
        informers: Informers | None,
        registrar: NodeRegistrar | None,
    ) -> None:
        """Begin to hear of pods; nothing is decided before the runtime has been looked at once."""
        settings, node_name = self._options.settings, self._options.node_name
        if informers is not None:
            manager.expect("api")
        if settings.static_pod_path:
            manager.expect("file")
        while view.last_look == 0:
            await self._clock.sleep(0.05)
        if settings.static_pod_path:
            static = StaticPods(settings.static_pod_path, node_name, self._clock, manager.static_changed)
            group.create_task(static.run(), name="static pods")
        if informers is None or registrar is None:
            return
        await stack.enter_async_context(informers)

        async def follow_api() -> None:
            # Admission needs the node's own labels and taints.
            await registrar.registered.wait()
            own = informers.of(NODES, field_selector=f"metadata.name={node_name}")
            own.on_change(registrar.seen)
            pods = informers.of(PODS, field_selector=f"spec.nodeName={node_name}")
            pods.on_change(manager.api_changed)
            await pods.synced()
            manager.ready("api")

        group.create_task(follow_api(), name="pods of the API server")


def _known_services(informer: Informer | None) -> Iterable[Object]:
    if informer is None:
        return ()
    if not informer.has_synced:
        raise StartError("services have not yet been read at least once, cannot construct envvars")
    return informer.list()


def _fresh(view: RuntimeView) -> Any:
    async def check() -> None:
        if not view.is_fresh:
            raise NavarchError(f"the runtime can't be looked at: {view.look_error}")

    return check


def _make_directories(root_dir: str, pod_logs_dir: str) -> None:
    try:
        os.makedirs(root_dir, mode=0o700, exist_ok=True)
        for name in _OWN_DIRS:
            os.makedirs(os.path.join(root_dir, name), mode=0o750, exist_ok=True)
        os.makedirs(pod_logs_dir, mode=0o755, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"cannot make {error.filename}: {error.strerror}") from error


def _disk_bytes(path: str) -> int:
    found = machine.disk(path)
    return found.f_blocks * found.f_frsize


def _reserved_memory(settings: Any) -> int:
    reserved = capacity.reservations(settings).get("memory")
    return reserved.value() if reserved is not None else 0


def _configuration(settings: Any) -> dict[str, Any]:
    """The configuration in effect, by field path, for /configz."""
    shown: dict[str, Any] = {"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1"}
    for field in dataclasses.fields(settings):
        node = shown
        *above, name = field.metadata["path"].split(".")
        for part in above:
            node = node.setdefault(part, {})
        node[name] = getattr(settings, field.name)
    return shown
