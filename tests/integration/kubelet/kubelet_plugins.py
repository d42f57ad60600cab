"""Plugins of the tests' own, as vendors write them: gRPC servers on sockets that register with the kubelet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from agent.kubelet import mounts
from agent.kubelet.plugins.api import csi_pb2 as csi
from agent.kubelet.plugins.api import deviceplugin_pb2 as device
from agent.kubelet.plugins.api import dra_pb2 as dra
from agent.kubelet.plugins.api import registration_pb2 as registration

Answer = Callable[[Any], Awaitable[Any]]


def unary(request: Any, answer: Answer) -> Any:
    async def serve(message: Any, _: Any) -> Any:
        return await answer(message)

    return grpc.unary_unary_rpc_method_handler(
        serve, request_deserializer=request.FromString, response_serializer=lambda made: made.SerializeToString()
    )


@asynccontextmanager
async def serving(path: Path, services: dict[str, dict[str, Any]]) -> AsyncIterator[None]:
    server = grpc.aio.server()
    for service, handlers in services.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


def registering(kind: str, name: str, versions: list[str], told: list[Any]) -> dict[str, Any]:
    """The Registration service of a plugin; what the kubelet says of it goes to `told`."""

    async def info(_: Any) -> Any:
        return registration.PluginInfo(type=kind, name=name, supported_versions=versions)

    async def notified(status: Any) -> Any:
        told.append(status)
        return registration.RegistrationStatusResponse()

    return {
        "GetInfo": unary(registration.InfoRequest, info),
        "NotifyRegistrationStatus": unary(registration.RegistrationStatus, notified),
    }


class CsiPlugin:
    """A driver whose volumes are directories; every call is noted."""

    name = "dirs.example.com"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.calls: list[tuple[str, Any]] = []
        self.told: list[Any] = []
        directory.mkdir(exist_ok=True)

    @asynccontextmanager
    async def running(self, registry: Path) -> AsyncIterator[CsiPlugin]:
        node = {
            "NodeGetInfo": unary(csi.NodeGetInfoRequest, self._info),
            "NodeGetCapabilities": unary(csi.NodeGetCapabilitiesRequest, self._capabilities),
            "NodeStageVolume": unary(csi.NodeStageVolumeRequest, self._noting("stage", csi.NodeStageVolumeResponse)),
            "NodeUnstageVolume": unary(
                csi.NodeUnstageVolumeRequest, self._noting("unstage", csi.NodeUnstageVolumeResponse)
            ),
            "NodeExpandVolume": unary(
                csi.NodeExpandVolumeRequest, self._noting("expand", csi.NodeExpandVolumeResponse)
            ),
            "NodePublishVolume": unary(csi.NodePublishVolumeRequest, self._publish),
            "NodeUnpublishVolume": unary(csi.NodeUnpublishVolumeRequest, self._unpublish),
        }
        services = {
            "pluginregistration.Registration": registering("CSIPlugin", self.name, ["1.0.0"], self.told),
            "csi.v1.Node": node,
        }
        async with serving(registry / "dirs.sock", services):
            yield self

    def _noting(self, name: str, answer: Any) -> Answer:
        async def note(request: Any) -> Any:
            self.calls.append((name, request))
            return answer()

        return note

    async def _info(self, _: Any) -> Any:
        return csi.NodeGetInfoResponse(node_id="node-1", max_volumes_per_node=7)

    async def _capabilities(self, _: Any) -> Any:
        rpc = csi.NodeServiceCapability.RPC
        kinds = (rpc.STAGE_UNSTAGE_VOLUME, rpc.EXPAND_VOLUME)
        return csi.NodeGetCapabilitiesResponse(
            capabilities=[csi.NodeServiceCapability(rpc=rpc(type=kind)) for kind in kinds]
        )

    async def _publish(self, request: Any) -> Any:
        self.calls.append(("publish", request))
        source = self.directory / request.volume_id
        source.mkdir(exist_ok=True)
        os.makedirs(request.target_path, exist_ok=True)
        mounts.bind(str(source), request.target_path)
        return csi.NodePublishVolumeResponse()

    async def _unpublish(self, request: Any) -> Any:
        self.calls.append(("unpublish", request))
        mounts.unmount(request.target_path)
        os.rmdir(request.target_path)
        return csi.NodeUnpublishVolumeResponse()

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


class DevicePlugin:
    """Two devices that are files of the host."""

    resource = "example.com/thing"

    def __init__(self) -> None:
        self.health = {"thing-a": "Healthy", "thing-b": "Healthy"}
        self.allocated: list[list[str]] = []
        self.refuses = False
        self._changed = asyncio.Event()

    def change(self, name: str, health: str) -> None:
        self.health[name] = health
        self._changed.set()

    @asynccontextmanager
    async def running(self, directory: Path) -> AsyncIterator[DevicePlugin]:
        async def watch(_: Any, __: Any) -> AsyncIterator[Any]:
            while True:
                self._changed.clear()
                found = [device.Device(ID=name, health=health) for name, health in self.health.items()]
                yield device.ListAndWatchResponse(devices=found)
                await self._changed.wait()

        handlers = {
            "Allocate": unary(device.AllocateRequest, self._allocate),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                watch,
                request_deserializer=device.Empty.FromString,
                response_serializer=lambda made: made.SerializeToString(),
            ),
        }
        async with (
            serving(directory / "thing.sock", {"v1beta1.DevicePlugin": handlers}),
            grpc.aio.insecure_channel(f"unix:{directory}/kubelet.sock") as channel,
        ):
            register = channel.unary_unary(
                "/v1beta1.Registration/Register",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=device.Empty.FromString,
            )
            await register(
                device.RegisterRequest(version="v1beta1", endpoint="thing.sock", resource_name=self.resource)
            )
            yield self

    async def _allocate(self, request: Any) -> Any:
        ids = list(request.container_requests[0].devices_ids)
        if self.refuses:
            return device.AllocateResponse()
        self.allocated.append(ids)
        made = device.ContainerAllocateResponse(envs={"THINGS": ",".join(ids)})
        made.devices.add(container_path="/dev/thing", host_path="/dev/zero", permissions="r")
        return device.AllocateResponse(container_responses=[made])


class DraPlugin:
    """A driver of claims; what it prepares and gives back is noted."""

    name = "claims.example.com"

    def __init__(self) -> None:
        self.prepared: list[str] = []
        self.released: list[str] = []
        self.told: list[Any] = []

    @asynccontextmanager
    async def running(self, registry: Path) -> AsyncIterator[DraPlugin]:
        services = {
            "pluginregistration.Registration": registering("DRAPlugin", self.name, ["v1.DRAPlugin"], self.told),
            "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin": {
                "NodePrepareResources": unary(dra.NodePrepareResourcesRequest, self._prepare),
                "NodeUnprepareResources": unary(dra.NodeUnprepareResourcesRequest, self._unprepare),
            },
        }
        async with serving(registry / "claims.sock", services):
            yield self

    async def _prepare(self, request: Any) -> Any:
        answer = dra.NodePrepareResourcesResponse()
        for claim in request.claims:
            self.prepared.append(claim.name)
            answer.claims[claim.uid].devices.add(request_names=["req"], pool_name="pool", device_name="dev-1")
        return answer

    async def _unprepare(self, request: Any) -> Any:
        answer = dra.NodeUnprepareResourcesResponse()
        for claim in request.claims:
            self.released.append(claim.name)
            answer.claims[claim.uid].error = ""
        return answer
