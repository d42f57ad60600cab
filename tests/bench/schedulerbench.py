"""What the scheduler costs: pods bound per second, CPU per pod and memory, for the workloads upstream is measured by.

    python tests/bench/schedulerbench.py [--workloads basic spread …] [--nodes 1000] [--pods 1000]

Prints JSON lines, each with kube-scheduler 1.36's figures where they are known: measured on a 2-core machine with 1,000
and 3,000 nodes, and upstream's own thresholds on larger machines with 5,000. Starts etcd, an API server and a scheduler
on free ports of 127.0.0.1 and removes them. Bounded by --limit-seconds. Take CPU figures rather than rates.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/integration/controllers")]

from controller_programs import Plane, running_plane  # noqa: E402

from machinery.api.catalogue import NODES, PODS, SERVICEACCOUNTS  # noqa: E402
from machinery.api.meta import Object, name_of  # noqa: E402
from machinery.client.rest import Client  # noqa: E402
from machinery.errors import AlreadyExists  # noqa: E402

WORKLOADS = ("basic", "spread", "antiaffinity", "affinity", "mixed", "big")
UPSTREAM: dict[tuple[str, int], dict[str, float]] = {
    ("basic", 1000): {"pods_per_second": 142, "cpu_ms_per_pod": 3.1, "memory_mib": 129},
    ("basic", 3000): {"pods_per_second": 87, "cpu_ms_per_pod": 5.1},
    ("spread", 3000): {"pods_per_second": 53, "cpu_ms_per_pod": 12.4},
    ("basic", 5000): {"pods_per_second": 270},
    ("spread", 5000): {"pods_per_second": 85},
    ("affinity", 5000): {"pods_per_second": 35},
    ("antiaffinity", 5000): {"pods_per_second": 60},
}
IDLE_SECONDS = 8.0


def node(number: int) -> Object:
    name = f"node-{number}"
    room = {"cpu": "4", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    labels = {
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/zone": f"zone-{number % 10}",
        "topology.kubernetes.io/region": "r1",
    }
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
    status = {"capacity": room, "allocatable": room, "conditions": [ready]}
    return {"metadata": {"name": name, "labels": labels}, "status": status}


def pod(number: int, workload: str) -> Object:
    kind = ("basic", "spread", "affinity", "antiaffinity")[number % 4] if workload == "mixed" else workload
    labels = {"app": "bench", "shard": str(number % 20)}
    requests = {"cpu": "3", "memory": "20Gi"} if kind == "big" else {"cpu": "100m", "memory": "500Mi"}
    spec: Object = {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    zone, host = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
    if kind == "spread":
        selector = {"matchLabels": {"app": "bench"}}
        spec["topologySpreadConstraints"] = [
            {"maxSkew": 1, "topologyKey": zone, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}
        ]
    elif kind == "antiaffinity":
        term = {"labelSelector": {"matchLabels": dict(labels)}, "topologyKey": host}
        spec["affinity"] = {"podAntiAffinity": {required: [term]}}
    elif kind == "affinity":
        labels["group"] = "together"
        term = {"labelSelector": {"matchLabels": {"group": "together"}}, "topologyKey": zone}
        spec["affinity"] = {"podAffinity": {required: [term]}}
    return {"metadata": {"name": f"pod-{number}", "namespace": "default", "labels": labels}, "spec": spec}


async def fill(client: Client, workload: str, nodes: int, pods: int) -> None:
    gate = asyncio.Semaphore(16)

    async def add_node(number: int) -> None:
        async with gate:
            await client.create(NODES, node(number))
            # A new node is tainted until a controller has seen it ready; there is none here.
            await client.patch(NODES, f"node-{number}", {"spec": {"taints": None}})

    async def add_pod(number: int) -> None:
        async with gate:
            await client.create(PODS, pod(number, workload))

    await asyncio.gather(*map(add_node, range(nodes)))
    await asyncio.gather(*map(add_pod, range(pods)))


async def watch_bound(client: Client, bound: dict[str, float], expected: int) -> None:
    """Note when each pod got its node, until all have, or nothing has moved for a while."""
    events = client.watch(PODS, "default", resource_version=(await client.list(PODS, limit=1)).resource_version)
    last = time.monotonic()
    pending: asyncio.Future[Any] | None = None
    while len(bound) < expected and (not bound or time.monotonic() - last < IDLE_SECONDS):
        pending = pending or asyncio.ensure_future(anext(events))
        done, _ = await asyncio.wait([pending], timeout=1)
        if done:
            found = pending.result().object
            pending = None
            if found["spec"].get("nodeName") and name_of(found) not in bound:
                bound[name_of(found)] = last = time.monotonic()
    if pending is not None:
        pending.cancel()


async def measure(plane: Plane, client: Client, workload: str, nodes: int, pods: int) -> None:
    await fill(client, workload, nodes, pods)
    scheduler = plane.add_manager("--leader-elect=false", module="controlplane.scheduler")
    bound: dict[str, float] = {}
    watching = asyncio.create_task(watch_bound(client, bound, pods))
    server = plane.servers[0]
    before, began = server.cpu_seconds(), time.monotonic()
    await scheduler.start()
    await watching
    times = sorted(bound.values())
    span = times[-1] - times[0] if len(times) > 1 else 0.0
    count = max(1, len(bound))
    figures = {
        "pods_per_second": round((len(times) - 1) / span, 1) if span else None,
        "cpu_ms_per_pod": round(scheduler.cpu_seconds() * 1000 / count, 2),
        "memory_mib": round(scheduler.memory_mib()),
        "start_to_first_bind_seconds": round(times[0] - began, 2) if times else None,
        "apiserver_cpu_ms_per_pod": round((server.cpu_seconds() - before) * 1000 / count, 2),
    }
    known = UPSTREAM.get((workload, nodes), {})
    told = {"bench": "scheduler", "workload": workload, "nodes": nodes, "pods": pods, "bound": len(bound)}
    print(orjson.dumps(told | figures | {"upstream": known}).decode(), flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--limit-seconds", type=float, default=560)
    given = parser.parse_args()
    async with asyncio.timeout(given.limit_seconds):
        for workload in given.workloads:
            async with running_plane() as plane, plane.client() as client:
                account = {"metadata": {"name": "default", "namespace": "default"}}
                with contextlib.suppress(AlreadyExists):
                    await client.create(SERVICEACCOUNTS, account)
                # The cluster of the big one has room for a fifth of the pods.
                nodes = given.pods // 5 if workload == "big" else given.nodes
                await measure(plane, client, workload, nodes, given.pods)


if __name__ == "__main__":
    asyncio.run(main())
