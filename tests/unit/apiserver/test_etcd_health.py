"""The health checks ask etcd at most once within half of their time limit."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.apiserver.etcdhealth import EtcdHealth
from controlplane.apiserver.handlers.health import NotReady
from machinery.errors import NavarchError, TransportError
from machinery.testing.clock import FakeClock


class Etcd:
    def __init__(self) -> None:
        self.asked = 0
        self.error: NavarchError | None = None

    async def ask(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


async def test_an_answer_is_told_again_for_half_of_the_limit() -> None:
    etcd, clock = Etcd(), FakeClock()
    health = EtcdHealth(etcd.ask, 2, clock)
    await asyncio.gather(*(health.check() for _ in range(5)))
    assert etcd.asked == 1
    etcd.error = TransportError("no leader")
    await clock.advance(0.9)
    await health.check()
    assert etcd.asked == 1
    await clock.advance(0.1)
    for _ in range(2):
        with pytest.raises(TransportError, match="no leader"):
            await health.check()
    assert etcd.asked == 2
    etcd.error = None
    await clock.advance(1)
    await health.check()


async def test_no_answer_in_time_is_an_error() -> None:
    async def silent() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NotReady, match="deadline exceeded"):
        await EtcdHealth(silent, 0.01, FakeClock()).check()
