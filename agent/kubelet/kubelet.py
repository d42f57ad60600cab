"""The kubelet: all its parts, run together until it is told to stop; containers go on without it.

Source: kubelet's Run.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Any

from agent.cri.client import CriClient
from agent.kubelet import assembly
from agent.kubelet.assembly import Parts, Run
from agent.kubelet.certificates.bootstrap import CLIENT, bootstrap
from agent.kubelet.certificates.requests import CLIENT_SIGNER, SERVING_SIGNER, Wanted
from agent.kubelet.certificates.rotation import Rotation
from agent.kubelet.certificates.store import CertificateStore, Held
from agent.kubelet.container.view import RuntimeView
from agent.kubelet.flags import Options
from agent.kubelet.node.lease import NodeLease
from agent.kubelet.pods.manager import PodManager
from agent.kubelet.pods.staticpods import StaticPods
from agent.kubelet.pods.staticurl import StaticUrl
from agent.kubelet.server.app import KubeletServer
from agent.kubelet.server.authn import Guard
from agent.kubelet.server.statistics import Statistics
from agent.kubelet.server.tls import server_context, serving_store
from agent.kubelet.server.volumestats import VolumeStatistics
from machinery.api.catalogue import NODES, PODS
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.clock import Clock, SystemClock
from machinery.errors import NavarchError
from machinery.serving import HealthServer


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
        host = await assembly.look_at_host(options)
        await bootstrap(options, self._clock)
        tls = server_context(settings, options.cert_dir, options.node_name, host.node.ips)
        async with contextlib.AsyncExitStack() as stack:
            runtime = CriClient(
                settings.runtime_endpoint, settings.image_endpoint, timeout_seconds=settings.runtime_timeout_seconds
            )
            cri = await stack.enter_async_context(runtime)
            client = None
            if options.kubeconfig:
                config = ClientConfig.from_kubeconfig(options.kubeconfig)
                client = await stack.enter_async_context(Client(config, user_agent="kubelet/v1.36"))
            parts = assembly.build(host, cri, client, self._clock, stack)
            if client is not None:
                parts.tasks |= self._rotations(client, tls, host.node.ips)
            self.manager = parts.manager
            async with asyncio.TaskGroup() as group:
                await parts.health.first(self._clock)
                if settings.enable_server:
                    guard = Guard(settings, client, options.node_name)
                    shown = _configuration(settings)
                    statistics = Statistics(parts.kit, VolumeStatistics(parts.manager.volumes_of))
                    server = KubeletServer(parts.kit, parts.manager, guard, statistics, shown, tls)
                    self.server = await stack.enter_async_context(server)
                await self._run_parts(stack, group, parts)

    def _rotations(self, client: Client, tls: ssl.SSLContext, ips: Sequence[str]) -> dict[str, Run]:
        """What keeps the kubelet's certificates fresh, where that is asked for."""
        options, settings = self._options, self._options.settings
        found: dict[str, Run] = {}
        own = CertificateStore(options.cert_dir, CLIENT)
        if settings.rotate_certificates and own.current() is not None:

            async def connect_with(held: Held) -> None:
                fresh = dataclasses.replace(client.config, client_certificate=held.pem, client_key=held.key_pem)
                await client.use_certificate(fresh)

            wanted = Wanted(options.node_name, CLIENT_SIGNER)
            found["client certificate"] = Rotation(client, own, wanted, self._clock, connect_with).run
        if settings.server_tls_bootstrap and not settings.tls_cert_file:
            store = serving_store(options.cert_dir)

            async def serve_with(held: Held) -> None:
                tls.load_cert_chain(store.current_path)

            wanted = Wanted(options.node_name, SERVING_SIGNER, (options.node_name, *ips))
            found["serving certificate"] = Rotation(client, store, wanted, self._clock, serve_with).run
        return found

    async def _run_parts(self, stack: contextlib.AsyncExitStack, group: asyncio.TaskGroup, parts: Parts) -> None:
        settings = self._options.settings
        if settings.healthz_port:
            checks = {"syncloop": _fresh(parts.view)}
            await stack.enter_async_context(
                HealthServer(settings.healthz_address, settings.healthz_port, checks=checks)
            )
        group.create_task(parts.health.run(self._clock), name="runtime health")
        for name, run in parts.tasks.items():
            group.create_task(_finish(run), name=name)
        registrar, client = parts.registrar, parts.client
        if registrar is not None and client is not None:
            parts.health.on_change(registrar.poke)
            group.create_task(registrar.run(), name="node status")
            lease = NodeLease(
                client, self._options.node_name, settings.lease_seconds, self._clock, lambda: registrar.node
            )

            async def beat() -> None:
                await registrar.registered.wait()  # the lease belongs to the node's object
                await lease.run()

            group.create_task(beat(), name="node lease")
        await self._follow_sources(stack, group, parts)
        group.create_task(parts.manager.run(), name="pods")

    async def _follow_sources(self, stack: contextlib.AsyncExitStack, group: asyncio.TaskGroup, parts: Parts) -> None:
        """Begin to hear of pods; nothing is decided before the runtime has been looked at once."""
        settings, node_name = self._options.settings, self._options.node_name
        manager, informers, registrar = parts.manager, parts.informers, parts.registrar
        if informers is not None:
            manager.expect("api")
        if settings.static_pod_path:
            manager.expect("file")
        if settings.static_pod_url:
            manager.expect("http")
        while parts.view.last_look == 0:
            await self._clock.sleep(0.05)
        if settings.static_pod_path:
            static = StaticPods(
                settings.static_pod_path, node_name, self._clock, partial(manager.static_changed, "file")
            )
            group.create_task(static.run(), name="static pods")
        if settings.static_pod_url:
            of_url = StaticUrl(settings, node_name, self._clock, partial(manager.static_changed, "http"))
            group.create_task(of_url.run(), name="static pods of a URL")
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


async def _finish(run: assembly.Run) -> None:
    await run()


def _fresh(view: RuntimeView) -> Any:
    async def check() -> None:
        if not view.is_fresh:
            raise NavarchError(f"the runtime can't be looked at: {view.look_error}")

    return check


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
