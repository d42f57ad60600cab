"""Graceful node shutdown: systemd waits while the kubelet ends the pods, ordinary ones first, critical ones after them.

The kubelet holds a delay lock of logind, and looks every second whether a shutdown is being prepared. Both go through
systemd's own programs, for there is no other client of the system bus here.

Source: Node Shutdowns; KEP-2000, KEP-2712; kubelet's nodeshutdown; messages as there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.command import CommandError, run
from agent.kubelet.kit import Kit
from agent.kubelet.pods import conditions, spec
from agent.kubelet.pods.status import Verdict
from agent.kubelet.settings import Settings
from machinery.api import meta
from machinery.api.meta import Object
from machinery.errors import SettingsError
from machinery.log import get_logger

log = get_logger(__name__)

REASON, MESSAGE = "Terminated", "Pod was terminated in response to imminent node shutdown."
REFUSED = Verdict("NodeShutdown", "Pod was rejected as the node is shutting down.")
_POLL_SECONDS = 1.0
_HELD_SECONDS = 10 * 365 * 86400.0
_BUS = ("busctl", "--system", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1")
_PREPARING = (*_BUS, "org.freedesktop.login1.Manager", "PreparingForShutdown")
_MOST_DELAY = (*_BUS, "org.freedesktop.login1.Manager", "InhibitDelayMaxUSec")
_INHIBIT = (
    "systemd-inhibit",
    "--what=shutdown",
    "--mode=delay",
    "--who=kubelet",
    "--why=Kubelet needs time to handle node shutdown",
    "sleep",
    "infinity",
)

End = Callable[[str, Verdict, float], bool]


@dataclass(frozen=True, slots=True)
class Group:
    """The pods of at least this priority (and less than the next group's) have so many seconds to end."""

    priority: int
    seconds: float


def groups(settings: Settings) -> list[Group]:
    """The groups of a configuration, in the order in which they go; none: nothing is delayed. Raises SettingsError."""
    found = []
    for entry in settings.shutdown_by_priority:
        seconds = entry.get("shutdownGracePeriodSeconds")
        if not isinstance(entry.get("priority"), int) or not isinstance(seconds, int) or seconds < 0:
            raise SettingsError("shutdownGracePeriodByPodPriority: priority and shutdownGracePeriodSeconds are needed")
        found.append(Group(entry["priority"], float(seconds)))
    total, critical = settings.shutdown_seconds, settings.shutdown_critical_seconds
    if total:
        found = [Group(0, total - critical), Group(spec.SYSTEM_CRITICAL_PRIORITY, critical)]
    return sorted(found, key=lambda group: group.priority)


def members(pods: Sequence[Object], of: Sequence[Group]) -> list[tuple[Group, list[Object]]]:
    """The pods of each group; those below the lowest belong to it."""
    found: list[tuple[Group, list[Object]]] = [(group, []) for group in of]
    for pod in pods:
        priority = int(pod["spec"].get("priority") or 0)
        index = max((i for i, group in enumerate(of) if group.priority <= priority), default=0)
        found[index][1].append(pod)
    return found


class Shutdown:
    """Waits for the node to be shut down. One for the whole kubelet."""

    def __init__(self, kit: Kit, end: End, report: Callable[[], None]) -> None:
        """`report` is called when the node begins to shut down. Raises SettingsError."""
        self._kit, self._end, self._report = kit, end, report
        self._groups = groups(kit.settings)
        self.is_under_way = False

    def refuse(self, _: Object) -> Verdict | None:
        """Why a new pod is not taken."""
        return REFUSED if self.is_under_way else None

    async def run(self) -> None:
        """Hold shutdowns back until cancelled; nothing to do where no time is configured."""
        if not self._groups:
            return
        await self._check_delay()
        while True:
            lock = asyncio.create_task(_hold())
            try:
                await self._until(preparing=True)
                log.warning("node is shutting down")
                await self.end_pods()
            finally:
                lock.cancel()  # logind goes on when the lock is gone
                await asyncio.gather(lock, return_exceptions=True)
            await self._until(preparing=False)  # a shutdown that was called off
            self.is_under_way = False
            self._report()

    async def _check_delay(self) -> None:
        wanted = sum(group.seconds for group in self._groups)
        told = (await run(*_MOST_DELAY, check=True)).text.split()
        longest = int(told[-1]) / 1e6 if told and told[-1].isdigit() else 0.0
        if longest < wanted:
            raise SettingsError(
                f"shutdownGracePeriod: logind waits {longest:g} s only: InhibitDelayMaxSec={wanted:g} is needed"
            )

    async def _until(self, *, preparing: bool) -> None:
        while True:
            try:
                if (await run(*_PREPARING, check=True)).text.strip().endswith("true") == preparing:
                    return
            except CommandError as error:
                log.error("cannot ask logind whether the node shuts down", err=str(error))
            await self._kit.clock.sleep(_POLL_SECONDS)

    async def end_pods(self) -> None:
        """End all pods, group by group, each within its time."""
        self.is_under_way = True
        self._report()
        for group, pods in members(self._kit.active_pods(), self._groups):
            told = conditions.make(conditions.DISRUPTION_TARGET, True, "TerminationByKubelet", MESSAGE)
            for pod in pods:
                own = float(pod["spec"].get("terminationGracePeriodSeconds") or 0)
                self._kit.teller.pod(pod, "Warning", REASON, MESSAGE)
                self._end(meta.uid_of(pod), Verdict(REASON, MESSAGE, (told,)), min(own, group.seconds))
            await self._wait({meta.uid_of(pod) for pod in pods}, group.seconds)

    async def _wait(self, uids: set[str], seconds: float) -> None:
        began = self._kit.clock.monotonic()
        while self._kit.clock.monotonic() - began < seconds:
            if not any(self._kit.view.pod(uid).has_live_parts for uid in uids):
                return
            await self._kit.clock.sleep(0.1)


async def _hold() -> None:
    try:
        await run(*_INHIBIT, timeout_seconds=_HELD_SECONDS)
    except CommandError as error:
        log.error("cannot delay shutdowns", err=str(error))
