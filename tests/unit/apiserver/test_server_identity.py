"""What a server of several writes down for the others: that it is there, and that tokens of Secrets are used."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta

from controlplane.apiserver.authn.legacy import CONFIG_MAP, LAST_USED, LegacyTokens
from controlplane.apiserver.identity import NAMESPACE, Identity, lease_name
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.testing import RunningServer, running_apiserver
from machinery.api.catalogue import CONFIGMAPS, LEASES, SECRETS
from machinery.api.meta import Object, labels_of, name_of
from machinery.testing.clock import FakeClock

CLUSTER = Settings(etcd_servers=("https://127.0.0.1:2379",))


def test_the_name_of_a_lease_is_that_of_upstream() -> None:
    """Source: https://kubernetes.io/docs/concepts/architecture/leases/ (a cluster of kind)."""
    assert lease_name("kind-control-plane") == "apiserver-c4vwjftbvpc5os2vvzle4qg27a"


async def _leases(server: RunningServer, count: int) -> list[Object]:
    """The Leases of servers, once there are so many."""
    for _ in range(2000):
        found = list(await server.server.loopback.list(LEASES, NAMESPACE))
        if len(found) == count:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"{len(found)} leases instead of {count}")


async def test_a_server_has_a_lease() -> None:
    async with running_apiserver(CLUSTER) as server, asyncio.timeout(20):
        found = await _leases(server, 1)
        assert name_of(found[0]) == lease_name(socket.gethostname())
        assert labels_of(found[0]) == {
            "apiserver.kubernetes.io/identity": "kube-apiserver",
            "kubernetes.io/hostname": socket.gethostname(),
        }
        assert found[0]["spec"]["leaseDurationSeconds"] == 3600
        assert found[0]["spec"]["holderIdentity"].startswith(lease_name(socket.gethostname()) + "_")
    async with running_apiserver() as server:
        await _leases(server, 0)


async def test_leases_that_have_run_out_are_removed() -> None:
    clock = FakeClock()
    async with running_apiserver() as server, asyncio.timeout(20):
        identity = Identity(server.server.loopback, server.server.reader, clock, "here", 3600, 600)
        other = Identity(server.server.loopback, server.server.reader, clock, "gone", 1800, 600)
        keeping, dying = asyncio.ensure_future(identity.keep()), asyncio.ensure_future(other.keep())
        await _leases(server, 2)
        dying.cancel()
        collecting = asyncio.ensure_future(identity.collect())
        await asyncio.sleep(0)
        await clock.advance(3601)
        found = await _leases(server, 1)
        assert name_of(found[0]) == lease_name("here")
        for task in (keeping, collecting):
            task.cancel()


async def test_since_when_uses_of_tokens_are_noted_is_said_once() -> None:
    clock = FakeClock()
    async with running_apiserver() as server:
        loopback = server.server.loopback
        tokens = LegacyTokens(loopback, clock)
        await tokens.track()
        first = await loopback.get(CONFIGMAPS, CONFIG_MAP, "kube-system")
        assert first["data"] == {"since": clock.now().date().isoformat()}
        await clock.advance(timedelta(days=3).total_seconds())
        await tokens.track()
        assert await loopback.get(CONFIGMAPS, CONFIG_MAP, "kube-system") == first
        await loopback.update(CONFIGMAPS, {**first, "data": {"since": "tomorrow"}})
        await tokens.track()
        again = await loopback.get(CONFIGMAPS, CONFIG_MAP, "kube-system")
        assert again["data"] == {"since": clock.now().date().isoformat()}


async def test_a_use_is_noted_once_a_day() -> None:
    clock = FakeClock()
    async with running_apiserver() as server:
        loopback = server.server.loopback
        secret = await loopback.create(SECRETS, {"metadata": {"name": "t"}}, "default")
        tokens = LegacyTokens(loopback, clock)
        await tokens.note_use(secret)
        used = await loopback.get(SECRETS, "t", "default")
        assert labels_of(used) == {LAST_USED: clock.now().date().isoformat()}
        await tokens.note_use(used)
        assert await loopback.get(SECRETS, "t", "default") == used
        await tokens.note_use(secret)  # a conflict, that nobody is told of
        assert await loopback.get(SECRETS, "t", "default") == used
