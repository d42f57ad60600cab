"""Leader election on a real API server: one leads, a release is acted on at once, and a lost lease stops all writes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from controlplane.apiserver.testing import running_apiserver
from machinery.api.catalogue import CONFIGMAPS, LEASES
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.leaderelection import LeaderElection, LeadershipLost, Timing

TIMING = Timing(lease_seconds=3, renew_seconds=2, retry_seconds=0.3)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with (
        running_apiserver() as server,
        Client(ClientConfig(server.url, ca_data=server.ca, token=server.token), user_agent="test") as client,
    ):
        yield client


class Candidate:
    def __init__(self, client: Client, name: str, timing: Timing = TIMING) -> None:
        self.election = LeaderElection(client, identity=name, name="job", timing=timing)
        self.leads = asyncio.Event()
        self.task = asyncio.create_task(self.election.run(self.lead))

    async def lead(self) -> None:
        self.leads.set()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_a_standby_takes_over_at_once_when_the_leader_stops(client: Client) -> None:
    first = Candidate(client, "a", Timing())
    await asyncio.wait_for(first.leads.wait(), 5)
    second = Candidate(client, "b", Timing())
    await first.stop()
    # An unreleased lease would be waited for 15 s.
    await asyncio.wait_for(second.leads.wait(), 5)
    lease = await client.get(LEASES, "job", "kube-system")
    assert lease["spec"]["holderIdentity"] == second.election.identity
    assert lease["spec"]["leaseTransitions"] == 1
    await second.stop()


async def test_a_leader_whose_lease_is_taken_stops_and_may_write_no_more(client: Client) -> None:
    leader = Candidate(client, "a")
    await asyncio.wait_for(leader.leads.wait(), 5)
    await client.patch(
        LEASES, "job", {"spec": {"holderIdentity": "usurper", "leaseDurationSeconds": 60}}, "kube-system"
    )
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(leader.task, 10)
    client.write_guard = leader.election.guard
    with pytest.raises(LeadershipLost):
        await client.create(CONFIGMAPS, {"metadata": {"name": "x"}}, "default")
    client.write_guard = None
    assert (await client.list(CONFIGMAPS, "default")).items == []
    lease = await client.get(LEASES, "job", "kube-system")
    assert lease["spec"]["holderIdentity"] == "usurper", "a lease that is another's is not released"


async def test_only_one_of_many_leads(client: Client) -> None:
    candidates = [Candidate(client, name) for name in "abc"]
    leading = [asyncio.create_task(c.leads.wait()) for c in candidates]
    await asyncio.wait(leading, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    assert sum(c.leads.is_set() for c in candidates) == 1
    for task in leading:
        task.cancel()
    for candidate in candidates:
        await candidate.stop()
    await asyncio.gather(*leading, return_exceptions=True)


class SlowAnswers(Client):
    """A client whose answers to lease writes are lost on the way: the server has stored what nobody hears of."""

    lost = False

    async def update(self, resource: ResourceType, obj: Object, *, subresource: str = "") -> Object:
        answer = await super().update(resource, obj, subresource=subresource)
        if self.lost and obj["spec"]["holderIdentity"]:
            await asyncio.Event().wait()
        return answer


async def test_a_leader_stopped_in_the_middle_of_a_renewal_still_releases_its_lease() -> None:
    async with running_apiserver() as server:
        config = ClientConfig(server.url, ca_data=server.ca, token=server.token)
        async with SlowAnswers(config, user_agent="test") as slow, Client(config, user_agent="test") as client:
            first = Candidate(slow, "a")
            await asyncio.wait_for(first.leads.wait(), 5)
            second = Candidate(client, "b")
            slow.lost = True
            held = await client.get(LEASES, "job", "kube-system")
            async for event in client.watch(
                LEASES, "kube-system", resource_version=held["metadata"]["resourceVersion"], timeout_seconds=10
            ):
                if event.type == "MODIFIED":
                    break  # the renewal is stored, its answer never comes
            loop = asyncio.get_running_loop()
            before = loop.time()
            await first.stop()
            await asyncio.wait_for(second.leads.wait(), 5)
            assert loop.time() - before < TIMING.renew_seconds, "a released lease is not waited for"
            await second.stop()


async def test_a_release_seen_during_a_failing_attempt_is_not_forgotten(client: Client) -> None:
    """The standby's own read comes back old, after its watch has told of the release."""

    class OldReads(Client):
        gate: asyncio.Event | None = None
        read = asyncio.Event()

        async def get(self, resource: ResourceType, name: str, namespace: str = "", *, subresource: str = "") -> Object:
            answer = await super().get(resource, name, namespace, subresource=subresource)
            if self.gate is not None:
                gate, self.gate = self.gate, None
                self.read.set()
                await gate.wait()
            return answer

    first = Candidate(client, "a")
    await asyncio.wait_for(first.leads.wait(), 5)
    async with OldReads(client.config, user_agent="test") as old:
        old.gate = gate = asyncio.Event()
        second = Candidate(old, "b")
        await asyncio.wait_for(old.read.wait(), 5)
        await first.stop()
        async for event in client.watch(LEASES, "kube-system", timeout_seconds=10):
            if event.object["spec"]["holderIdentity"] == "":
                break
        loop = asyncio.get_running_loop()
        before = loop.time()
        gate.set()
        await asyncio.wait_for(second.leads.wait(), 5)
        assert loop.time() - before < TIMING.renew_seconds, "a released lease is not waited for"
        await second.stop()
