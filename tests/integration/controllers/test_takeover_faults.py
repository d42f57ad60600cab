"""Managers, API servers and etcd members that die, freeze and come back: processes of their own, killed at random.

Bounded: everything that is waited for has a limit, and the seed of the churn is fixed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter

import pytest
from controller_programs import Plane, deployment, leads, running_plane, stands_by, until

from machinery.api.catalogue import DEPLOYMENTS, PODS, REPLICASETS
from machinery.api.meta import controller_of, is_deleting, labels_of, name_of, uid_of
from machinery.client.rest import Client
from machinery.errors import NavarchError, NotFound
from machinery.testing.programs import Program

LEASE_SECONDS = 3.0
FLAGS = (
    "--leader-elect-lease-duration=3s",
    "--leader-elect-renew-deadline=2s",
    "--leader-elect-retry-period=500ms",
    "--controllers=deployment,replicaset,garbagecollector,serviceaccount",
)
CHURN_SECONDS = 25.0
NAMES = [f"d{number}" for number in range(8)]


async def acted_on(client: Client, name: str, seconds: float) -> float:
    """Have a Deployment made and wait until a manager has made its ReplicaSet; returns how long that took."""
    began = time.monotonic()
    await client.create(DEPLOYMENTS, deployment(name))

    async def has_set() -> bool:
        return bool((await client.list(REPLICASETS, "default", label_selector=f"app={name}")).items)

    await until(has_set, seconds)
    return time.monotonic() - began


async def the_leader(managers: list[Program]) -> Program:
    found: list[Program] = []

    async def one_leads() -> bool:
        found[:] = [m for m in managers if await leads(m)]
        return bool(found)

    await until(one_leads, 20)
    return found[0]


async def versions(client: Client) -> dict[str, str]:
    """Every object that managers write, with its revision."""
    found: dict[str, str] = {}
    for resource in (DEPLOYMENTS, REPLICASETS, PODS):
        for obj in (await client.list(resource, "default")).items:
            found[uid_of(obj)] = obj["metadata"]["resourceVersion"]
    return found


@pytest.mark.timeout(120)
async def test_a_leader_that_stops_is_followed_at_once() -> None:
    async with running_plane() as plane, plane.client() as client:
        managers = [plane.add_manager(FLAGS[-1]) for _ in range(2)]  # an unreleased lease would last 15 s
        for manager in managers:
            await manager.start()
        for manager in managers:
            await until(lambda m=manager: stands_by(m), 40)  # type: ignore[misc]
        leader = await the_leader(managers)
        await acted_on(client, "first", 20)
        leader.send(signal.SIGTERM)
        took = await acted_on(client, "stopped", 30)
        assert took < 5.0, "the promise is 0.5 s, on a machine that is not busy"
        await leader.end()


@pytest.mark.timeout(180)
async def test_a_leader_that_dies_or_freezes_is_followed_in_time() -> None:
    async with running_plane() as plane, plane.client() as client:
        managers = [plane.add_manager(*FLAGS) for _ in range(3)]
        for manager in managers:
            await manager.start()
        for manager in managers:
            await until(lambda m=manager: stands_by(m), 40)  # type: ignore[misc]
        leader = await the_leader(managers)
        await acted_on(client, "first", 20)

        await leader.end(signal.SIGKILL)
        killed = await acted_on(client, "killed", 20)
        assert killed < LEASE_SECONDS + 3.0  # the promise is +1 s on a machine that is not busy

        frozen = await the_leader(managers)
        frozen.send(signal.SIGSTOP)
        await acted_on(client, "frozen", 20)
        await the_leader([m for m in managers if m is not frozen])
        await acted_on(client, "after", 20)
        before = await versions(client)

        async def at_rest() -> bool:
            nonlocal before
            last, before = before, await versions(client)
            return last == before

        await until(at_rest, 20)
        frozen.send(signal.SIGCONT)
        assert frozen.process is not None
        status = await asyncio.wait_for(frozen.process.wait(), 20)
        assert status == 1, "it has lost its lease and says so"
        assert "no longer holds the lease" in frozen.log.read_text() or "lost the lease" in frozen.log.read_text()
        assert await versions(client) == before, "nothing was written on stale authority"


class Churn:
    """Users who change their minds, and a machine room on fire."""

    def __init__(self, plane: Plane, clients: list[Client], seed: int) -> None:
        self.plane, self.clients, self.dice = plane, clients, random.Random(seed)
        self.wanted: dict[str, int] = {}
        self.faults: Counter[str] = Counter()
        self.over = False

    async def insist(self, name: str, replicas: int | None) -> None:
        """Have a Deployment of this size, or none, whatever breaks meanwhile."""
        async with asyncio.timeout(60):
            while True:
                client = self.dice.choice(self.clients)
                with contextlib.suppress(NavarchError):
                    await self._write(client, name, replicas)
                    return
                await asyncio.sleep(0.1)

    async def _write(self, client: Client, name: str, replicas: int | None) -> None:
        if replicas is None:
            with contextlib.suppress(NotFound):
                await client.delete(DEPLOYMENTS, name, "default", propagation="Background")
            self.wanted.pop(name, None)
            return
        try:
            await client.patch(DEPLOYMENTS, name, {"spec": {"replicas": replicas}}, "default")
        except NotFound:
            await client.create(DEPLOYMENTS, deployment(name, replicas))
        self.wanted[name] = replicas

    async def users(self) -> None:
        while not self.over:
            name = self.dice.choice(NAMES)
            gone = name in self.wanted and self.dice.random() < 0.15
            await self.insist(name, None if gone else self.dice.randint(0, 8))
            await asyncio.sleep(self.dice.uniform(0.0, 0.3))

    async def fire(self) -> None:
        while True:
            await asyncio.sleep(self.dice.uniform(0.5, 1.5))
            what = self.dice.choice(["manager killed", "manager stopped", "manager frozen", "server", "etcd"])
            self.faults[what] += 1
            if what == "etcd":
                member = self.dice.choice(self.plane.etcd)
                await member.kill()
                await asyncio.sleep(self.dice.uniform(0.2, 1.0))
                await member.start()
            elif what == "server":
                await self._hit(self.dice.choice(self.plane.servers), signal.SIGKILL)
            elif what == "manager frozen":
                manager = self.dice.choice([m for m in self.plane.managers if m.running] or self.plane.managers)
                if manager.running:
                    manager.send(signal.SIGSTOP)
                    await asyncio.sleep(LEASE_SECONDS)
                    if manager.running:
                        manager.send(signal.SIGCONT)
            else:
                number = signal.SIGKILL if what == "manager killed" else signal.SIGTERM
                await self._hit(self.dice.choice(self.plane.managers), number)
            await self.revive()

    async def _hit(self, program: Program, number: signal.Signals) -> None:
        await program.end(number)

    async def last_word(self) -> None:
        """Ask for all of it once more; a server that has ended holds no request whose user had no answer."""
        for server in self.plane.servers:
            await self._hit(server, signal.SIGTERM)
        await self.revive()
        for number in range(len(self.plane.servers)):
            await self.plane.ready(number, 60)
        for name, replicas in list(self.wanted.items()):
            await self.insist(name, replicas)

    async def revive(self) -> None:
        """Start what has ended."""
        for program in (*self.plane.servers, *self.plane.managers):
            if not program.running:
                await program.start()

    async def differences(self) -> list[str]:
        """Where the cluster does not hold exactly what was asked for."""
        client = self.clients[0]
        deployments = (await client.list(DEPLOYMENTS, "default")).items
        sets = (await client.list(REPLICASETS, "default")).items
        pods = (await client.list(PODS, "default")).items
        owners = {uid_of(s): name_of(s) for s in (*deployments, *sets)}
        counts = Counter(labels_of(p)["app"] for p in pods if not is_deleting(p))
        there = {name_of(d): d["spec"]["replicas"] for d in deployments}
        found = [f"{name}: {there.get(name)} asked for" for name in self.wanted if there.get(name) != self.wanted[name]]
        found += [f"{name}: is still there" for name in there if name not in self.wanted]
        found += [f"{name}: {counts[name]} of {n} pods" for name, n in self.wanted.items() if counts[name] != n]
        for obj in (*sets, *pods):
            if (controller_of(obj) or {}).get("uid") not in owners or is_deleting(obj):
                found.append(f"{name_of(obj)} has lost its owner, or is going")
        if len(sets) != len(deployments):
            found.append(f"{len(sets)} ReplicaSets of {len(deployments)} Deployments")
        return found


@pytest.mark.timeout(240)
async def test_random_deaths_during_churn_end_in_exactly_what_was_asked_for() -> None:
    async with running_plane(etcd_members=3, servers=2) as plane, plane.client(0) as one, plane.client(1) as two:
        churn = Churn(plane, [one, two], seed=7)
        for _ in range(2):
            await plane.add_manager(*FLAGS).start()
        await acted_on(one, "d0", 30)
        churn.wanted["d0"] = 1
        working = [asyncio.create_task(churn.users()), asyncio.create_task(churn.fire())]
        done, _ = await asyncio.wait(working, timeout=CHURN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        churn.over = True
        users, fire = working
        fire.cancel()
        await asyncio.wait([fire])
        assert not done, working
        await churn.revive()
        for manager in plane.managers:
            manager.send(signal.SIGCONT)
        await users
        await churn.last_word()

        found = ["never looked"]

        async def exact() -> bool:
            nonlocal found
            await churn.revive()  # a manager that lost its lease ends by itself, as it should
            try:
                found = await churn.differences()
            except NavarchError as exc:
                found = [str(exc)]
            return not found

        with contextlib.suppress(TimeoutError):
            await until(exact, 60)
        assert found == [], churn.faults
        await asyncio.sleep(1)
        assert await churn.differences() == [], "it stays so"
        assert sum(churn.faults.values()) >= 5, churn.faults
