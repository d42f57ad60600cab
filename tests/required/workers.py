"""The nodes that pods of the tests may run on."""

from __future__ import annotations

from cluster import Cluster, has_condition

from machinery.api.catalogue import NODES
from machinery.api.meta import Object

HOSTNAME = "kubernetes.io/hostname"


async def schedulable_nodes(cluster: Cluster) -> list[Object]:
    """Ready, not cordoned, and with no taint that keeps pods away."""
    return [node for node in (await cluster.client.list(NODES)).items if _schedulable(node)]


def _schedulable(node: Object) -> bool:
    spec = node["spec"]
    taints = [taint for taint in spec.get("taints") or () if taint["effect"] != "PreferNoSchedule"]
    return not taints and not spec.get("unschedulable") and has_condition(node, "Ready")
