"""A kubelet whose clock is stepped, forwards and back, while pods run.

Source: faketime(1), which gives a process a clock of its own; monotonic clocks go on as they do on a real machine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from kubelet_node import NODE, TestNode, box, container_status, eventually, is_ready, running_node, shell

from machinery.api.catalogue import LEASES, NODES

pytestmark = pytest.mark.asyncio(loop_scope="module")

_LIBRARY = "/usr/$LIB/faketime/libfaketime.so.1"  # ld.so(8) puts in the architecture's folder
_HOUR = timedelta(hours=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TestNode]:
    offset = tmp_path_factory.mktemp("clock") / "offset"
    offset.write_text("+0\n")
    environment = {
        "LD_PRELOAD": _LIBRARY,
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    async with running_node("nodeStatusUpdateFrequency: 2s\nnodeLeaseDurationSeconds: 4", environment) as made:
        yield made


async def _step(node: TestNode, by: timedelta) -> None:
    """Set the kubelet's clock, and wait until what it tells of the time shows it."""
    assert node.environment
    Path(node.environment["FAKETIME_TIMESTAMP_FILE"]).write_text(f"{by.total_seconds():+.0f}\n")

    async def seen() -> bool:
        lease = await node.client.get(LEASES, NODE, "kube-node-lease")
        told = datetime.fromisoformat(lease["spec"]["renewTime"])
        return abs(told - datetime.now(UTC) - by) < timedelta(minutes=1)

    await eventually(seen, f"the node's Lease to be renewed at the stepped time ({by})")


async def _ready_since(node: TestNode) -> str:
    conditions = (await node.client.get(NODES, NODE))["status"]["conditions"]
    return next(str(each["lastTransitionTime"]) for each in conditions if each["type"] == "Ready")


@pytest.mark.parametrize("by", [_HOUR, -_HOUR], ids=["forwards", "back"])
async def test_a_step_of_the_clock_restarts_nothing_and_stops_nothing(node: TestNode, by: timedelta) -> None:
    probe = {"exec": {"command": ["cat", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    container = shell(
        "touch /tmp/alive; sleep 600", livenessProbe=probe | {"initialDelaySeconds": 1}, readinessProbe=probe
    )
    name = await node.create({"containers": [container]})
    before = container_status(await node.wait_ready(name))
    since = await _ready_since(node)
    await _step(node, by)
    try:
        fresh = await node.create({"containers": [box("sleep", "600")]})
        await node.wait_ready(fresh)
        await node.delete(fresh)
        pod = await node.get(name)
        now = container_status(pod)
        assert (now["containerID"], now["restartCount"], is_ready(pod)) == (before["containerID"], 0, True)
        assert await _ready_since(node) == since, "the node was not ready in between"
        await node.run_in(name, "rm", "/tmp/alive")
        await node.wait(
            name, lambda p: container_status(p)["restartCount"] == 1, "the failing container to be restarted"
        )
        await node.wait_ready(name)
    finally:
        await _step(node, timedelta())
    await node.delete(name)
