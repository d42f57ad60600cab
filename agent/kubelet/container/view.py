"""The kubelet's view of the runtime: what is there, kept up to date, with a call for each pod that changed.

A container's status in one state never changes, so it is asked for once for each state; a look at everything costs two
calls. Looks happen every second, soon after an exit is expected, and at once where the runtime sends events. What the
kubelet itself has just made is noted directly and not lost to a look that began earlier.

Source: kubelet's PLEG; KEP-3386 (evented PLEG).
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from agent.cri import api_pb2 as pb
from agent.cri.client import CriClient
from agent.cri.errors import CriError, CriNotFound, CriUnimplemented
from agent.kubelet import metrics
from agent.kubelet.container import identity, termination
from agent.kubelet.container.model import CREATED, EXITED, RUNNING, UNKNOWN, Container, RuntimePod, Sandbox
from machinery.log import get_logger

log = get_logger(__name__)

_STATES = {
    pb.CONTAINER_CREATED: CREATED,
    pb.CONTAINER_RUNNING: RUNNING,
    pb.CONTAINER_EXITED: EXITED,
    pb.CONTAINER_UNKNOWN: UNKNOWN,
}

_PERIOD_SECONDS = 1.0
_PERIOD_WITH_EVENTS_SECONDS = 60.0
_HINTED_SECONDS = (0.05, 0.1, 0.2, 0.4)  # after an exit is expected: looks this far apart
_PARALLEL_STATUSES = 8
UNHEALTHY_SECONDS = 180.0  # upstream's relistThreshold


@dataclass(frozen=True, slots=True)
class _Owner:
    uid: str
    name: str
    namespace: str


@dataclass(frozen=True, slots=True)
class _Entry:
    owner: _Owner
    item: Container | Sandbox
    noted_at: float  # time.monotonic()


class RuntimeView:
    """What the runtime holds, by pod uid. `on_change(uid)` is called after each change and must not block."""

    def __init__(self, cri: CriClient, on_change: Callable[[str], None], *, prefers_ipv6: bool = False) -> None:
        self._cri = cri
        self._prefers_ipv6 = prefers_ipv6
        self._on_change = on_change
        self._entries: dict[str, _Entry] = {}
        self._pods: dict[str, RuntimePod] = {}
        self._hint = asyncio.Event()
        self._slots = asyncio.Semaphore(_PARALLEL_STATUSES)
        self._looking = asyncio.Lock()
        self._period_seconds = _PERIOD_SECONDS
        self._began_at = 0.0  # the last look, too
        self.last_look: float = 0.0  # time.monotonic() of the last complete look
        self.look_error: str = ""

    @property
    def pods(self) -> Mapping[str, RuntimePod]:
        """Every pod with anything in the runtime, by uid."""
        return self._pods

    def pod(self, uid: str, name: str = "", namespace: str = "") -> RuntimePod:
        """What the runtime holds of this pod; an empty one if nothing."""
        return self._pods.get(uid) or RuntimePod(uid, name, namespace)

    @property
    def is_fresh(self) -> bool:
        """Whether the last look is recent enough to be believed."""
        return self.last_look > 0 and time.monotonic() - self.last_look < UNHEALTHY_SECONDS

    def expect_exit(self) -> None:
        """Look more often for a moment: something that was started may end at once."""
        self._hint.set()

    # -- looking -----------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Compare with the runtime now. Raises CriError."""
        async with self._looking:
            began = time.monotonic()
            if self.last_look:
                metrics.PLEG_INTERVAL.observe(began - self._began_at)
            self._began_at = began
            metrics.PLEG_LAST_SEEN.set(time.time())
            sandboxes, containers = await asyncio.gather(self._cri.list_pod_sandboxes(), self._cri.list_containers())
            seen = set()
            async with asyncio.TaskGroup() as group:
                for sandbox in sandboxes:
                    seen.add(sandbox.id)
                    if identity.POD_UID in sandbox.labels and not self._knows_sandbox(sandbox):
                        group.create_task(self._fetch_sandbox(sandbox.id))
                for container in containers:
                    seen.add(container.id)
                    if identity.POD_UID in container.labels and not self._knows_container(container):
                        group.create_task(self._fetch_container(container.id, container.pod_sandbox_id))
            gone = [i for i, entry in self._entries.items() if i not in seen and entry.noted_at < began]
            self._forget(gone)
            self.last_look = time.monotonic()
            metrics.PLEG_RELIST.observe(self.last_look - began)

    async def run(self) -> None:
        """Keep looking until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_regularly())
            group.create_task(self._follow_events())

    async def _look_regularly(self) -> None:
        hints: list[float] = []
        while True:
            try:
                await self.look()
                self.look_error = ""
            except CriError as error:
                if not self.look_error:
                    log.error("cannot look at the runtime", error=error)
                self.look_error = str(error)
                hints = []
            except ExceptionGroup as group:  # of the look's own tasks; what is no CriError is a defect and goes on
                _, rest = group.split(CriError)
                if rest is not None:
                    raise
                self.look_error = str(group.exceptions[0])
            pause = hints.pop(0) if hints else self._period_seconds
            try:
                async with asyncio.timeout(pause):
                    await self._hint.wait()
                # Not at once: a burst of starts shares its looks.
                await asyncio.sleep(_HINTED_SECONDS[0])
            except TimeoutError:
                pass
            if self._hint.is_set():
                self._hint.clear()
                hints = list(_HINTED_SECONDS)

    async def _follow_events(self) -> None:
        while True:
            try:
                metrics.EVENTED_PLEG.inc()
                async for event in self._cri.container_events():
                    self._period_seconds = _PERIOD_WITH_EVENTS_SECONDS
                    await self._take_event(event)
            except CriUnimplemented:
                return
            except CriError as error:
                metrics.EVENTED_PLEG_ERRORS.inc()
                log.debug("runtime events interrupted", err=str(error))
            self._period_seconds = _PERIOD_SECONDS
            await asyncio.sleep(_PERIOD_SECONDS)

    async def _take_event(self, event: pb.ContainerEventResponse) -> None:
        is_sandbox = event.pod_sandbox_status.id == event.container_id
        if event.container_event_type == pb.CONTAINER_DELETED_EVENT:
            self._forget([event.container_id])
        elif is_sandbox:
            await self._fetch_sandbox(event.container_id)
        else:
            await self._fetch_container(event.container_id)

    # -- taking in ---------------------------------------------------------------------------------------------------

    async def note_sandbox(self, sandbox_id: str) -> None:
        """Take in a sandbox that was just made or stopped. Raises CriError."""
        await self._fetch_sandbox(sandbox_id)

    async def note_container(self, container_id: str, sandbox_id: str = "") -> None:
        """Take in a container that was just made, started or stopped. Raises CriError."""
        await self._fetch_container(container_id, sandbox_id)

    def note_removed(self, item_id: str) -> None:
        """A sandbox or container was just removed."""
        self._forget([item_id])

    def _knows_sandbox(self, seen: pb.PodSandbox) -> bool:
        entry = self._entries.get(seen.id)
        return (
            entry is not None
            and isinstance(entry.item, Sandbox)
            and entry.item.ready == (seen.state == pb.SANDBOX_READY)
        )

    def _knows_container(self, seen: pb.Container) -> bool:
        entry = self._entries.get(seen.id)
        return (
            entry is not None
            and isinstance(entry.item, Container)
            and entry.item.state == _STATES.get(seen.state, UNKNOWN)
        )

    async def _fetch_sandbox(self, sandbox_id: str) -> None:
        async with self._slots:
            try:
                status = (await self._cri.pod_sandbox_status(sandbox_id)).status
            except CriNotFound:
                self._forget([sandbox_id])
                return
        if identity.POD_UID in status.labels:
            self._take(_owner(status.labels), to_sandbox(status, prefers_ipv6=self._prefers_ipv6))

    async def _fetch_container(self, container_id: str, sandbox_id: str = "") -> None:
        entry = self._entries.get(container_id)
        if entry is not None and isinstance(entry.item, Container):
            sandbox_id = entry.item.sandbox_id
        async with self._slots:
            try:
                status = (await self._cri.container_status(container_id)).status
                if not sandbox_id:
                    sandbox_id = await self._sandbox_of(container_id, status.labels)
            except CriNotFound:
                self._forget([container_id])
                return
        if identity.POD_UID in status.labels:
            self._take(_owner(status.labels), to_container(status, sandbox_id))

    async def _sandbox_of(self, container_id: str, labels: Mapping[str, str]) -> str:
        # A container's status doesn't say which sandbox it is in; the list does.
        uid = labels.get(identity.POD_UID)
        found = await self._cri.list_containers({identity.POD_UID: uid}) if uid else []
        return next((c.pod_sandbox_id for c in found if c.id == container_id), "")

    def _take(self, owner: _Owner, item: Container | Sandbox) -> None:
        old = self._entries.get(item.id)
        self._entries[item.id] = _Entry(owner, item, time.monotonic())
        if old is None or old.item != item:
            self._rebuild([owner])

    def _forget(self, ids: Iterable[str]) -> None:
        owners = [entry.owner for i in ids if (entry := self._entries.pop(i, None)) is not None]
        self._rebuild(owners)

    def _rebuild(self, owners: Iterable[_Owner]) -> None:
        for owner in set(owners):
            items = [entry.item for entry in self._entries.values() if entry.owner.uid == owner.uid]
            items.sort(key=lambda item: item.created_at, reverse=True)
            if items:
                self._pods[owner.uid] = RuntimePod(
                    owner.uid,
                    owner.name,
                    owner.namespace,
                    tuple(item for item in items if isinstance(item, Sandbox)),
                    tuple(item for item in items if isinstance(item, Container)),
                )
            else:
                self._pods.pop(owner.uid, None)
            self._on_change(owner.uid)


def _owner(labels: Mapping[str, str]) -> _Owner:
    return _Owner(labels[identity.POD_UID], labels.get(identity.POD_NAME, ""), labels.get(identity.POD_NAMESPACE, ""))


def pod_addresses(found: Iterable[str], *, prefers_ipv6: bool) -> tuple[str, ...]:
    """The addresses that a pod has for others: the first of each family, that of the node's own family first."""
    first: dict[int, str] = {}
    for text in found:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            log.warning("the runtime gave a pod what is no address", address=text)
            continue
        first.setdefault(address.version, str(address))
    return tuple(first[version] for version in sorted(first, reverse=prefers_ipv6))


def to_sandbox(status: pb.PodSandboxStatus, *, prefers_ipv6: bool = False) -> Sandbox:
    """Our value for the runtime's sandbox status."""
    ips = [status.network.ip, *(ip.ip for ip in status.network.additional_ips)]
    return Sandbox(
        id=status.id,
        ready=status.state == pb.SANDBOX_READY,
        attempt=status.metadata.attempt,
        created_at=status.created_at,
        ips=pod_addresses([ip for ip in ips if ip], prefers_ipv6=prefers_ipv6),
        host_network=status.linux.namespaces.options.network == pb.NODE,
        runtime_handler=status.runtime_handler,
    )


def to_container(status: pb.ContainerStatus, sandbox_id: str) -> Container:
    """Our value for the runtime's container status; reads the termination message of one that has ended."""
    annotations = dict(status.annotations)
    state = _STATES.get(status.state, UNKNOWN)
    return Container(
        id=status.id,
        name=status.labels.get(identity.CONTAINER_NAME, status.metadata.name),
        sandbox_id=sandbox_id,
        state=state,
        created_at=status.created_at,
        restart_count=identity.integer(annotations, identity.RESTART_COUNT),
        hash=annotations.get(identity.CONTAINER_HASH, ""),
        image=status.image.image,
        image_ref=status.image_ref,
        image_id=status.image_id,
        started_at=status.started_at,
        finished_at=status.finished_at,
        exit_code=status.exit_code,
        reason=status.reason,
        message=termination.message_of(status) if state == EXITED else status.message,
        log_path=status.log_path,
        annotations=annotations,
        resources=status.resources.linux if status.HasField("resources") else None,
        user=status.user.linux if status.HasField("user") else None,
    )
