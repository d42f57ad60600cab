"""What the conformance suite requires of the eviction of pods from tainted nodes ([sig-node] NoExecuteTaintManager)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cluster import Cluster, pod, requirement, sleeper
from objects import replace
from watching import watching

from machinery.api.catalogue import NODES, PODS
from machinery.api.meta import Object

pytest_plugins = ["cluster_fixture"]

_TAINT = {"key": "kubernetes.io/e2e-evict-taint-key", "value": "evictTaintVal", "effect": "NoExecute"}


def _tolerating(name: str, seconds: int, **spec: object) -> Object:
    tolerations = [_TAINT | {"tolerationSeconds": seconds}]
    return pod(name, sleeper(), labels={"group": "evicted"}, tolerations=tolerations, **spec)


def _untaint(node: Object) -> None:
    node["spec"]["taints"] = [each for each in node["spec"].get("taints", ()) if each["key"] != _TAINT["key"]]


@asynccontextmanager
async def _tainted(cluster: Cluster, name: str) -> AsyncIterator[None]:
    def taint(node: Object) -> None:
        node["spec"].setdefault("taints", []).append(_TAINT)

    changed = await replace(cluster, NODES, name, taint)
    assert _TAINT["key"] in [each["key"] for each in changed["spec"]["taints"]]
    try:
        yield
    finally:
        await replace(cluster, NODES, name, _untaint)


@requirement(
    "[sig-node] NoExecuteTaintManager Single Pod [Serial] removing taint cancels eviction [Disruptive] [Conformance]"
)
@pytest.mark.serial
async def test_taint_that_goes_in_time_evicts_nothing(cluster: Cluster) -> None:
    tolerated = 10
    found = await cluster.start(_tolerating("stays", tolerated))
    async with watching(cluster, PODS, label_selector="group=evicted") as watched:
        began = time.monotonic()
        async with _tainted(cluster, found["spec"]["nodeName"]):
            await watched.nothing("MODIFIED", _is_ending, seconds=tolerated / 2)
        await watched.nothing("MODIFIED", _is_ending, seconds=began + 3 * tolerated - time.monotonic())
    found = await cluster.get(PODS, "stays")
    assert "deletionTimestamp" not in found["metadata"]
    assert found["status"]["phase"] == "Running"


def _is_ending(found: Object) -> bool:
    return "deletionTimestamp" in found["metadata"]


@requirement(
    "[sig-node] NoExecuteTaintManager Multiple Pods [Serial] evicts pods with minTolerationSeconds [Disruptive] [Conformance]"
)
@pytest.mark.serial
async def test_pods_are_evicted_when_their_time_is_over(cluster: Cluster) -> None:
    found = await cluster.start(_tolerating("first", 5))
    name = found["spec"]["nodeName"]
    host = (await cluster.get(NODES, name))["metadata"]["labels"]["kubernetes.io/hostname"]
    await cluster.start(_tolerating("second", 25, nodeSelector={"kubernetes.io/hostname": host}))
    async with watching(cluster, PODS, label_selector="group=evicted") as watched:
        began = time.monotonic()
        async with _tainted(cluster, name), asyncio.timeout(75):
            ended = {}
            for _ in range(2):
                gone = await watched.one("DELETED")
                ended[gone["metadata"]["name"]] = time.monotonic() - began
    assert list(ended) == ["first", "second"]
    assert 4 <= ended["first"] < 20
    assert ended["second"] >= 24
