"""Leader election on a real API server: one leads, a release is acted on at once, and a lost lease stops all writes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from controlplane.apiserver.testing import running_apiserver
from machinery.api.catalogue import CONFIGMAPS, LEASES
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
    def __init__(self, client: Client, name: str) -> None:
        self.election = LeaderElection(client, identity=name, name="job", timing=TIMING)
        self.leads = asyncio.Event()
        self.task = asyncio.create_task(self.election.run(self.lead))

    async def lead(self) -> None:
        self.leads.set()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_a_standby_takes_over_at_once_when_the_leader_stops(client: Client) -> None:
    first = Candidate(client, "a")
    await asyncio.wait_for(first.leads.wait(), 5)
    second = Candidate(client, "b")
    loop = asyncio.get_running_loop()
    before = loop.time()
    await first.stop()
    await asyncio.wait_for(second.leads.wait(), 2.5)
    assert loop.time() - before < TIMING.lease_seconds, "a released lease is not waited for"
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
