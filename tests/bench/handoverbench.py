"""How long after SIGTERM to the leading controller manager a standby acts: the promise is 0.5 s.

    python tests/bench/handoverbench.py [--times 5] [--deployments 0]

Prints a JSON line. Starts etcd, an API server and two managers on free ports of 127.0.0.1 and removes them.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import sys
import time
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/integration/controllers")]

from controller_programs import deployment, leads, running_plane, stands_by, until  # noqa: E402

from machinery.api.catalogue import DEPLOYMENTS, REPLICASETS  # noqa: E402
from machinery.client.rest import Client  # noqa: E402
from machinery.testing.programs import Program  # noqa: E402


async def acted_on(client: Client, name: str) -> float:
    """Seconds from now until a Deployment that is made now has its ReplicaSet."""
    began = time.monotonic()
    await client.create(DEPLOYMENTS, deployment(name))
    async with asyncio.timeout(30):
        async for event in client.watch(REPLICASETS, "default", label_selector=f"app={name}"):
            if event.type == "ADDED":
                break
    return time.monotonic() - began


async def measure(times: int, deployments: int) -> list[float]:
    """Seconds of each hand-over."""
    async with running_plane() as plane, plane.client() as client:
        managers: list[Program] = [plane.add_manager("--use-service-account-credentials=true") for _ in range(2)]
        await managers[0].start()
        await until(lambda: leads(managers[0]), 40)
        for number in range(deployments):
            await client.create(DEPLOYMENTS, deployment(f"standing-{number}"))
        took = []
        for turn in range(times):
            leader, standby = managers[turn % 2], managers[1 - turn % 2]
            await standby.start()
            await until(lambda m=standby: stands_by(m), 40)  # type: ignore[misc]
            await acted_on(client, f"before-{turn}")
            leader.send(signal.SIGTERM)
            took.append(await acted_on(client, f"turn-{turn}"))
            await leader.end()
        return took


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--deployments", type=int, default=0, help="that are there beforehand (0)")
    options = parser.parse_args()
    took = asyncio.run(measure(options.times, options.deployments))
    each = [round(seconds, 3) for seconds in took]
    print(orjson.dumps({"handover_s": each, "median_s": round(statistics.median(took), 3)}).decode())


if __name__ == "__main__":
    main()
