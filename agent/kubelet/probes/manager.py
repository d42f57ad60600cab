"""Probing running containers: a task for each probe of each container that runs, none for any other.

Source: kubelet's prober (worker.go, prober_manager.go); Container API, Probe.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import Counter

from agent.kubelet.container.model import RUNNING, Container, RuntimePod
from agent.kubelet.pods import spec
from agent.kubelet.probes.handlers import UNKNOWN, WARNING, Handlers, Outcome, Target
from agent.kubelet.telling import Teller
from machinery.api import meta
from machinery.api.meta import Object
from machinery.clock import Clock

STARTUP, LIVENESS, READINESS = "startup", "liveness", "readiness"
_FIELDS = {STARTUP: "startupProbe", LIVENESS: "livenessProbe", READINESS: "readinessProbe"}
_TRIES = 3  # of a probe that could not be done at all

PROBES_TOTAL = Counter(
    "prober_probe_total",
    "Cumulative number of a liveness, readiness or startup probe for a container by result.",
    ["probe_type", "result", "container", "pod", "namespace"],
)


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe with its defaults."""

    handler: Object
    initial_delay_seconds: float
    timeout_seconds: float
    period_seconds: float
    success_threshold: int
    failure_threshold: int

    @classmethod
    def of(cls, probe: Object) -> Probe:
        """From the API's form."""
        return cls(
            probe,
            float(probe.get("initialDelaySeconds") or 0),
            float(probe.get("timeoutSeconds") or 1),
            float(probe.get("periodSeconds") or 10),
            int(probe.get("successThreshold") or 1),
            int(probe.get("failureThreshold") or 3),
        )


@dataclass(slots=True)
class _Watched:
    """The probes of one container that runs."""

    pod_uid: str
    name: str
    verdicts: dict[str, bool] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    task: asyncio.Task[None] | None = None
    ends: asyncio.Event = field(default_factory=asyncio.Event)  # the pod is ending: readiness alone goes on


class ProbeManager:
    """All probes of this node. `on_change(pod uid)` is called when a verdict changes and must not block."""

    def __init__(self, handlers: Handlers, teller: Teller, on_change: Callable[[str], None], clock: Clock) -> None:
        self._handlers = handlers
        self._teller = teller
        self._on_change = on_change
        self._clock = clock
        self._watched: dict[str, _Watched] = {}

    # -- verdicts ----------------------------------------------------------------------------------------------------

    def startup(self, container_id: str) -> bool | None:
        """What the startup probe said; None for nothing yet."""
        return self._verdict(container_id, STARTUP)

    def liveness(self, container_id: str) -> bool | None:
        """What the liveness probe said; None for nothing yet."""
        return self._verdict(container_id, LIVENESS)

    def _verdict(self, container_id: str, kind: str) -> bool | None:
        watched = self._watched.get(container_id)
        return watched.verdicts.get(kind) if watched is not None else None

    def is_started(self, pod: Object, name: str, container_id: str) -> bool:
        """Whether a running container counts as started."""
        container = spec.find_container(pod, name)
        if container is None or not container.get(_FIELDS[STARTUP]):
            return True
        if container_id not in self._watched:
            return bool(_before_restart(pod, container_id).get("started"))
        return self.startup(container_id) is True

    def is_ready(self, pod: Object, name: str, container_id: str) -> bool:
        """Whether a running, started container is ready."""
        container = spec.find_container(pod, name)
        if container is None or not container.get(_FIELDS[READINESS]):
            return True
        if container_id not in self._watched:
            return bool(_before_restart(pod, container_id).get("ready"))
        return self._verdict(container_id, READINESS) is True

    # -- following pods ----------------------------------------------------------------------------------------------

    def follow(self, pod: Object, runtime: RuntimePod, shown: Object) -> None:
        """Probe the containers of this pod that run; `shown` is the pod's status so far.

        What was ready before the kubelet started again stays ready until a probe says otherwise.
        """
        uid = meta.uid_of(pod)
        running = {c.id: c for c in runtime.containers if c.state == RUNNING}
        for container_id, watched in list(self._watched.items()):
            if watched.pod_uid == uid and container_id not in running:
                self._drop(container_id)
        ip = runtime.ips[0] if runtime.ips else _host_ip(pod, shown)
        for container_id, status in running.items():
            container = spec.find_container(pod, status.name)
            if container_id in self._watched or container is None:
                continue
            kinds = tuple(kind for kind, name in _FIELDS.items() if container.get(name))
            if kinds:
                self._start(pod, container, status, ip, kinds, shown)

    def _start(
        self, pod: Object, container: Object, status: Container, ip: str, kinds: tuple[str, ...], shown: Object
    ) -> None:
        watched = _Watched(meta.uid_of(pod), status.name, kinds=kinds)
        before = _status_of(shown, status.id)
        if before is not None:
            if STARTUP in kinds and before.get("started"):
                watched.verdicts[STARTUP] = True
            if READINESS in kinds and before.get("ready"):
                watched.verdicts[READINESS] = True
        self._watched[status.id] = watched
        target = Target(pod, container, status.id, ip)
        watched.task = asyncio.create_task(
            self._probe_container(watched, target, status, resumed=before is not None),
            name=f"probes {meta.key_of(pod)} {status.name}",
        )

    def ending(self, uid: str) -> None:
        """The pod is being terminated: no more liveness and startup probes."""
        for watched in self._watched.values():
            if watched.pod_uid == uid:
                watched.ends.set()

    def forget_pod(self, uid: str) -> None:
        """The pod is gone."""
        for container_id, watched in list(self._watched.items()):
            if watched.pod_uid == uid:
                self._drop(container_id)

    def _drop(self, container_id: str) -> None:
        watched = self._watched.pop(container_id)
        if watched.task is not None:
            watched.task.cancel()

    async def close(self) -> None:
        """Stop all probes."""
        tasks = [watched.task for watched in self._watched.values() if watched.task is not None]
        for task in tasks:
            task.cancel()
        self._watched.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- probing -----------------------------------------------------------------------------------------------------

    async def _probe_container(self, watched: _Watched, target: Target, status: Container, *, resumed: bool) -> None:
        probes = {kind: Probe.of(target.container[_FIELDS[kind]]) for kind in watched.kinds}
        if STARTUP in probes and watched.verdicts.get(STARTUP) is not True:
            await self._repeat(STARTUP, probes[STARTUP], watched, target, status, resumed=resumed)
            if watched.verdicts.get(STARTUP) is not True:
                return  # to be killed
        async with asyncio.TaskGroup() as group:
            for kind in (LIVENESS, READINESS):
                if kind in probes:
                    group.create_task(self._repeat(kind, probes[kind], watched, target, status, resumed=resumed))

    async def _repeat(
        self, kind: str, probe: Probe, watched: _Watched, target: Target, status: Container, *, resumed: bool
    ) -> None:
        """Probe until there is nothing more to learn: a startup probe that passed, or a failure that kills."""
        age = max(0.0, self._clock.now().timestamp() - status.started_at / 1e9)
        wait = max(0.0, probe.initial_delay_seconds - age)
        if resumed:
            # After a restart of the kubelet not all at once.
            wait = max(wait, random.uniform(0, probe.period_seconds))
        if wait:
            await self._clock.sleep(wait)
        last, run = None, 0
        while not (kind != READINESS and watched.ends.is_set()):
            began = self._clock.monotonic()
            passed = await self._probe_once(kind, probe, target)
            if passed is not None:
                run = run + 1 if passed == last else 1
                last = passed
                if run >= (probe.success_threshold if passed else probe.failure_threshold):
                    self._decide(kind, watched, passed=passed)
                    if (kind != READINESS and not passed) or (kind == STARTUP and passed):
                        return
            await self._clock.sleep(max(0.0, probe.period_seconds - (self._clock.monotonic() - began)))

    def _decide(self, kind: str, watched: _Watched, *, passed: bool) -> None:
        if watched.verdicts.get(kind) != passed:
            watched.verdicts[kind] = passed
            self._on_change(watched.pod_uid)

    async def _probe_once(self, kind: str, probe: Probe, target: Target) -> bool | None:
        """True, False, or None when the probe could not be done."""
        outcome = Outcome(UNKNOWN)
        for _ in range(_TRIES):
            outcome = await self._handlers.run(probe.handler, target, probe.timeout_seconds)
            if outcome.result != UNKNOWN:
                break
        pod, name, title = target.pod, target.container["name"], kind.capitalize()
        counted = {True: "successful", False: "failed"}[outcome.passed] if outcome.result != UNKNOWN else "unknown"
        PROBES_TOTAL.labels(title, counted, name, meta.name_of(pod), meta.namespace_of(pod)).inc()
        if outcome.result == UNKNOWN:
            told = f"{title} probe errored and resulted in unknown state: {outcome.output}"
            self._teller.pod(pod, "Warning", "Unhealthy", told, container=name)
            return None
        if outcome.result == WARNING:
            self._teller.pod(pod, "Warning", "ProbeWarning", f"{title} probe warning: {outcome.output}", container=name)
        elif not outcome.passed:
            self._teller.pod(pod, "Warning", "Unhealthy", f"{title} probe failed: {outcome.output}", container=name)
        return outcome.passed


def _before_restart(pod: Object, container_id: str) -> Mapping[str, object]:
    """What the API shows of a container that isn't probed yet: after a restart of the kubelet that still holds."""
    return _status_of(pod.get("status") or {}, container_id) or {}


def _status_of(shown: Object, container_id: str) -> Mapping[str, object] | None:
    """The entry of a status that is about exactly this container."""
    for section in ("containerStatuses", "initContainerStatuses"):
        for status in shown.get(section) or ():
            if str(status.get("containerID", "")).endswith("/" + container_id):
                return status  # type: ignore[no-any-return]
    return None


def _host_ip(pod: Object, shown: Object) -> str:
    return str(shown.get("hostIP") or (pod.get("status") or {}).get("hostIP") or "127.0.0.1")
