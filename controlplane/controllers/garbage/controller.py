"""The garbage collector's wiring: monitors feed the graph, the graph feeds two queues, the collector works them.

Source: k8s.io/kubernetes/pkg/controller/garbagecollector.
"""

from __future__ import annotations

from controlplane.controllers.environment import Environment
from controlplane.controllers.garbage.collector import Collector
from controlplane.controllers.garbage.graph import Graph, Work
from controlplane.controllers.garbage.monitors import RESYNC_SECONDS, Monitors
from machinery.api.catalogue import APISERVICES, CUSTOMRESOURCEDEFINITIONS
from machinery.controller import Controller
from machinery.periodic import KEY, every

ACCOUNT = "generic-garbage-collector"


def build(env: Environment) -> list[Controller]:
    """The garbage collector; to be built after all others, whose informers it shares."""
    if not env.options["enable-garbage-collector"]:
        return []
    client = env.client_for(ACCOUNT)
    graph = Graph()

    def spread(work: Work) -> None:
        for uid in work.delete:
            collecting.enqueue(uid)
        for uid in work.orphan:
            orphaning.enqueue(uid)

    monitors = Monitors(
        graph, client, env.informers, env.metadata_informers, lambda: env.shared_resources, spread, env.clock
    )
    collector = Collector(
        graph,
        client,
        env.recorder("garbage-collector-controller", ACCOUNT),
        monitors.resource_of,
        spread,
        monitors.whole,
    )
    workers = env.options.concurrent("gc")
    collecting = Controller("garbage_collector_attempt_to_delete", collector.collect, workers=workers)
    orphaning = Controller("garbage_collector_attempt_to_orphan", collector.orphan, workers=workers)
    syncing = every("garbage_collector_monitors", RESYNC_SECONDS, monitors.sync)
    for resource in (CUSTOMRESOURCEDEFINITIONS, APISERVICES):  # what resources there are has changed
        env.informer(resource).on_change(lambda old, new: syncing.enqueue(KEY))
    return [collecting, orphaning, syncing]
