"""The loop: what changed in the API -> what must be true -> the backends, at once and for nothing but what changed.

Informers' callbacks only note which Service is touched.  The loop takes all that are noted, plans them anew, and
gives each family's backend the difference.  When a backend fails, or somebody else has been at the rules, it gets
everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from agent.proxy import metrics
from agent.proxy.cache import trigger_time
from agent.proxy.conntrack import StaleFlows, clear_left_behind, clear_stale, stale_flows
from agent.proxy.errors import BackendError
from agent.proxy.family import FamilyState
from agent.proxy.health import ProxyHealth
from agent.proxy.model import HealthCheck, NodeView, PortRules, ServicePlan, ServicePortName
from agent.proxy.planning import plan_service, service_key_of_slice
from agent.proxy.settings import RuleSettings
from machinery.api.meta import Object, key_of, parse_time
from machinery.cache.informer import Informer
from machinery.clock import Clock
from machinery.events import EventRecorder
from machinery.log import get_logger

log = get_logger(__name__)

SERVICE_INDEX = "service"

HealthCheckSink = Callable[[Mapping[str, HealthCheck]], Awaitable[None]]
"""Is told after every round which health check node ports there are, and what they answer."""

_COALESCE_SECONDS = 0.002  # for what comes in together to be carried out together
_FIRST_RETRY_SECONDS = 0.5
_LONGEST_RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Changes:
    rules: dict[ServicePortName, PortRules | None]
    flows: list[StaleFlows]


class Proxier:
    """Keeps this node's rules as Services and EndpointSlices say."""

    def __init__(
        self,
        *,
        services: Informer,
        slices: Informer,
        families: Sequence[FamilyState],
        node: NodeView,
        health: ProxyHealth,
        recorder: EventRecorder,
        clock: Clock,
        sync_seconds: float,
        min_sync_seconds: float = 0.0,
        on_health_checks: HealthCheckSink | None = None,
    ) -> None:
        self._services, self._slices = services, slices
        self._families = families
        self._node = node
        self._health = health
        self._recorder = recorder
        self._clock = clock
        self._sync_seconds, self._min_sync_seconds = sync_seconds, min_sync_seconds
        self._on_health_checks = on_health_checks
        self._dirty: set[str] = set()
        self._triggers: list[tuple[str, str]] = []  # of slices: address type, when what they tell of happened
        self._wake = asyncio.Event()
        self._started = asyncio.Event()  # everything has been carried out once
        slices.add_index(SERVICE_INDEX, lambda piece: [key] if (key := service_key_of_slice(piece)) else [])

    async def started(self) -> None:
        """Wait until everything has been carried out once."""
        await self._started.wait()

    def watch(self) -> None:
        """Begin to take notice of changes: once, before the informers run."""
        self._services.on_change(self._service_changed)
        self._slices.on_change(self._slice_changed)

    def set_node(self, node: NodeView) -> None:
        """This node is another than was thought: everything is planned anew."""
        if node != self._node:
            self._node = node
            self._all_dirty()

    def set_settings(self, settings: Iterable[RuleSettings]) -> None:
        """Other settings for some families: their rules are made anew."""
        for new in settings:
            for state in self._families:
                if state.family is new.family and state.settings != new:
                    state.settings = new
                    state.backend.configure(new)
                    state.stale = True
                    self._wake.set()

    def _all_dirty(self) -> None:
        self._dirty.update(key_of(service) for service in self._services.list())
        self._queue()

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        metrics.SERVICE_CHANGES.inc()
        metrics.SERVICE_CHANGES_PENDING.inc()
        self._dirty.add(key_of(new or old or {}))
        self._queue()

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        metrics.ENDPOINT_CHANGES.inc()
        metrics.ENDPOINT_CHANGES_PENDING.inc()
        touched = {service_key_of_slice(piece) for piece in (old, new) if piece is not None} - {None}
        if new is not None and (changed := trigger_time(new)) and self._services.has_synced:
            self._triggers.append((str(new.get("addressType")), changed))
        if touched:
            self._dirty.update(key for key in touched if key is not None)
            self._queue()

    @property
    def _node_reference(self) -> Object:
        name = self._node.name
        return {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "uid": name}}

    def _queue(self) -> None:
        self._health.queued()
        for state in self._families:
            metrics.LAST_QUEUED.labels(state.family.api_name).set_to_current_time()
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled. The informers must have synced."""
        self._recorder.normal(self._node_reference, "Starting", "")
        delay = _FIRST_RETRY_SECONDS
        while True:
            try:
                await self._round()
                delay = _FIRST_RETRY_SECONDS
            except BackendError as error:
                log.error("rules could not be written, trying again", error=error, seconds=delay)
                await self._clock.sleep(delay)
                delay = min(delay * 2, _LONGEST_RETRY_SECONDS)
                continue
            await self._next()

    async def _next(self) -> None:
        """Wait for something to do: a change, or the time to see whether the rules are still ours."""
        if self._min_sync_seconds:
            await self._clock.sleep(self._min_sync_seconds)
        while not self._wake.is_set():
            try:
                async with asyncio.timeout(self._sync_seconds):
                    await self._wake.wait()
            except TimeoutError:
                await self._look_after()
        await asyncio.sleep(_COALESCE_SECONDS)

    async def _look_after(self) -> None:
        for state in self._families:
            try:
                disturbed = await state.backend.disturbed()
            except BackendError as error:
                log.error("rules could not be read", error=error, family=state.family.api_name)
                disturbed = True
            if disturbed:
                state.stale = True
                self._wake.set()
        await self._serve_health_checks()

    async def _round(self) -> None:
        self._wake.clear()
        keys, self._dirty = self._dirty, set()
        metrics.SERVICE_CHANGES_PENDING.set(0)
        metrics.ENDPOINT_CHANGES_PENDING.set(0)
        triggers, self._triggers = self._triggers, []
        changes = {state.family: self._plan(state, keys) for state in self._families}
        errors = []
        for state in self._families:
            try:
                refused = await state.carry_out(changes[state.family].rules)
                self._tell_refused(refused)
            except BackendError as error:
                errors.append(error)
                continue
            if self._started.is_set():
                await clear_stale(state.family, changes[state.family].flows)
            else:
                await clear_left_behind(state.family, state.rules)
        if errors:
            self._recorder.warning(self._node_reference, "SyncProxyRulesFailed", str(errors[0]))
            raise errors[0]
        self._started.set()
        await self._serve_health_checks()
        if not self._dirty:
            self._health.updated()
        _observe_programming(triggers, self._clock.now())

    def _tell_refused(self, refused: Mapping[ServicePortName, str]) -> None:
        for name, reason in refused.items():
            log.error("a service's rules are refused, going on without them", service=name.service, reason=reason)
            service = self._services.get(name.service)
            if service is not None:
                self._recorder.warning(service, "FailedToProxy", f"port {name.port or name.protocol}: {reason}")

    def _plan(self, state: FamilyState, keys: Iterable[str]) -> _Changes:
        rules: dict[ServicePortName, PortRules | None] = {}
        flows: list[StaleFlows] = []
        for key in keys:
            service = self._services.get(key)
            plan = ServicePlan()
            if service is not None:
                plan = plan_service(service, self._slices.by_index(SERVICE_INDEX, key), self._node, state.family)
                for problem in state.new_problems(key, plan):
                    log.warning("part of a service can't be proxied", service=key, problem=problem)
                    self._recorder.warning(service, "FailedToProxy", problem)
            before = state.of_service(key)
            changed = state.take(key, plan)
            for name, new in changed.items():
                flows += stale_flows(state.family, before.get(name), new)
            rules |= changed
        return _Changes(rules, flows)

    async def _serve_health_checks(self) -> None:
        if self._on_health_checks is not None:
            await self._on_health_checks(
                {k: check for state in self._families for k, check in state.health_checks.items()}
            )


def _observe_programming(triggers: Iterable[tuple[str, str]], now: datetime) -> None:
    for family, moment in triggers:
        try:
            seconds = (now - parse_time(moment)).total_seconds()
        except ValueError:
            continue
        metrics.PROGRAMMING_SECONDS.labels(family).observe(max(0.0, seconds))
