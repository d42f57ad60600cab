"""One active replica among several, by a Lease.

The holder renews the Lease; the others watch it and take it over when it has not been renewed for its duration by
their own clocks (so that clocks need not agree), or at once when it is released.  A leader that could not renew in time
stops by itself before others take over: `guard` refuses its writes from that moment on, even when the process was
frozen and has just come back.

Source: client-go tools/leaderelection; KEP-589; coordination.k8s.io/v1 Lease.
"""

from __future__ import annotations

import asyncio
import math
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from machinery import metrics
from machinery.api import meta
from machinery.api.catalogue import LEASES
from machinery.api.meta import Object
from machinery.client.rest import Client
from machinery.clock import Clock, SystemClock
from machinery.errors import AlreadyExists, Conflict, NavarchError, NotFound, SettingsError, StatusError, TransportError
from machinery.log import get_logger

log = get_logger(__name__)

_HEALTHY_SECONDS = 20.0  # beyond the lease duration; upstream's LeaderHealthzAdaptor
_SPREAD_SECONDS = 0.2  # standbys do not all try in the same moment


class LeadershipLost(NavarchError):
    """This replica no longer leads; nothing may be written on its authority."""


@dataclass(frozen=True)
class Timing:
    """How long things take; upstream's defaults. Seconds."""

    lease_seconds: float = 15.0
    renew_seconds: float = 10.0
    retry_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not self.lease_seconds > self.renew_seconds > self.retry_seconds > 0:
            raise SettingsError(
                "leader election: lease duration must exceed renew deadline, and that the retry period: "
                f"{self.lease_seconds:g}s, {self.renew_seconds:g}s, {self.retry_seconds:g}s"
            )


class LeaderElection:
    """One candidate for one Lease."""

    def __init__(
        self,
        client: Client,
        *,
        identity: str,
        name: str,
        namespace: str = "kube-system",
        timing: Timing | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`identity` (mostly the host name) is made unique by a suffix."""
        self._client = client
        self._identity = f"{identity}_{uuid.uuid4()}"
        self._name, self._namespace = name, namespace
        self._timing = timing or Timing()
        self._clock = clock or SystemClock()
        self._seen: Object | None = None
        self._seen_at = 0.0  # monotonic: when `_seen` last changed
        self._changed = asyncio.Event()
        self._written: Object | None = None  # the Lease as the last write left it, if that succeeded
        self._unanswered = False  # whether a write was sent whose outcome is not known
        self._renewed_at = -math.inf
        self._leading = metrics.LEADER.labels(name)

    @property
    def identity(self) -> str:
        """Who this candidate is in the Lease."""
        return self._identity

    @property
    def is_leader(self) -> bool:
        """Whether this candidate may act now."""
        return self._clock.monotonic() - self._renewed_at < self._timing.renew_seconds

    def guard(self) -> None:
        """Raise LeadershipLost unless this candidate may act now: the `write_guard` of the leader's client."""
        if not self.is_leader:
            raise LeadershipLost(f"{self._identity} no longer holds the lease {self._namespace}/{self._name}")

    async def check(self) -> None:
        """Whether a leader still renews, for /healthz. Raises LeadershipLost if it has not for too long."""
        silent = self._clock.monotonic() - self._renewed_at
        if self._renewed_at > -math.inf and silent > self._timing.lease_seconds + _HEALTHY_SECONDS:
            raise LeadershipLost(f"failed election to renew leadership on lease {self._name}")

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for leadership, then run `lead` until it ends or leadership is lost (LeadershipLost).

        The Lease is released however this ends, so that a standby can act at once.
        """
        self._leading.set(0)
        try:
            await self._wait_for_leadership()
            log.info("became leader", lease=f"{self._namespace}/{self._name}", identity=self._identity)
            self._leading.set(1)
            await self._lead(lead)
        finally:
            self._leading.set(0)
            await self._release()

    async def _wait_for_leadership(self) -> None:
        watcher = asyncio.create_task(self._watch())
        try:
            await self._acquire()
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    async def _lead(self, lead: Callable[[], Awaitable[None]]) -> None:
        leading = asyncio.ensure_future(lead())
        renewing = asyncio.create_task(self._renew())
        try:
            await asyncio.wait({leading, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (renewing, leading):
                task.cancel()
            await asyncio.gather(renewing, leading, return_exceptions=True)
        for task in (leading, renewing):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _acquire(self) -> None:
        while True:
            self._changed.clear()  # before the attempt: what the watch tells during it must not be forgotten
            if await self._try():
                return
            wait = self._timing.retry_seconds
            if self._held_by_another():
                held = self._seen_at + self._lease_duration() - self._clock.monotonic()
                wait = min(max(held, 0.05), self._timing.lease_seconds)
            try:
                async with asyncio.timeout(wait + random.uniform(0, _SPREAD_SECONDS)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(self._timing.retry_seconds)
            deadline = self._renewed_at + self._timing.renew_seconds
            while not await self._try():
                if self._held_by_another() or self._clock.monotonic() >= deadline:
                    raise LeadershipLost(f"{self._identity} lost the lease {self._namespace}/{self._name}")
                await self._clock.sleep(min(self._timing.retry_seconds, 0.5))

    async def _try(self) -> bool:
        """One attempt to take or renew the Lease. A renewal counts from before it was sent."""
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._timing.renew_seconds):
                taken = await self._put()
        except (NotFound, AlreadyExists, Conflict, TransportError, TimeoutError) as exc:
            log.debug("lease not taken", lease=self._name, err=str(exc))
            return False
        except StatusError as exc:
            log.warning("lease not taken", lease=f"{self._namespace}/{self._name}", err=str(exc))
            return False
        if taken:
            self._renewed_at = began
        return taken

    async def _put(self) -> bool:
        try:
            lease = self._written if self._written is not None and self.is_leader else await self._read()
        except NotFound:
            await self._write(self._client.create(LEASES, self._new(), self._namespace))
            return True
        self._observe(lease)
        if self._held_by_another() and self._clock.monotonic() < self._seen_at + self._lease_duration():
            return False
        spec = lease.get("spec") or {}
        now = meta.format_micro_time(self._clock.now())
        fresh = {"renewTime": now, "leaseDurationSeconds": max(1, round(self._timing.lease_seconds))}
        if spec.get("holderIdentity") != self._identity:
            fresh |= {
                "holderIdentity": self._identity,
                "acquireTime": now,
                "leaseTransitions": spec.get("leaseTransitions", 0) + 1,
            }
        await self._write(self._client.update(LEASES, {**lease, "spec": spec | fresh}))
        return True

    def _new(self) -> Object:
        now = meta.format_micro_time(self._clock.now())
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": max(1, round(self._timing.lease_seconds)),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }

    async def _release(self) -> None:
        """Give the Lease up, if it is ours.

        A write whose answer was cut off (mostly by the cancellation that ends the term) may have been stored, or may be
        yet: only then is the Lease read first, and a conflict is looked into, not taken for another's lease.
        """
        self._renewed_at = -math.inf
        try:
            async with asyncio.timeout(self._timing.renew_seconds):
                lease = await self._read() if self._unanswered else self._seen
                while lease is not None and (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                    spec = lease["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1}
                    try:
                        await self._client.update(LEASES, {**lease, "spec": spec})
                        return
                    except Conflict:
                        lease = await self._read()
        except NotFound:
            return
        except (StatusError, TransportError, TimeoutError) as exc:
            log.info("lease not released; it runs out by itself", lease=self._name, err=str(exc))

    async def _read(self) -> Object:
        return await self._client.get(LEASES, self._name, self._namespace)

    async def _write(self, write: Awaitable[Object]) -> None:
        self._unanswered, self._written = True, None
        try:
            self._written = await write
            self._observe(self._written)
        except StatusError:
            self._unanswered = False
            raise
        self._unanswered = False

    async def _watch(self) -> None:
        """See changes of the Lease as they happen, so that a release is acted on at once."""
        while True:
            try:
                events = self._client.watch(
                    LEASES, self._namespace, field_selector=f"metadata.name={self._name}", timeout_seconds=300
                )
                async for event in events:
                    if event.type in ("ADDED", "MODIFIED"):
                        self._observe(event.object)
                        if not self._held_by_another():
                            self._changed.set()
                    elif event.type == "DELETED":
                        self._changed.set()
            except (StatusError, TransportError) as exc:
                log.debug("lease watch interrupted", lease=self._name, err=str(exc))
                await self._clock.sleep(self._timing.retry_seconds)

    def _observe(self, lease: Object) -> None:
        if self._seen is not None and _is_older(lease, self._seen):
            return  # an answer overtaken by what the watch told
        if self._seen is None or self._seen.get("spec") != lease.get("spec"):
            self._seen_at = self._clock.monotonic()
        self._seen = lease

    def _held_by_another(self) -> bool:
        holder = (self._seen or {}).get("spec", {}).get("holderIdentity")
        return bool(holder) and holder != self._identity

    def _lease_duration(self) -> float:
        return float((self._seen or {}).get("spec", {}).get("leaseDurationSeconds") or self._timing.lease_seconds)


def _is_older(lease: Object, seen: Object) -> bool:
    """Whether `lease` is an earlier state of the same object. Source: KEP-5504, comparable resource versions."""
    if meta.uid_of(lease) != meta.uid_of(seen):
        return False
    return int(lease["metadata"]["resourceVersion"]) < int(seen["metadata"]["resourceVersion"])
