"""kube-scheduler: `python -m controlplane.scheduler --kubeconfig … [--config KubeSchedulerConfiguration.yaml]`."""

from __future__ import annotations

import asyncio
import socket
import sys

from controlplane.scheduler import config
from controlplane.scheduler.cluster import Cluster
from controlplane.scheduler.flags import Options, parse
from controlplane.scheduler.queue import SchedulingQueue
from controlplane.scheduler.scheduler import Scheduler
from machinery import component, log, process
from machinery.cache.informer import Informers
from machinery.client.rest import Client
from machinery.events import EventRecorder
from machinery.serving import HealthServer


async def serve(options: Options) -> None:
    """Serve health and metrics, wait for leadership, then schedule."""
    api = component.client_config(options.flags)
    tls = component.serving_tls(options.flags)
    async with (
        HealthServer(options.flags["bind-address"], options.flags["secure-port"], tls=tls, config=options.shown),
        Client(api, user_agent="kube-scheduler/leader-election") as lease_client,
        Client(api, user_agent="kube-scheduler") as client,
    ):
        if not options.flags["leader-elect"]:
            await schedule(client, options)
            return
        election = component.leader_election(lease_client, options.flags, "kube-scheduler")
        client.write_guard = election.guard
        await election.run(lambda: schedule(client, options))


async def schedule(client: Client, options: Options) -> None:
    """Schedule pods, until cancelled."""
    settings = options.settings
    queue = SchedulingQueue(
        initial_backoff_seconds=settings.initial_backoff_seconds, max_backoff_seconds=settings.max_backoff_seconds
    )
    informers = Informers(client)
    cluster = Cluster(informers, queue, [profile.name for profile in settings.profiles])
    recorder = EventRecorder(client, component="default-scheduler", host=socket.gethostname())
    scheduler = Scheduler(
        cluster, client, recorder, config.build_profiles(settings, cluster.selector_of, cluster.volumes)
    )
    async with informers, asyncio.TaskGroup() as group:
        await informers.synced()
        group.create_task(recorder.run())
        group.create_task(scheduler.run())


def main() -> int:
    """The program."""

    async def start() -> None:
        options = parse(sys.argv[1:])
        log.setup(options.flags["v"])
        await serve(options)

    return process.run("kube-scheduler", start)


if __name__ == "__main__":
    sys.exit(main())
