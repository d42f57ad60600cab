"""The program put together: health and metrics served, leadership won, pods scheduled."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import orjson

from controlplane.scheduler import metrics, profiles
from controlplane.scheduler.cluster import Cluster, Workloads
from controlplane.scheduler.dynamic.cycle import Devices
from controlplane.scheduler.dynamic.plugin import DynamicResources
from controlplane.scheduler.extender import Extender
from controlplane.scheduler.flags import Options
from controlplane.scheduler.framework import Profile
from controlplane.scheduler.hints import Hints
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.queue import SchedulingQueue
from controlplane.scheduler.recorder import Recorder
from controlplane.scheduler.scheduler import Scheduler
from controlplane.scheduler.storage import Storage
from machinery import collector, component
from machinery.cache.informer import Informers
from machinery.client.rest import Client
from machinery.errors import SettingsError

_METRICS_SECONDS = 5.0


async def serve(options: Options) -> None:
    """Serve health and metrics, wait for leadership, then schedule."""
    if options.flags["write-config-to"]:
        _write_config(options)
        return
    api = component.client_config(options.flags)
    flags = options.flags
    async with (
        component.guarded_server(flags, "kube-scheduler", options.shown) as server,
        Client(api, user_agent="kube-scheduler/leader-election") as lease_client,
        Client(api, user_agent="kube-scheduler", many_small_requests=True) as client,
    ):
        if not flags["leader-elect"]:
            await schedule(client, options)
            return
        election = component.leader_election(lease_client, flags, "kube-scheduler")
        client.write_guard = election.guard
        server.add_check("leaderElection", election.check)
        await election.run(lambda: schedule(client, options))


def _write_config(options: Options) -> None:
    path = options.flags["write-config-to"]
    try:
        Path(path).write_bytes(orjson.dumps(options.settings.shown, option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as exc:
        raise SettingsError(f"--write-config-to: cannot write {path}: {exc.strerror}") from exc


async def schedule(client: Client, options: Options) -> None:
    """Schedule pods, until cancelled."""
    settings = options.settings
    informers = Informers(client)
    nodes = NodeTable()
    storage = Storage(informers)
    recorder = Recorder(client, socket.gethostname())
    devices = Devices(informers, nodes.log.forget)
    around = profiles.Surroundings(nodes, storage, Workloads(informers), devices, client, recorder)
    made = profiles.build(settings, around)
    queue = SchedulingQueue(
        Hints(nodes.names, devices.classes.stands_behind),
        {name: profile.gates for name, profile in made.items()},
        initial_backoff_seconds=settings.initial_backoff_seconds,
        max_backoff_seconds=settings.max_backoff_seconds,
        flush_seconds=options.flags["pod-max-in-unschedulable-pods-duration"],
    )
    cluster = Cluster(informers, nodes, queue, made)
    _follow(cluster, storage, made)
    async with AsyncExitStack() as stack:
        extenders = [await stack.enter_async_context(Extender(each)) for each in settings.extenders]
        scheduler = Scheduler(cluster, client, recorder, made, extenders)
        await stack.enter_async_context(informers)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        await informers.synced()
        collector.settled_soon()
        group.create_task(recorder.run())
        group.create_task(_measure(cluster))
        group.create_task(scheduler.run())


def _follow(cluster: Cluster, storage: Storage, made: dict[str, Profile]) -> None:
    kinds = [
        ("PersistentVolumeClaim", storage.claims),
        ("PersistentVolume", storage.volumes),
        ("StorageClass", storage.classes),
        ("CSINode", storage.nodes),
        ("CSIDriver", storage.drivers),
        ("CSIStorageCapacity", storage.capacities),
        ("VolumeAttachment", storage.attachments),
    ]
    plugins = (plugin for profile in made.values() for plugin in profile.filters)
    dynamic = next((plugin for plugin in plugins if isinstance(plugin, DynamicResources)), None)
    for kind, informer in (*kinds, *(dynamic.sources() if dynamic is not None else ())):
        cluster.follow(kind, informer)


async def _measure(cluster: Cluster) -> None:
    """Keep the gauges near the truth."""
    while True:
        for queue, count in cluster.queue.pending().items():
            metrics.PENDING.labels(queue).set(count)
        metrics.UNSCHEDULABLE.clear()
        for (plugin, profile), count in cluster.queue.unschedulable_by_plugin().items():
            metrics.UNSCHEDULABLE.labels(plugin, profile).set(count)
        metrics.GOROUTINES.labels("binding").set(len(cluster.assumed))
        metrics.CACHE_SIZE.labels("nodes").set(len(cluster.nodes))
        metrics.CACHE_SIZE.labels("pods").set(cluster.nodes.pod_count)
        metrics.CACHE_SIZE.labels("assumed_pods").set(len(cluster.assumed))
        await asyncio.sleep(_METRICS_SECONDS)
