"""What the controller manager costs: at rest, scaling one Deployment from 0 to many, and under a burst of changes.

    python tests/bench/controllerbench.py [--deployments 1000] [--scale 500] [--rest-seconds 30]

Prints JSON lines. Starts etcd, an API server and a manager on free ports of 127.0.0.1 and removes them; pods are said
to run as soon as they are made, as there are no nodes. Bounded by --limit-seconds. Take CPU figures rather than rates.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/integration/controllers")]

from controller_programs import Plane, metric, running_plane, until  # noqa: E402

from machinery.api.catalogue import DEPLOYMENTS, PODS  # noqa: E402
from machinery.api.meta import Object, name_of  # noqa: E402
from machinery.cache.informer import Informer  # noqa: E402
from machinery.client.rest import STRATEGIC, Client  # noqa: E402
from machinery.errors import NotFound  # noqa: E402
from machinery.testing.programs import Program  # noqa: E402

FLAGS = ("--leader-elect=false", "--use-service-account-credentials=false")
READY = {
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }
}


def report(what: str, **figures: Any) -> None:
    print(orjson.dumps({"bench": "controllers", "what": what, **figures}).decode(), flush=True)


def deployment(name: str, replicas: int) -> Object:
    labels = {"app": name}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    }


async def play_nodes(client: Client) -> None:
    """Say of every new pod that it runs."""
    fresh: asyncio.Queue[str] = asyncio.Queue()
    pods = Informer(client, PODS)
    pods.on_change(lambda old, new: fresh.put_nowait(name_of(new)) if old is None and new is not None else None)

    async def work() -> None:
        while True:
            try:
                await client.patch(
                    PODS, await fresh.get(), READY, "default", content_type=STRATEGIC, subresource="status"
                )
            except NotFound:
                continue

    async with asyncio.TaskGroup() as group:
        group.create_task(pods.run())
        for _ in range(8):
            group.create_task(work())


async def syncs(manager: Program, queue: str) -> int:
    """How often the manager has worked on a key of the queue."""
    return int(await metric(manager, "workqueue_work_duration_seconds_count", queue) or 0)


async def rest(plane: Plane, client: Client, manager: Program, count: int, seconds: float) -> None:
    gate = asyncio.Semaphore(20)

    async def create(number: int) -> None:
        async with gate:
            await client.create(DEPLOYMENTS, deployment(f"d{number}", 3))

    began = time.monotonic()
    await asyncio.gather(*map(create, range(count)))

    async def available() -> bool:
        await asyncio.sleep(1)
        listed = await client.list(DEPLOYMENTS, "default")
        return all((d.get("status") or {}).get("availableReplicas") == 3 for d in listed.items)

    await until(available, 400)
    report(
        "rolled out",
        deployments=count,
        seconds=round(time.monotonic() - began, 1),
        manager_cpu_seconds=round(manager.cpu_seconds(), 1),
        apiserver_cpu_seconds=round(plane.servers[0].cpu_seconds(), 1),
    )
    await asyncio.sleep(10)
    before = manager.cpu_seconds()
    await asyncio.sleep(seconds)
    used = manager.cpu_seconds() - before
    report(
        "at rest",
        deployments=count,
        core_percent=round(100 * used / seconds, 2),
        memory_mib=round(manager.memory_mib()),
    )


async def scale(plane: Plane, client: Client, manager: Program, replicas: int) -> None:
    pod = {"metadata": {"generateName": "bare-"}, "spec": deployment("x", 1)["spec"]["template"]["spec"]}
    gate = asyncio.Semaphore(20)

    async def create(_: int) -> None:
        async with gate:
            await client.create(PODS, pod, "default")

    began = time.monotonic()
    await asyncio.gather(*map(create, range(replicas)))
    direct = time.monotonic() - began

    async def all_run() -> bool:
        pods = (await client.list(PODS, "default", resource_version="0")).items
        return all((pod.get("status") or {}).get("phase") == "Running" for pod in pods)

    await until(all_run, 120)
    await client.create(DEPLOYMENTS, deployment("big", 0))
    cpu = manager.cpu_seconds()
    began = time.monotonic()
    await client.patch(DEPLOYMENTS, "big", {"spec": {"replicas": replicas}}, "default")

    async def made() -> bool:
        return (
            len((await client.list(PODS, "default", label_selector="app=big", resource_version="0")).items) >= replicas
        )

    await until(made, 120)
    report(
        "scaled from 0",
        replicas=replicas,
        seconds=round(time.monotonic() - began, 2),
        seconds_of_creating_as_many_directly=round(direct, 2),
        manager_cpu_seconds=round(manager.cpu_seconds() - cpu, 2),
    )


async def burst(client: Client, manager: Program, changes: int) -> None:
    await asyncio.sleep(3)
    before = await syncs(manager, "deployment")
    for number in range(changes):
        await client.patch(DEPLOYMENTS, "big", {"metadata": {"annotations": {"n": str(number)}}}, "default")
    await asyncio.sleep(3)
    report("burst of changes to one Deployment", changes=changes, syncs=await syncs(manager, "deployment") - before)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deployments", type=int, default=1000)
    parser.add_argument("--scale", type=int, default=500)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--rest-seconds", type=float, default=30)
    parser.add_argument("--limit-seconds", type=float, default=480)
    given = parser.parse_args()
    async with asyncio.timeout(given.limit_seconds), running_plane() as plane, plane.client() as client:
        manager = plane.add_manager(*FLAGS)
        await manager.start()
        nodes = asyncio.create_task(play_nodes(client))
        try:
            await rest(plane, client, manager, given.deployments, given.rest_seconds)
            await scale(plane, client, manager, given.scale)
            await burst(client, manager, given.changes)
        finally:
            nodes.cancel()
            await asyncio.gather(nodes, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
