"""One API server: its parts put together, started and stopped.

async with ApiServer(settings, storage, factories) as server:
    await server.ready()
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from types import TracebackType
from typing import Self

from controlplane.apiserver import resources as served_resources
from controlplane.apiserver import runtimeconfig
from controlplane.apiserver.admitting import Admission
from controlplane.apiserver.aggregation.aggregator import Aggregator
from controlplane.apiserver.app import App
from controlplane.apiserver.audit.auditor import auditor
from controlplane.apiserver.authz.contract import Decision
from controlplane.apiserver.cacher.cacher import Cacher
from controlplane.apiserver.cacher.reader import CacheReader
from controlplane.apiserver.customresources.controller import CustomResources
from controlplane.apiserver.customresources.openapi import published
from controlplane.apiserver.etcdhealth import EtcdHealth
from controlplane.apiserver.exposition import Exposition
from controlplane.apiserver.flowcontrol.controller import FlowControl
from controlplane.apiserver.flowcontrol.statuses import keep_statuses
from controlplane.apiserver.gates import Gates
from controlplane.apiserver.handlers import parts
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.contract import Extensions, ExtensionsFactory, StartHook
from controlplane.apiserver.handlers.discovery import Discovery
from controlplane.apiserver.handlers.health import Check, Health, NotReady, well
from controlplane.apiserver.handlers.openapi import OpenAPI
from controlplane.apiserver.handlers.paths import VERSION, Paths
from controlplane.apiserver.handlers.zpages import ZPages
from controlplane.apiserver.http.server import HttpServer
from controlplane.apiserver.identity import Identity
from controlplane.apiserver.loopback import LoopbackClient
from controlplane.apiserver.objects import Objects
from controlplane.apiserver.pools import Pools
from controlplane.apiserver.request import RequestInfo, User
from controlplane.apiserver.routing import Router
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.storage.contract import Storage
from controlplane.apiserver.storage.measured import MeasuredStorage
from machinery.clock import Clock, SystemClock
from machinery.errors import NavarchError, SettingsError, first_error
from machinery.log import get_logger

log = get_logger(__name__)

_RETRY_SECONDS = 1.0
_BEGUN = (
    "apiservice-discovery-controller",
    "apiservice-openapi-controller",
    "apiservice-openapiv3-controller",
    "apiservice-registration-controller",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-wait-for-first-sync",
    "crd-informer-synced",
    "generic-apiserver-start-informers",
    "kube-apiserver-autoregistration",
    "start-apiserver-admission-initializer",
    "start-apiextensions-controllers",
    "start-apiextensions-informers",
    "start-cluster-authentication-info-controller",
    "start-kube-aggregator-informers",
    "start-service-ip-repair-controllers",
    "storage-object-count-tracker-hook",
    "storage-readiness",
)
_IDENTITY = (
    "peer-endpoint-reconciler-controller",  # by its Lease others know of this server
    "start-kube-apiserver-identity-lease-controller",
    "start-kube-apiserver-identity-lease-garbage-collector",
)


class ApiServer:
    """One API server. Enter it to serve; it is ready when `ready` returns."""

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        factories: Sequence[ExtensionsFactory] = (),
        *,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        prefix = settings.etcd_prefix.rstrip("/") + "/"
        self.storage = MeasuredStorage(storage, prefix)
        self._tls = tls
        self.cacher = Cacher(self.storage, prefix)
        self.resources = served_resources.built_in(runtimeconfig.disabled(settings.runtime_config))
        objects = Objects(self.cacher)
        self.reader = CacheReader(self.resources, objects)
        self.api = Api(settings, self.resources, objects, self.reader, clock or SystemClock(), self._authorize)
        self.loopback = LoopbackClient(self.api)
        self.custom = CustomResources(self.resources, self.reader, self.loopback, self.api.clock)
        self.aggregator = Aggregator(self.resources, self.reader, self.loopback, settings, self.api.clock)
        self._pools = Pools.of(settings, self.storage, self.cacher.prefix, self.reader, self.loopback, self.api.clock)
        self.api.allocator = self._pools.allocator
        extensions = Extensions(start_hooks=self._pools.start_hooks(), updates=parts.RULES)
        for factory in factories:
            extensions |= factory(settings, self.reader, self.loopback, self._authorize)
        self.api.extensions = extensions
        self.api.admission = Admission(tuple(extensions.admission))
        self._done: set[str] = set()
        self._ready = asyncio.Event()
        self._stopping = False
        self._identity = self._lease() if settings.etcd_servers else None  # without etcd there are no others to tell
        self.port = settings.secure_port
        self._flow = self._flow_control() if settings.enable_priority_and_fairness else None
        self._auditor = auditor(settings, self.api.clock)
        gates = Gates(self.api, self._flow, self._auditor)
        self._app = App(self.api, self._paths(), Router(self.resources), gates)
        self._group: asyncio.TaskGroup | None = None
        self._http: HttpServer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def _lease(self) -> Identity:
        settings = self.settings
        times = (settings.identity_lease_duration_seconds, settings.identity_lease_renew_interval_seconds)
        return Identity(self.loopback, self.reader, self.api.clock, socket.gethostname(), *times)

    def _flow_control(self) -> FlowControl:
        settings = self.settings
        seats = settings.max_requests_inflight + settings.max_mutating_requests_inflight
        return FlowControl(self.reader, seats, settings.request_timeout_seconds)

    def _paths(self) -> Paths:
        address = self.settings.external_hostname or self.settings.advertise_address or self.settings.bind_address
        return Paths(
            self.api,
            Discovery(self.resources, f"{address}:{self.settings.secure_port}", self.aggregator.remotes),
            self._health(),
            OpenAPI(self.resources, lambda: published(self.resources), self.aggregator.remotes),
            self.aggregator,
            Exposition(self.api, self.storage, self._flow, self._auditor),
            ZPages(self.api.clock, VERSION["gitVersion"].removeprefix("v"), dict(self.settings.flags)),
        )

    def _health(self) -> Health:
        async def shutdown() -> None:
            if self._stopping:
                raise NotReady("process is shutting down")

        async def registered() -> None:
            if not self.aggregator.registered:
                raise NotReady("missing APIService: not all groups are registered")

        etcd = cache(lambda seconds: EtcdHealth(self._ask_etcd, seconds, self.api.clock))
        checks: dict[str, Check] = {
            "ping": well,
            "log": well,
            "etcd": etcd(self.settings.etcd_healthcheck_seconds).check,
            "autoregister-completion": registered,
        }
        for name in (*self._begun(), *self.api.extensions.start_hooks):
            checks[f"poststarthook/{name}"] = self._hook_check(name)
        # Requests of the server to itself go by no connection: there is no certificate of theirs that could expire.
        live_only: dict[str, Check] = {"loopback-serving-certificate": well}
        readiness = etcd(self.settings.etcd_readycheck_seconds).check
        return Health(checks, {"etcd-readiness": readiness, "informer-sync": well, "shutdown": shutdown}, live_only)

    async def _ask_etcd(self) -> None:
        await self.storage.get(self.cacher.prefix + "health")

    def _begun(self) -> Sequence[str]:
        """What the server begins by itself, by the names of upstream's hooks; done once it serves."""
        flow = ("priority-and-fairness-config-consumer", "priority-and-fairness-filter") if self._flow else ()
        return (*_BEGUN, *flow, *(_IDENTITY if self._identity else ()))

    def _hook_check(self, name: str) -> Check:
        async def check() -> None:
            if name not in self._done:
                raise NotReady("not finished")

        return check

    async def _authorize(self, user: User, request: RequestInfo) -> tuple[bool, str]:
        """The decision of all authorisers together."""
        authorizers = self.api.extensions.authorizers
        reasons: list[str] = []
        for authorizer in authorizers:
            decision, reason = await authorizer.authorize(user, request)
            if decision is Decision.ALLOW:
                return True, reason
            if decision is Decision.DENY:
                return False, reason
            if reason:
                reasons.append(reason)
        return not authorizers, "\n".join(reasons)

    async def __aenter__(self) -> Self:
        """Read storage, follow it, listen.

        Raises:
            StorageUnavailable: storage can't be read.
            SettingsError: the address can't be had.
        """
        await self.cacher.start()
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._spawn(self.cacher.run)
        try:
            await self._listen()
        except BaseException:
            await self._stop_tasks(None, None, None)
            raise
        for name, hook in self.api.extensions.start_hooks.items():
            self._spawn(self._hook_runner(name, hook))
        self._spawn(self.custom.run)
        self._spawn(self.aggregator.run)
        self._spawn(self._pools.repair.run)
        if self._auditor is not None and self._auditor.webhook is not None:
            self._spawn(self._auditor.webhook.run)
        flow = self._flow
        if flow is not None:
            self._spawn(flow.adjust_regularly)
            self._spawn(lambda: keep_statuses(flow, self.reader, self.loopback, self.api.clock))
        if self._pools.service is not None and self._pools.announced:
            self._spawn(self._pools.service.run)
        if self._identity is not None:
            self._spawn(self._identity.keep)
            self._spawn(self._identity.collect)
        self._done.update(self._begun())
        self._announce()
        return self

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        assert self._group is not None
        self._tasks.append(self._group.create_task(_awaited(work)))

    def _hook_runner(self, name: str, hook: StartHook) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            while (reason := await _attempt(hook, self.loopback, self.reader)) is not None:
                log.warning("start hook failed; trying again", hook=name, reason=reason)
                await asyncio.sleep(_RETRY_SECONDS)
            self._done.add(name)
            self._announce()

        return run

    def _announce(self) -> None:
        if self._done >= self.api.extensions.start_hooks.keys():
            self._ready.set()

    async def ready(self) -> None:
        """Wait until all start hooks are done."""
        await self._ready.wait()

    async def _listen(self) -> None:
        self._http = HttpServer(self._app.handle)
        host = self.settings.bind_address
        try:
            self.port = await self._http.listen(host, self.settings.secure_port, self._tls)
        except OSError as exc:
            why = "address already in use" if exc.errno == errno.EADDRINUSE else str(exc.strerror or exc)
            told = f"--secure-port: cannot listen on {host}:{self.settings.secure_port}: {why}"
            raise SettingsError(told) from exc

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say that the server is not ready; after the delay asked for stop listening, finish requests, end watches."""
        self._stopping = True
        if self._http is not None:
            if self.settings.shutdown_delay_seconds and (kind is None or kind is asyncio.CancelledError):
                with contextlib.suppress(asyncio.CancelledError):  # a second signal: at once
                    await asyncio.sleep(self.settings.shutdown_delay_seconds)
            await self._finish(self._http)
        await self._stop_tasks(kind, error, trace)
        if self._auditor is not None:
            self._auditor.close()

    async def _finish(self, http: HttpServer) -> None:
        """Serve what is there, and nothing else."""
        settings = self.settings
        if settings.shutdown_send_retry_after:
            self._app.refusing = True
        else:
            http.stop_listening()
        await http.drain(settings.request_timeout_seconds, settings.shutdown_watch_termination_grace_seconds)

    async def _stop_tasks(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        follower, *others = self._tasks  # what the others do at their end still needs the cache
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        follower.cancel()
        assert self._group is not None
        try:
            await self._group.__aexit__(kind, error, trace)
        finally:
            for close in self.api.extensions.closers:
                await close()


async def _attempt(hook: StartHook, loopback: LoopbackClient, reader: CacheReader) -> str | None:
    """Run a hook; why it failed, or None."""
    try:
        await hook(loopback, reader)
    except NavarchError as exc:
        return str(exc)
    except BaseExceptionGroup as group:
        first = first_error(group)
        if first is None:
            raise
        return str(first)
    return None


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()
