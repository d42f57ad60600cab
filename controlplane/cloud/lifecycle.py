"""Nodes whose machine is gone are deleted; those whose machine is switched off are tainted.

Source: k8s.io/cloud-provider/controllers/nodelifecycle/node_lifecycle_controller.go.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from controlplane.cloud.contract import Instances
from controlplane.cloud.environment import Environment
from machinery.api.catalogue import NODES
from machinery.api.meta import Object, condition, is_deleting, name_of, uid_of
from machinery.cache.informer import Informer
from machinery.client.rest import MERGE, Client
from machinery.controller import Controller
from machinery.errors import Conflict, NotFound
from machinery.events import EventRecorder
from machinery.periodic import every

ACCOUNT = "node-controller"
SHUTDOWN = "node.cloudprovider.kubernetes.io/shutdown"


def is_ready(node: Object) -> bool:
    """Whether the kubelet says that all is well."""
    ready = condition((node.get("status") or {}).get("conditions"), "Ready")
    return ready is not None and ready.get("status") == "True"


def with_shutdown_taint(node: Object, *, shut_down: bool) -> list[Object] | None:
    """The node's taints with or without the one of a machine that is off; None if they are right."""
    taints = list(node["spec"].get("taints") or ())
    others = [t for t in taints if t.get("key") != SHUTDOWN]
    if shut_down == (len(others) < len(taints)):
        return None
    return [*others, {"key": SHUTDOWN, "effect": "NoSchedule"}] if shut_down else others


@dataclass(frozen=True)
class CloudLifecycle:
    """Looks at all nodes in turn."""

    nodes: Informer
    instances: Instances
    client: Client
    recorder: EventRecorder

    async def round(self) -> None:
        """One look. Raises the first error, after all nodes have been looked at."""
        results = await asyncio.gather(*map(self._look_at, self.nodes.list()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _look_at(self, node: Object) -> None:
        if is_deleting(node):
            return
        if is_ready(node):
            await self._taint(node, shut_down=False)
            return
        if await self.instances.find(node) is None:
            name = name_of(node)
            told = f"Deleting node {name} because it does not exist in the cloud provider"
            self.recorder.normal(node, "DeletingNode", told)
            try:
                await self.client.delete(NODES, name, uid=uid_of(node))
            except NotFound:
                return
        elif await self.instances.is_shut_down(node):
            await self._taint(node, shut_down=True)

    async def _taint(self, node: Object, *, shut_down: bool) -> None:
        taints = with_shutdown_taint(node, shut_down=shut_down)
        if taints is None:
            return
        metadata = {"resourceVersion": node["metadata"]["resourceVersion"]}
        patch = {"metadata": metadata, "spec": {"taints": taints or None}}
        try:
            await self.client.patch(NODES, name_of(node), patch, content_type=MERGE)
        except (NotFound, Conflict):
            return  # looked at again in a moment


def build(env: Environment) -> list[Controller]:
    """The controller of machines that end; nothing without instances."""
    if env.cloud.instances is None:
        return []
    lifecycle = CloudLifecycle(
        env.informers.of(NODES),
        env.cloud.instances,
        env.client_for(ACCOUNT),
        env.recorder("cloud-node-lifecycle-controller", ACCOUNT),
    )
    return [every("cloud_node_lifecycle", float(env.flags["node-monitor-period"]), lifecycle.round)]
