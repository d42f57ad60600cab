from __future__ import annotations

import pytest

from controlplane.apiserver.storage.etcd.endpoints import Endpoints
from controlplane.apiserver.storage.etcd.stubs import Stub
from machinery.errors import StorageUnavailable
from machinery.rpc.status import Code, RpcError


async def timeouts(count: int) -> list[float]:
    """What the members of an etcd are given to answer, when each takes longer."""
    given = []

    async def slow(_: Stub, timeout: float) -> None:
        given.append(timeout)
        raise RpcError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded", sent=True)

    endpoints = Endpoints([f"http://127.0.0.1:{port}" for port in range(1, count + 1)], None)
    try:
        with pytest.raises(StorageUnavailable):
            await endpoints.call(slow)
    finally:
        await endpoints.close()
    return given


async def test_a_member_that_hangs_is_soon_left_for_another() -> None:
    given = await timeouts(3)
    assert len(given) == 6
    assert sum(given) < 10


async def test_an_only_member_is_waited_for() -> None:
    assert min(await timeouts(1)) >= 30
