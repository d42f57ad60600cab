"""What is seen from outside while something goes wrong: who leads, and whether a service answers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from following import Following
from lab_images import BUSYBOX

from machinery.api.catalogue import LEASES
from machinery.client.config import ClientConfig
from machinery.client.rest import Client

if TYPE_CHECKING:
    from live_lab import LiveLab

COMPONENTS = ("kube-controller-manager", "kube-scheduler")
_AGAIN = timedelta(seconds=5)  # a failure that comes later than this is another trouble
_CLOCK = timedelta(seconds=1)  # times of a Lease are told by different processes


@dataclass
class Leaders:
    """Every state of the components' Leases, in order."""

    kubeconfig: Path
    states: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {each: [] for each in COMPONENTS})
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        asyncio.run(self._run())

    def stop(self) -> None:
        self._stop.set()

    async def _run(self) -> None:
        async with Client(ClientConfig.from_kubeconfig(self.kubeconfig), user_agent="chaos-leaders") as client:
            watching = asyncio.create_task(self._watch(client))
            await asyncio.to_thread(self._stop.wait)
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _watch(self, client: Client) -> None:
        async for event in Following(client, LEASES, "kube-system").events():
            self._note(event.object)

    def _note(self, lease: dict[str, Any]) -> None:
        if lease["metadata"]["name"] in self.states:
            self.states[lease["metadata"]["name"]].append(lease["spec"])

    def problems(self) -> list[str]:
        """Leaders that began before the one before them had given up, or must have."""
        found = []
        for component, states in self.states.items():
            for before, after in pairwise(states):
                old, new = before.get("holderIdentity"), after.get("holderIdentity")
                if not old or not new or old == new:
                    continue
                ends = _time(before["renewTime"]) + timedelta(seconds=before["leaseDurationSeconds"])
                if _time(after["acquireTime"]) + _CLOCK < ends:
                    found.append(f"{component}: {new} led from {after['acquireTime']}, {old} until {ends}")
        return found


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


@contextlib.contextmanager
def leaders(lab: LiveLab) -> Iterator[Leaders]:
    """Watch from here to the end of the block."""
    made = Leaders(lab.layout.kubeconfig)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        made.stop()
        thread.join(30)


@dataclass(frozen=True, slots=True)
class Answer:
    """One request to the service."""

    at: datetime
    answered: bool


class Asking:
    """A pod on w1 that asks the service, five times a second, and logs what it was told."""

    def __init__(self, lab: LiveLab, namespace: str) -> None:
        self._lab, self._namespace = lab, namespace

    @staticmethod
    def pod(address: str) -> dict[str, Any]:
        """It asks by address: Debian's busybox, being static, can't look names up (nor bear -T)."""
        script = f"while :; do timeout 1 wget -q -O /dev/null http://{address}/ && echo yes || echo no; sleep 0.2; done"
        container = {"name": "asking", "image": BUSYBOX, "command": ["sh", "-c", script]}
        spec = {"nodeName": "w1", "terminationGracePeriodSeconds": 0, "containers": [container]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asking"}, "spec": spec}

    def since(self, begun: datetime) -> list[Answer]:
        """What was told since a time, in order."""
        text = self._lab.kubectl(
            "logs", "-n", self._namespace, "asking", "--timestamps", f"--since-time={begun:%Y-%m-%dT%H:%M:%SZ}"
        ).stdout
        lines = (line.split() for line in text.splitlines())
        return [Answer(datetime.fromisoformat(line[0]), line[1] == "yes") for line in lines if len(line) == 2]


def longest_silence(answers: list[Answer]) -> float:
    """The longest time, in seconds, in which no request was answered."""
    longest, since = 0.0, answers[0].at if answers else datetime.min
    for each in answers:
        if each.answered:
            longest, since = max(longest, (each.at - since).total_seconds()), each.at
    return max(longest, (answers[-1].at - since).total_seconds()) if answers else float("inf")


def longest_trouble(answers: list[Answer]) -> float:
    """The longest time, in seconds, in which requests failed again and again, where answers may lie between."""
    longest, began, last = timedelta(), None, None
    for at in (each.at for each in answers if not each.answered):
        if began is None or last is None or at - last > _AGAIN:
            began = at
        last = at
        longest = max(longest, last - began)
    return longest.total_seconds()
