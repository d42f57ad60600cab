"""The pod resources API: monitoring agents ask which pods have which devices.

Source: k8s.io/kubelet/pkg/apis/podresources/v1; KEP-606.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

from agent.kubelet import metrics
from agent.kubelet.kit import Kit
from agent.kubelet.plugins.api import podresources_pb2 as pb
from agent.kubelet.plugins.dra import SPECIAL, ClaimDevice, ClaimError, claim_names, devices_of, special_devices
from agent.kubelet.plugins.serving import Method, Refused, SocketServer
from agent.kubelet.pods import spec
from agent.kubelet.resources.memorystate import Block
from machinery.api import meta
from machinery.api.meta import Object


class PodResources:
    """Serves pod-resources/kubelet.sock."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._server = SocketServer(
            os.path.join(kit.root_dir, "pod-resources", "kubelet.sock"),
            "v1.PodResourcesLister",
            {
                "List": Method(pb.ListPodResourcesRequest, self._list),
                "Get": Method(pb.GetPodResourcesRequest, self._get),
                "GetAllocatableResources": Method(pb.AllocatableResourcesRequest, self._allocatable),
            },
        )

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._server.start()
        try:
            await asyncio.Event().wait()
        finally:
            await self._server.stop()

    async def _list(self, _: pb.ListPodResourcesRequest) -> pb.ListPodResourcesResponse:
        self._count()
        return pb.ListPodResourcesResponse(pod_resources=[self._of_pod(pod) for pod in self._kit.active_pods()])

    async def _get(self, request: pb.GetPodResourcesRequest) -> pb.GetPodResourcesResponse:
        self._count()
        for pod in self._kit.active_pods():
            if (meta.name_of(pod), meta.namespace_of(pod)) == (request.pod_name, request.pod_namespace):
                return pb.GetPodResourcesResponse(pod_resources=self._of_pod(pod))
        raise Refused(f"pod {request.pod_name} in namespace {request.pod_namespace} not found", missing=True)

    async def _allocatable(self, _: pb.AllocatableResourcesRequest) -> pb.AllocatableResourcesResponse:
        self._count()
        made = pb.AllocatableResourcesResponse(cpu_ids=sorted(self._kit.cpus.allocatable))
        for name, devices in self._kit.devices.plugins.devices().items():
            for device in devices:
                entry = made.devices.add(resource_name=name, device_ids=[device.ID])
                for node in device.topology.nodes:
                    entry.topology.nodes.add(ID=node.ID)
        for block in self._kit.memory.allocatable:
            _add_memory(made.memory, block)
        return made

    @staticmethod
    def _count() -> None:
        metrics.POD_RESOURCES_REQUESTS.labels("v1").inc()

    def _of_pod(self, pod: Object) -> pb.PodResources:
        made = pb.PodResources(name=meta.name_of(pod), namespace=meta.namespace_of(pod))
        sidecars = [c for c in spec.init_containers(pod) if spec.is_sidecar(c)]
        for container in [*sidecars, *spec.containers(pod)]:
            entry = made.containers.add(name=container["name"])
            entry.cpu_ids.extend(sorted(self._kit.cpus.exclusive(meta.uid_of(pod), container["name"])))
            for block in self._kit.memory.blocks(meta.uid_of(pod), container["name"]):
                _add_memory(entry.memory, block)
            for name, ids in self._kit.devices.held(meta.uid_of(pod), container["name"]).items():
                entry.devices.add(resource_name=name, device_ids=ids)
            self._add_claims(pod, container, entry)
        return made

    def _add_claims(self, pod: Object, container: Object, entry: pb.ContainerResources) -> None:
        try:
            names, ready = dict(claim_names(pod)), self._kit.claims.ready(pod)
        except ClaimError:
            return
        for wanted in (container.get("resources") or {}).get("claims") or ():
            resource = entry.dynamic_resources.add(
                claim_name=names.get(wanted["name"], ""), claim_namespace=meta.namespace_of(pod)
            )
            _add_devices(resource, devices_of({"resources": {"claims": [wanted]}}, ready))
        if special := special_devices(pod, container, ready):
            resource = entry.dynamic_resources.add(claim_name=names[SPECIAL], claim_namespace=meta.namespace_of(pod))
            _add_devices(resource, special)


def _add_devices(resource: pb.DynamicResource, devices: Iterable[ClaimDevice]) -> None:
    for device in devices:
        claimed = resource.claim_resources.add(
            driver_name=device.driver, pool_name=device.pool, device_name=device.device, share_id=device.share
        )
        for cdi in device.cdi_ids:
            claimed.cdi_devices.add(name=cdi)


def _add_memory(into: Any, block: Block) -> None:
    made = into.add(memory_type=block.kind, size=block.size)
    for number in block.nodes:
        made.topology.nodes.add(ID=number)
