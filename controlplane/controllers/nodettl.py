"""How long kubelets may keep Secrets and ConfigMaps: an annotation of every node that grows with the cluster.

Source: k8s.io/kubernetes/pkg/controller/ttl/ttl_controller.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.controllers.environment import Environment
from machinery.api.catalogue import NODES
from machinery.api.meta import Object, annotations_of, name_of
from machinery.cache.informer import Informer
from machinery.client.rest import STRATEGIC, Client
from machinery.controller import Controller
from machinery.errors import NotFound

ACCOUNT = "ttl-controller"
ANNOTATION = "node.alpha.kubernetes.io/ttl"
# (seconds, at fewer nodes the step below holds again, at more nodes the step above)
_STEPS = ((0, 0, 100), (15, 90, 500), (30, 450, 1000), (60, 900, 2000), (300, 1800, 2**31))


def next_step(step: int, nodes: int) -> int:
    """The step for so many nodes, from the present one: with some slack, so that it does not flap at a border."""
    while step < len(_STEPS) - 1 and nodes > _STEPS[step][2]:
        step += 1
    while step > 0 and nodes < _STEPS[step][1]:
        step -= 1
    return step


@dataclass
class NodeTTL:
    """Keeps the annotation of one node at a time."""

    nodes: Informer
    client: Client
    step: int = 0

    async def reconcile(self, key: str) -> float | None:
        """Write the annotation, if it is not what it should be."""
        node = self.nodes.get(key)
        seconds = str(_STEPS[self.step][0])
        if node is None or annotations_of(node).get(ANNOTATION) == seconds:
            return None
        patch = {"metadata": {"annotations": {ANNOTATION: seconds}}}
        try:
            await self.client.patch(NODES, key, patch, content_type=STRATEGIC)
        except NotFound:
            return None
        return None


def build(env: Environment) -> list[Controller]:
    """The controller of nodes' TTL annotation."""
    nodes = env.informer(NODES)
    ttl = NodeTTL(nodes, env.client_for(ACCOUNT))
    controller = Controller("ttlcontroller", ttl.reconcile, workers=5)

    def node_changed(old: Object | None, new: Object | None) -> None:
        before = ttl.step
        ttl.step = next_step(before, len(nodes))
        if ttl.step != before:
            for node in nodes.list():
                controller.enqueue(name_of(node))
        elif new is not None and ANNOTATION not in annotations_of(new):
            controller.enqueue(name_of(new))

    nodes.on_change(node_changed)
    return [controller]
