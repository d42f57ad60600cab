"""Building the proxy from its options, and running it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from aiohttp import web

from agent.proxy import configuration, kernel, modes, writing
from agent.proxy.cache import shrink_service, shrink_slice
from agent.proxy.configuration import ProxyConfiguration
from agent.proxy.errors import BackendError
from agent.proxy.family import FamilyState
from agent.proxy.filewatch import until_written
from agent.proxy.flags import Options
from agent.proxy.health import HealthzServer, ProxyHealth
from agent.proxy.healthchecks import HealthCheckServers
from agent.proxy.model import Family
from agent.proxy.planning import HEADLESS_LABEL, PROXY_NAME_LABEL
from agent.proxy.proxier import Proxier
from agent.proxy.settings import RuleSettings
from agent.proxy.thisnode import ThisNode, health_check_addresses, node_name, own_addresses, rule_settings
from agent.proxy.validation import MODES
from machinery import collector
from machinery.api.catalogue import ENDPOINTSLICES, NODES, SERVICECIDRS, SERVICES
from machinery.api.meta import Object, is_deleting
from machinery.cache.informer import Informer, Informers
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.clock import SystemClock
from machinery.errors import SettingsError
from machinery.events import EventRecorder
from machinery.log import get_logger
from machinery.serving import HealthServer

log = get_logger(__name__)

_SELECTOR = f"!{PROXY_NAME_LABEL},!{HEADLESS_LABEL}"
_BIND_SECONDS = 5.0
_RANGES_SECONDS = 0.5  # how long the first sync waits for the ServiceCIDRs, which an older server may not have


async def run(options: Options) -> None:
    """Be kube-proxy until cancelled, or do once what the options ask for."""
    wanted = options.configuration
    if options.write_config_to:
        writing.write(wanted, options.write_config_to)
        return
    if options.cleanup:
        if not await modes.clean_up(MODES):
            raise BackendError("not everything could be removed; the log says what")
        return
    kernel.apply_conntrack(wanted.conntrack, os.cpu_count() or 1)
    if wanted.mode == "iptables" and wanted.localhost_node_ports:
        kernel.write("ipv4/conf/all/route_localnet", 1)
    if options.init_only:
        return
    await modes.require(wanted.mode)
    kernel.set_oom_score_adjustment(wanted.oom_score_adj)
    async with Client(_client_config(options), user_agent="kube-proxy") as client:
        await _Assembly(wanted, client).run(options.config_file)


def _client_config(options: Options) -> ClientConfig:
    path, master = options.configuration.kubeconfig, options.master
    if path:
        config = ClientConfig.from_kubeconfig(path)
        return replace(config, server=master) if master else config
    return ClientConfig(server=master) if master else ClientConfig.in_cluster()


class _Assembly:
    def __init__(self, wanted: ProxyConfiguration, client: Client) -> None:
        self.wanted = wanted
        self.client = client
        self.name = node_name(wanted)
        self.informers = Informers(client)
        self.services = self.informers.of(SERVICES, label_selector=_SELECTOR, transform=shrink_service)
        self.slices = self.informers.of(ENDPOINTSLICES, label_selector=_SELECTOR, transform=shrink_slice)
        self.nodes = self.informers.of(NODES, field_selector=f"metadata.name={self.name}")
        self.ranges = self.informers.of(SERVICECIDRS)
        self.clock = SystemClock()
        self.health = ProxyHealth(self.clock, late_seconds=2 * wanted.sync_seconds)
        self.recorder = EventRecorder(client, component="kube-proxy", host=self.name)
        self.fallback = own_addresses(wanted, client.config.server)

    async def run(self, config_file: str) -> None:
        async with asyncio.TaskGroup() as group:
            if config_file:
                group.create_task(until_written(config_file, self.clock))
            if self.wanted.serves_healthz:
                group.create_task(self._serve(self._healthz))
            if self.wanted.serves_metrics:
                group.create_task(self._serve(self._metrics))
            group.create_task(self._proxy())

    async def _serve(self, make: Callable[[], AbstractAsyncContextManager[object]]) -> None:
        """Serve until cancelled. An address that is not to be had is no reason not to proxy, unless that is wanted."""
        while True:
            try:
                async with make():
                    await asyncio.Event().wait()
            except SettingsError as error:
                if self.wanted.bind_address_hard_fail:
                    raise
                log.error("cannot serve, trying again", error=error, seconds=_BIND_SECONDS)
            await self.clock.sleep(_BIND_SECONDS)

    async def _proxy(self) -> None:
        async with self.informers:
            await asyncio.gather(self.services.synced(), self.slices.synced(), self.nodes.synced())
            await _at_most(_RANGES_SECONDS, self.ranges)
            node = self._this_node()
            addresses = await health_check_addresses(self._families(), self.wanted, node, kernel.addresses)
            async with HealthCheckServers(self.health, addresses, self.recorder, self.name) as health_checks:
                proxier = self._proxier(health_checks, node)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.recorder.run())
                    group.create_task(proxier.run())
                    group.create_task(self._when_started(proxier))

    def _proxier(self, health_checks: HealthCheckServers, node: ThisNode) -> Proxier:
        mode = self.wanted.mode
        families = []
        for family in self._families():
            settings = self._settings(family, node)
            families.append(FamilyState(settings, modes.make_backend(mode, settings), modes.failures_of(mode)))
        proxier = Proxier(
            services=self.services,
            slices=self.slices,
            families=families,
            node=node.view,
            health=self.health,
            recorder=self.recorder,
            clock=self.clock,
            sync_seconds=self.wanted.sync_seconds,
            min_sync_seconds=self.wanted.min_sync_seconds,
            on_health_checks=health_checks.sync,
        )
        proxier.watch()
        self.nodes.on_change(lambda old, new: self._node_changed(proxier, new))
        self.ranges.on_change(lambda old, new: self._node_changed(proxier, self.nodes.get(self.name)))
        return proxier

    def _families(self) -> Sequence[Family]:
        return list(Family) if kernel.has_ipv6() else [Family.IPV4]

    def _this_node(self) -> ThisNode:
        node = self.nodes.get(self.name)
        if node is None:
            log.warning("there is no Node object of this name; going on without", node=self.name, ips=self.fallback)
        return ThisNode.of(self.name, node, self.fallback)

    def _settings(self, family: Family, node: ThisNode) -> RuleSettings:
        return rule_settings(family, self.wanted, node, self._service_ranges())

    def _service_ranges(self) -> list[str]:
        live = [r for r in self.ranges.list() if not is_deleting(r)]
        return [str(cidr) for r in live for cidr in (r.get("spec") or {}).get("cidrs") or ()]

    def _node_changed(self, proxier: Proxier, node: Object | None) -> None:
        self.health.see_node(node)
        this = ThisNode.of(self.name, node, self.fallback)
        proxier.set_node(this.view)
        proxier.set_settings(self._settings(family, this) for family in self._families())

    async def _when_started(self, proxier: Proxier) -> None:
        """Remove other modes' rules only once our own are there, so that a change of mode leaves no gap."""
        await proxier.started()
        collector.settled()
        await modes.clean_up(modes.others(self.wanted.mode))

    def _healthz(self) -> HealthzServer:
        host, port = configuration.host_port(
            self.wanted.healthz_bind_address or self._default_host("0.0.0.0", "::"), configuration.HEALTHZ_PORT
        )
        return HealthzServer(self.health, host, port)

    def _metrics(self) -> HealthServer:
        host, port = configuration.host_port(
            self.wanted.metrics_bind_address or self._default_host("127.0.0.1", "::1"), configuration.METRICS_PORT
        )
        server = HealthServer(host, port, config={"kubeproxy.config.k8s.io": writing.document(self.wanted)})
        server.app.router.add_get("/proxyMode", self._tell_mode)
        return server

    async def _tell_mode(self, request: web.Request) -> web.Response:
        return web.Response(text=self.wanted.mode, headers={"X-Content-Type-Options": "nosniff"})

    def _default_host(self, ipv4: str, ipv6: str) -> str:
        return ipv6 if ":" in self.wanted.bind_address else ipv4


async def _at_most(seconds: float, informer: Informer) -> None:
    try:
        async with asyncio.timeout(seconds):
            await informer.synced()
    except TimeoutError:
        log.info("going on without", resource=informer.resource.group_resource)
