"""What pods' statuses and logs tell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cluster import SECONDS, Cluster

from machinery.api.catalogue import PODS
from machinery.api.meta import Object

CONTAINERS, INIT_CONTAINERS, EPHEMERAL_CONTAINERS = (
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
)


def container_statuses(pod: Object, kind: str = CONTAINERS) -> dict[str, Object]:
    """By the containers' names."""
    found: Sequence[Object] = pod.get("status", {}).get(kind) or ()
    return {each["name"]: each for each in found}


def restarts(pod: Object, container: str = "c") -> int:
    return int(container_statuses(pod).get(container, {}).get("restartCount", 0))


async def told(cluster: Cluster, pod: str, mark: str, times: int, *, seconds: float = SECONDS) -> None:
    """Follow a pod's log until so many of its lines have had the mark in them."""
    seen = 0
    try:
        async with asyncio.timeout(seconds):
            path = PODS.path(cluster.namespace, pod, "log")
            async for line in cluster.client.stream(path, query={"follow": "true"}):
                seen += mark.encode() in line
                if seen >= times:
                    return
    except TimeoutError:
        raise AssertionError(f"{pod} told {mark!r} {seen} times within {seconds} s, not {times}") from None
    raise AssertionError(f"{pod} ended; it told {mark!r} {seen} times, not {times}")
