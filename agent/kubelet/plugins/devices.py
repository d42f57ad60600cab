"""Devices of device plugins: which there are, which containers have them, and what a container needs to use its own.

    plugin ──Register──► follow ListAndWatch ──► capacity of the node
    pod admitted ──► devices chosen ──► Allocate ──► environment, mounts, device files of the container

Source: Device Plugins; kubelet's cm/devicemanager; k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from agent.cri.errors import CriError
from agent.kubelet.plugins.api import deviceplugin_pb2 as pb
from agent.kubelet.plugins.channel import PluginChannel
from agent.kubelet.plugins.devicerecords import DeviceRecords
from agent.kubelet.plugins.registry import PluginInfo, PluginRefused
from agent.kubelet.plugins.serving import Method, Refused, SocketServer
from agent.kubelet.pods import spec
from agent.kubelet.pods.status import Verdict
from machinery.api import meta, podresources, quantity
from machinery.api.meta import Object
from machinery.api.quantity import Quantity
from machinery.clock import Clock
from machinery.log import get_logger

log = get_logger(__name__)

VERSION, HEALTHY = "v1beta1", "Healthy"
_SOCKET = "kubelet.sock"
_GRACE_SECONDS = 300.0  # how long a resource whose plugin is gone stays in the node's capacity
_EXTENDED = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_PLUGIN = "/v1beta1.DevicePlugin"


@dataclass(slots=True)
class _Resource:
    name: str
    channel: PluginChannel
    options: pb.DevicePluginOptions
    devices: dict[str, pb.Device] = field(default_factory=dict)
    gone_at: float | None = None
    task: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> set[str]:
        """Ids of the devices that can be used."""
        return {i for i, d in self.devices.items() if d.health == HEALTHY} if self.gone_at is None else set()


class DeviceManager:
    """All device plugins of this node. `on_change` is called when there are more or fewer devices."""

    def __init__(self, directory: str, clock: Clock, on_change: Callable[[], None]) -> None:
        self._directory, self._clock, self._on_change = directory, clock, on_change
        self._resources: dict[str, _Resource] = {}
        self._records = DeviceRecords(directory)
        self._server = SocketServer(
            os.path.join(directory, _SOCKET),
            "v1beta1.Registration",
            {"Register": Method(pb.RegisterRequest, self._registered)},
        )

    # -- plugins -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Listen for plugins until cancelled."""
        for name in os.listdir(self._directory):
            # As upstream: a plugin sees that its socket is gone, and registers with the new kubelet.
            path = os.path.join(self._directory, name)
            if name != _SOCKET and not self._records.is_own(path):
                with contextlib.suppress(OSError):
                    os.unlink(path)
        await self._server.start()
        try:
            await asyncio.Event().wait()
        finally:
            await self._server.stop()
            await asyncio.gather(*(self._stop(r) for r in list(self._resources.values())))

    async def _registered(self, request: pb.RegisterRequest) -> pb.Empty:
        if request.version != VERSION:
            raise Refused(
                f'requested API version "{request.version}" is not supported by kubelet. '
                f'Supported versions are ["{VERSION}"]'
            )
        if not _is_extended(request.resource_name):
            raise Refused(f'the ResourceName "{request.resource_name}" is invalid')
        path = os.path.join(self._directory, os.path.basename(request.endpoint))
        await self._follow(request.resource_name, path, request.options)
        return pb.Empty()

    async def register(self, info: PluginInfo) -> None:
        """Take a plugin of the plugin registry. Raises PluginRefused, CriError."""
        if VERSION not in info.versions:
            raise PluginRefused(
                f"device plugin API version, {', '.join(info.versions)}, does not match the supported version: "
                f"{VERSION}"
            )
        if not _is_extended(info.name):
            raise PluginRefused(f"invalid name of device plugin socket: the ResourceName {info.name!r} is invalid")
        channel = PluginChannel(info.endpoint)
        options = await channel.call(f"{_PLUGIN}/GetDevicePluginOptions", pb.Empty(), pb.DevicePluginOptions, 10.0)
        await channel.close()
        await self._follow(info.name, info.endpoint, options)

    async def deregister(self, info: PluginInfo) -> None:
        """The plugin's socket is gone."""
        resource = self._resources.get(info.name)
        if resource is not None and resource.channel.path == info.endpoint:
            await self._stop(resource)

    async def _follow(self, name: str, path: str, options: pb.DevicePluginOptions) -> None:
        before = self._resources.get(name)
        if before is not None:
            await self._stop(before)
        resource = self._resources[name] = _Resource(name, PluginChannel(path), options)
        self._records.register(name)
        if before is not None:
            resource.devices = before.devices
        resource.task = asyncio.create_task(self._watch(resource), name=f"device plugin {name}")
        log.info("device plugin registered", resource=name, socket=path)

    async def _stop(self, resource: _Resource) -> None:
        if resource.task is not None:
            resource.task.cancel()
            await asyncio.gather(resource.task, return_exceptions=True)
        self._lost(resource)
        await resource.channel.close()

    async def _watch(self, resource: _Resource) -> None:
        try:
            method = f"{_PLUGIN}/ListAndWatch"
            async for message in resource.channel.stream(method, pb.Empty(), pb.ListAndWatchResponse):
                resource.devices = {device.ID: device for device in message.devices}
                self._on_change()
        except CriError as error:
            log.warning("device plugin does not answer any more", resource=resource.name, err=str(error))
        self._lost(resource)

    def _lost(self, resource: _Resource) -> None:
        if resource.gone_at is None:
            resource.gone_at = self._clock.monotonic()
            self._on_change()

    # -- the node's capacity -----------------------------------------------------------------------------------------

    def amounts(self) -> tuple[dict[str, Quantity], dict[str, Quantity]]:
        """(capacity, allocatable) of all resources of plugins; none where the plugin is not back since a restart."""
        capacity = dict.fromkeys(self._records.registered, quantity.ZERO)
        allocatable = dict(capacity)
        for name, resource in list(self._resources.items()):
            if resource.gone_at is not None and self._clock.monotonic() - resource.gone_at > _GRACE_SECONDS:
                capacity[name] = allocatable[name] = quantity.ZERO
                continue
            capacity[name] = quantity.of(len(resource.devices))
            allocatable[name] = quantity.of(len(resource.healthy))
        return capacity, allocatable

    def devices(self) -> Mapping[str, Iterable[pb.Device]]:
        """The usable devices by resource."""
        return {n: [d for i, d in r.devices.items() if i in r.healthy] for n, r in self._resources.items()}

    # -- pods --------------------------------------------------------------------------------------------------------

    def admit(self, pod: Object) -> Verdict | None:
        """Choose the devices of a pod that is to be taken; why it can't be, if there are too few."""
        uid = meta.uid_of(pod)
        for container in [*spec.init_containers(pod), *spec.containers(pod)]:
            for name, amount in podresources.of_container(container, "limits").items():
                resource = self._resources.get(name)
                if resource is None or self._records.ids(uid, container["name"], name):
                    continue
                wanted = amount.value()
                free = sorted(resource.healthy - self._records.taken(name))
                if wanted > len(free):
                    self._records.forget(uid)
                    told = (
                        f"Allocate failed due to requested number of devices unavailable for {name}. "
                        f"Requested: {wanted}, Available: {len(free)}, which is unexpected"
                    )
                    return Verdict("UnexpectedAdmissionError", told)
                self._records.choose(uid, container["name"], name, free[:wanted])
        return None

    async def prepare(self, pod: Object) -> None:
        """Allocate what was chosen. Raises CriError."""
        uid = meta.uid_of(pod)
        for container, name, ids in self._records.pending(uid):
            resource = self._resources.get(name)
            if resource is None:
                continue
            ids = await self._preferred(resource, uid, container, ids)
            request = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=ids)])
            answer = await resource.channel.call(f"{_PLUGIN}/Allocate", request, pb.AllocateResponse)
            made = answer.container_responses[0] if answer.container_responses else pb.ContainerAllocateResponse()
            self._records.allocate(uid, container, name, made)

    async def _preferred(self, resource: _Resource, uid: str, container: str, ids: list[str]) -> list[str]:
        if not resource.options.get_preferred_allocation_available:
            return ids
        free = sorted((resource.healthy - self._records.taken(resource.name)) | set(ids))
        wanted = pb.ContainerPreferredAllocationRequest(available_deviceIDs=free, allocation_size=len(ids))
        request = pb.PreferredAllocationRequest(container_requests=[wanted])
        method = f"{_PLUGIN}/GetPreferredAllocation"
        answer = await resource.channel.call(method, request, pb.PreferredAllocationResponse)
        chosen = [
            i for i in (answer.container_responses[0].deviceIDs if answer.container_responses else ()) if i in free
        ]
        chosen = (chosen + [i for i in ids if i not in chosen])[: len(ids)]
        self._records.choose(uid, container, resource.name, chosen)
        return chosen

    async def before_start(self, pod: Object, container: Object) -> list[pb.ContainerAllocateResponse]:
        """What the container needs to use its devices; tells plugins that want to know. Raises CriError."""
        uid, name = meta.uid_of(pod), container["name"]
        for resource_name in self._records.resources(uid, name):
            resource = self._resources.get(resource_name)
            if resource is not None and resource.options.pre_start_required:
                ids = self._records.ids(uid, name, resource_name)
                request = pb.PreStartContainerRequest(devices_ids=ids)
                await resource.channel.call(f"{_PLUGIN}/PreStartContainer", request, pb.PreStartContainerResponse, 30.0)
        return self._records.responses(uid, name)

    def held(self, uid: str, container: str) -> dict[str, list[str]]:
        """Ids of a container's devices, by resource."""
        return {name: self._records.ids(uid, container, name) for name in self._records.resources(uid, container)}

    def forget(self, uid: str) -> None:
        """The pod has ended: others may have its devices."""
        self._records.forget(uid)


def _is_extended(name: str) -> bool:
    prefix = name.partition("/")[0]
    return _EXTENDED.fullmatch(name) is not None and prefix != "kubernetes.io" and not prefix.endswith(".kubernetes.io")
