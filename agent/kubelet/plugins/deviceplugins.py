"""Device plugins: who registered, and which devices there are.

    plugin ──Register──► follow ListAndWatch ──► capacity of the node

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
from agent.kubelet import metrics
from agent.kubelet.plugins.api import deviceplugin_pb2 as pb
from agent.kubelet.plugins.channel import PluginChannel
from agent.kubelet.plugins.devicerecords import DeviceRecords
from agent.kubelet.plugins.registry import PluginInfo, PluginRefused
from agent.kubelet.plugins.serving import Method, Refused, SocketServer
from machinery.api import quantity
from machinery.api.quantity import Quantity
from machinery.clock import Clock
from machinery.log import get_logger

log = get_logger(__name__)

VERSION, HEALTHY = "v1beta1", "Healthy"
_SOCKET = "kubelet.sock"
_GRACE_SECONDS = 300.0  # how long a resource whose plugin is gone stays in the node's capacity
_EXTENDED = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
PLUGIN = "/v1beta1.DevicePlugin"


@dataclass(slots=True)
class Resource:
    """The devices of one plugin. `channel` is None until a plugin of an earlier kubelet has registered again."""

    name: str
    channel: PluginChannel | None
    options: pb.DevicePluginOptions
    devices: dict[str, pb.Device] = field(default_factory=dict)
    gone_at: float | None = None
    task: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> set[str]:
        """Ids of the devices that can be used."""
        return {i for i, d in self.devices.items() if d.health == HEALTHY} if self.gone_at is None else set()


class DevicePlugins:
    """All device plugins of this node. `on_change` is called when there are more or fewer devices."""

    def __init__(self, directory: str, clock: Clock, records: DeviceRecords, on_change: Callable[[], None]) -> None:
        self._directory, self._clock, self._on_change = directory, clock, on_change
        self._records = records
        now = clock.monotonic()
        self._resources = {
            name: Resource(name, None, pb.DevicePluginOptions(), gone_at=now) for name in records.registered
        }
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
        options = await channel.call(f"{PLUGIN}/GetDevicePluginOptions", pb.Empty(), pb.DevicePluginOptions, 10.0)
        await channel.close()
        await self._follow(info.name, info.endpoint, options)

    async def deregister(self, info: PluginInfo) -> None:
        """The plugin's socket is gone."""
        resource = self._resources.get(info.name)
        if resource is not None and resource.channel is not None and resource.channel.path == info.endpoint:
            await self._stop(resource)

    async def _follow(self, name: str, path: str, options: pb.DevicePluginOptions) -> None:
        before = self._resources.get(name)
        if before is not None:
            await self._stop(before)
        channel = PluginChannel(path)
        resource = self._resources[name] = Resource(name, channel, options)
        if before is not None:
            resource.devices = before.devices
        resource.task = asyncio.create_task(self._watch(resource, channel), name=f"device plugin {name}")
        metrics.DEVICE_REGISTRATIONS.labels(name).inc()
        log.info("device plugin registered", resource=name, socket=path)

    async def _stop(self, resource: Resource) -> None:
        if resource.task is not None:
            resource.task.cancel()
            await asyncio.gather(resource.task, return_exceptions=True)
        self._lost(resource)
        if resource.channel is not None:
            await resource.channel.close()

    async def _watch(self, resource: Resource, channel: PluginChannel) -> None:
        try:
            method = f"{PLUGIN}/ListAndWatch"
            async for message in channel.stream(method, pb.Empty(), pb.ListAndWatchResponse):
                resource.devices = {device.ID: device for device in message.devices}
                self._changed()
        except CriError as error:
            log.warning("device plugin does not answer any more", resource=resource.name, err=str(error))
        self._lost(resource)

    def _lost(self, resource: Resource) -> None:
        if resource.gone_at is None:
            resource.gone_at = self._clock.monotonic()
            self._changed()

    def _changed(self) -> None:
        self._records.save({name: sorted(resource.healthy) for name, resource in self._resources.items()})
        self._on_change()

    # -- the node's capacity -----------------------------------------------------------------------------------------

    def amounts(self) -> tuple[dict[str, Quantity], dict[str, Quantity]]:
        """(capacity, allocatable) of all resources of plugins."""
        capacity, allocatable = {}, {}
        for name, resource in list(self._resources.items()):
            if resource.gone_at is not None and self._clock.monotonic() - resource.gone_at > _GRACE_SECONDS:
                capacity[name] = allocatable[name] = quantity.ZERO
                continue
            capacity[name] = quantity.of(len(resource.devices))
            allocatable[name] = quantity.of(len(resource.healthy))
        return capacity, allocatable

    def get(self, name: str) -> Resource | None:
        """The resource of this name, if a plugin has or had it."""
        return self._resources.get(name)

    def devices(self) -> Mapping[str, Iterable[pb.Device]]:
        """The usable devices by resource."""
        return {n: [d for i, d in r.devices.items() if i in r.healthy] for n, r in self._resources.items()}


def _is_extended(name: str) -> bool:
    prefix = name.partition("/")[0]
    return _EXTENDED.fullmatch(name) is not None and prefix != "kubernetes.io" and not prefix.endswith(".kubernetes.io")
