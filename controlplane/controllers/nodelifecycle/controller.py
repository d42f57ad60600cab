"""The node lifecycle controller's wiring."""

from __future__ import annotations

from controlplane.controllers.environment import Environment
from controlplane.controllers.nodelifecycle.monitor import NodeMonitor
from controlplane.controllers.nodelifecycle.plan import EvictionRates
from machinery.api.catalogue import LEASES, NODES, PODS
from machinery.api.meta import Object, name_of
from machinery.controller import Controller
from machinery.periodic import every

ACCOUNT = "node-controller"


def build(env: Environment) -> list[Controller]:
    """The monitor of nodes' health, and the controller of their NoSchedule taints."""
    options, nodes = env.options, env.informer(NODES)
    recorder = env.recorder("node-controller", ACCOUNT)
    monitor = NodeMonitor(
        nodes=nodes,
        leases=env.informers.of(LEASES, namespace="kube-node-lease"),
        pods=env.informer(PODS),
        client=env.client_for(ACCOUNT),
        recorder=recorder,
        clock=env.clock,
        grace_seconds=options["node-monitor-grace-period"],
        startup_grace_seconds=options["node-startup-grace-period"],
        rates=EvictionRates(
            normal=options["node-eviction-rate"],
            secondary=options["secondary-node-eviction-rate"],
            large_cluster=options["large-cluster-size-threshold"],
            unhealthy_share=options["unhealthy-zone-threshold"],
        ),
    )
    tainting = Controller("node_lifecycle_controller", monitor.reconcile, workers=8)

    def node_changed(old: Object | None, new: Object | None) -> None:
        if new is not None:
            tainting.enqueue(name_of(new))
        elif old is not None:
            name = name_of(old)
            recorder.normal(old, "RemovingNode", f"Node {name} event: Removing Node {name} from Controller")

    nodes.on_change(node_changed)
    return [tainting, every("node_health", options["node-monitor-period"], monitor.round)]
