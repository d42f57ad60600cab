"""A client that writes and watches through HAProxy the whole time, and remembers what went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from following import LISTED, Following

from lab.conditions import until
from machinery.api.catalogue import CONFIGMAPS
from machinery.api.meta import name_of
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import AlreadyExists, StatusError, TransportError

EVERY_SECONDS = 0.2
RETRY_SECONDS = 0.2


@dataclass
class Traffic:
    """What the client did; a write is tried again until it is acknowledged."""

    kubeconfig: Path
    namespace: str
    acknowledged: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    retried: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0
    """The longest time from a write's first try to its acknowledgement."""
    uncured: list[str] = field(default_factory=list)
    """Writes that retries did not cure in time."""
    following: Following | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self, patience_seconds: float) -> None:
        """Until `stop`; then until the watch has shown all that was acknowledged."""
        asyncio.run(self._run(patience_seconds))

    def stop(self) -> None:
        self._stop.set()

    async def _run(self, patience: float) -> None:
        config = ClientConfig.from_kubeconfig(self.kubeconfig)
        async with Client(config, user_agent="traffic") as writer, Client(config, user_agent="traffic") as watcher:
            self.following = Following(watcher, CONFIGMAPS, self.namespace)
            watching = asyncio.create_task(self._watch())
            try:
                number = 0
                while not self._stop.is_set():
                    number += 1
                    await self._write(writer, f"n{number}", patience)
                    await asyncio.sleep(EVERY_SECONDS)
                with contextlib.suppress(TimeoutError):  # `check` tells what was never seen
                    await until(lambda: set(self.acknowledged) <= set(self.seen), patience)
            finally:
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching

    async def _write(self, client: Client, name: str, patience: float) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        began = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(patience):
                    await client.create(CONFIGMAPS, body, self.namespace)
            except AlreadyExists:
                pass  # it was stored, and only the answer was lost
            except (StatusError, TransportError, TimeoutError) as exc:
                self.retried.append(f"{time.strftime('%X')} {name}: {type(exc).__name__}: {exc}"[:200])
                if time.monotonic() - began > patience:
                    self.uncured.append(name)
                    return
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self.acknowledged.append(name)
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
            return

    async def _watch(self) -> None:
        assert self.following is not None
        async for event in self.following.events():
            if event.type in (LISTED, "ADDED") and name_of(event.object).startswith("n"):
                self.seen.append(name_of(event.object))


@contextlib.contextmanager
def traffic(kubeconfig: Path, namespace: str, patience_seconds: float) -> Iterator[Traffic]:
    """The client, in a thread of its own, from here to the end of the block."""
    made = Traffic(kubeconfig, namespace)
    thread = threading.Thread(target=made.run, args=(patience_seconds,))
    thread.start()
    try:
        yield made
    finally:
        made.stop()
        thread.join(2 * patience_seconds + 10)


def check(done: Traffic) -> None:
    """Nothing acknowledged was lost, nothing was seen twice, nothing failed for good."""
    print(f"{len(done.acknowledged)} writes, {len(done.retried)} retries, longest {done.longest_seconds:.1f} s")
    assert done.uncured == [], done.retried
    assert done.following is not None
    assert done.following.lists == 1, "the watch could not be resumed"
    assert len(done.seen) == len(set(done.seen)), "an event came twice"
    assert set(done.acknowledged) <= set(done.seen), "an event was lost"
