"""Many clients write and read through three API servers while processes are killed and paused: nothing lost, stale or
invented, and no watcher skips or repeats anything.

`navarch test consistency` runs it for ten minutes; NAVARCH_CONSISTENCY_SEED repeats a run's choices.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faulty_cluster import Cluster, faulty_cluster
from history import Kind, Operation, Outcome, Seen, Watched, problems, watch_problems

from machinery.api.catalogue import CONFIGMAPS
from machinery.api.meta import Object, name_of
from machinery.client.rest import Client
from machinery.errors import AlreadyExists, Conflict, Expired, Gone, NavarchError, NotFound

SECONDS = float(os.environ.get("NAVARCH_CONSISTENCY_SECONDS", "45"))
SEED = os.environ.get("NAVARCH_CONSISTENCY_SEED", "")
CLIENTS, KEYS = 8, 3
NAMESPACE = "default"
PREFIX = "register-"
LAST = f"{PREFIX}last"


def revision_of(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


def value_of(obj: Object) -> str:
    return str((obj.get("data") or {}).get("v", ""))


@dataclass
class Worker:
    """One client: reads and writes at random, and takes down what it saw."""

    name: str
    clients: list[Client]
    chance: random.Random
    operations: list[Operation] = field(default_factory=list)
    known: dict[str, int] = field(default_factory=dict)
    """The revision of each key it has seen last, 0 for none."""

    async def run(self, until: float) -> None:
        number = 0
        while time.monotonic() < until:
            number += 1
            client = self.chance.choice(self.clients)
            key = f"{PREFIX}{self.chance.randrange(KEYS)}"
            kind = self._next_kind(key)
            begun = time.monotonic()
            operation = await self._do(client, kind, key, f"{self.name}.{number}", begun)
            self.operations.append(operation)

    def _next_kind(self, key: str) -> Kind:
        if key not in self.known or self.chance.random() < 0.5:
            return Kind.READ
        if not self.known[key]:
            return Kind.CREATE
        return Kind.DELETE if self.chance.random() < 0.2 else Kind.UPDATE

    async def _do(self, client: Client, kind: Kind, key: str, value: str, begun: float) -> Operation:
        expected = 0 if kind in (Kind.READ, Kind.CREATE) else self.known[key]

        def took(outcome: Outcome, value: str = "", revision: int = 0) -> Operation:
            return Operation(key, kind, begun, time.monotonic(), outcome, value, revision, expected)

        try:
            if kind is Kind.READ:
                found = await client.get(CONFIGMAPS, key, NAMESPACE)
                self.known[key] = revision_of(found)
                return took(Outcome.DONE, value_of(found), revision_of(found))
            if kind is Kind.DELETE:
                await client.delete(CONFIGMAPS, key, NAMESPACE, resource_version=str(expected))
                self.known[key] = 0
                return took(Outcome.DONE)
            made = await self._write(client, key, value, expected)
            self.known[key] = revision_of(made)
            return took(Outcome.DONE, value, revision_of(made))
        except NotFound:
            self.known[key] = 0
            if kind is Kind.READ:
                return took(Outcome.DONE)  # of nothing
            # aiohttp sends a DELETE again when its connection breaks: this may be the answer to the second one
            return took(Outcome.UNKNOWN if kind is Kind.DELETE else Outcome.REFUSED, value)
        except (Conflict, AlreadyExists):
            self.known.pop(key, None)
            return took(Outcome.UNKNOWN if kind is Kind.DELETE else Outcome.REFUSED, value)
        except NavarchError:
            self.known.pop(key, None)
            return took(Outcome.UNKNOWN, value)

    async def _write(self, client: Client, key: str, value: str, expected: int) -> Object:
        if expected:
            patch = {"metadata": {"resourceVersion": str(expected)}, "data": {"v": value}}
            return await client.patch(CONFIGMAPS, key, patch, NAMESPACE)
        obj = {"metadata": {"name": key, "namespace": NAMESPACE}, "data": {"v": value}}
        return await client.create(CONFIGMAPS, obj)


@dataclass
class Watcher:
    """One watch of everything, resumed wherever it breaks, until the last object has been seen."""

    client: Client
    stretches: list[Watched] = field(default_factory=list)

    async def run(self) -> None:
        while True:
            try:
                if not self.stretches:
                    await self._list()
                if await self._follow(self.stretches[-1]):
                    return
            except (Expired, Gone):
                await self._again()
            except NavarchError:
                await asyncio.sleep(0.1)

    async def _list(self) -> None:
        listed = await self.client.list(CONFIGMAPS, NAMESPACE)
        revision = int(listed.resource_version)
        self.stretches.append(Watched(revision, revision, []))

    async def _again(self) -> None:
        """The server has forgotten where the watch was: a new stretch, as clients' informers do it."""
        with contextlib.suppress(NavarchError):
            await self._list()

    async def _follow(self, stretch: Watched) -> bool:
        watch = self.client.watch(CONFIGMAPS, NAMESPACE, resource_version=str(stretch.end), timeout_seconds=60)
        async for event in watch:
            revision = revision_of(event.object)
            name = name_of(event.object)
            if event.type != "BOOKMARK" and name.startswith(PREFIX):
                value = "" if event.type == "DELETED" else value_of(event.object)
                stretch.events.append(Seen(event.type, name, revision, value))
            stretch.end = max(stretch.end, revision)
            if name == LAST:
                return True
        return False


@pytest.mark.timeout(SECONDS + 180)
async def test_histories_are_linearizable_while_processes_are_killed_and_paused(tmp_path: Path) -> None:
    seed = int(SEED) if SEED else random.SystemRandom().randrange(1_000_000)
    chance = random.Random(seed)
    async with faulty_cluster(tmp_path) as cluster, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(cluster.client(number)) for number in range(3)]
        workers = [Worker(f"c{n}", clients, random.Random(f"{seed}.{n}")) for n in range(CLIENTS)]
        watchers = [Watcher(await stack.enter_async_context(cluster.client(number))) for number in range(3)]
        until = time.monotonic() + SECONDS
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(watcher.run()) for watcher in watchers]
            working = [group.create_task(worker.run(until)) for worker in workers]
            await _harm(cluster, chance, until)
            await asyncio.gather(*working)
            await _write_last(clients)
            await asyncio.gather(*watching)
    operations = [operation for worker in workers for operation in worker.operations]
    stretches = [stretch for watcher in watchers for stretch in watcher.stretches]
    context = f"seed {seed}; {cluster.said}"
    _check_that_something_happened(operations, cluster, context)
    assert problems(operations) == [], context
    assert watch_problems(stretches, operations) == [], context


async def _harm(cluster: Cluster, chance: random.Random, until: float) -> None:
    while time.monotonic() < until - 5:
        await asyncio.sleep(chance.uniform(0.5, 1.5))
        await cluster.harm(chance)


async def _write_last(clients: list[Client]) -> None:
    """The object by which watchers know that they have seen everything."""
    async with asyncio.timeout(60):
        while True:
            try:
                await clients[0].create(CONFIGMAPS, {"metadata": {"name": LAST, "namespace": NAMESPACE}})
            except AlreadyExists:
                return
            except NavarchError:
                await asyncio.sleep(0.2)
            else:
                return


def _check_that_something_happened(operations: list[Operation], cluster: Cluster, context: str) -> None:
    done = [operation for operation in operations if operation.outcome is Outcome.DONE]
    for kind in Kind:
        assert sum(operation.kind is kind for operation in done) >= SECONDS / 10, (kind, context)
    assert len(cluster.said) >= SECONDS / 15, context
    print(f"{len(done)} of {len(operations)} operations done, {len(cluster.said)} faults, {context}")
