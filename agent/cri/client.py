"""The kubelet's side of the Container Runtime Interface v1.

One method for each call of the protocol that a kubelet makes. Messages are the protocol's own (`agent.cri.api_pb2`);
every failure is a CriError.

Source: k8s.io/cri-api runtime/v1; KubeletConfiguration runtimeRequestTimeout.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc

from agent.cri import api_pb2 as pb
from agent.cri.errors import map_error
from agent.cri.figures import Operation

_Answer = TypeVar("_Answer")

# Upstream's default limit: node-wide lists of thousands of containers stay far below it.
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class CriClient:
    """Calls to one runtime (and its image service). Use as an async context manager, inside a running loop.

    `timeout_seconds` bounds each call that has no time of its own (KubeletConfiguration.runtimeRequestTimeout).
    """

    def __init__(self, endpoint: str, image_endpoint: str = "", *, timeout_seconds: float = 120) -> None:
        options = [
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.enable_http_proxy", 0),
            # A runtime that restarts is back within a second or two: don't back off for minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            # A socket has no host name; some servers refuse the path gRPC would send as the authority.
            ("grpc.default_authority", "localhost"),
        ]
        self._timeout_seconds = timeout_seconds
        self._methods: dict[str, Callable[..., Any]] = {}
        self._operations: dict[str, Operation] = {}
        self._runtime = grpc.aio.insecure_channel(_target(endpoint), options=options)
        separate = image_endpoint not in ("", endpoint)
        self._images = (
            grpc.aio.insecure_channel(_target(image_endpoint), options=options) if separate else self._runtime
        )

    async def __aenter__(self) -> CriClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; calls under way end with CriError."""
        await self._runtime.close()
        if self._images is not self._runtime:
            await self._images.close()

    def _method(self, service: str, name: str, answer: Any) -> Callable[..., Any]:
        method = self._methods.get(name)
        if method is None:
            channel = self._images if service == "ImageService" else self._runtime
            method = self._methods[name] = channel.unary_unary(
                f"/runtime.v1.{service}/{name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )
        return method

    async def _call(
        self,
        name: str,
        request: Any,
        answer: type[_Answer],
        timeout_seconds: float | None = 0,
        service: str = "RuntimeService",
    ) -> _Answer:
        limit = self._timeout_seconds if timeout_seconds == 0 else timeout_seconds
        operation = self._operations.get(name)
        if operation is None:
            operation = self._operations[name] = Operation(name)
        try:
            with operation.counted():
                return await self._method(service, name, answer)(request, timeout=limit)  # type: ignore[no-any-return]
        except grpc.aio.AioRpcError as error:
            raise map_error(error) from error

    async def _image_call(
        self, name: str, request: Any, answer: type[_Answer], timeout_seconds: float | None = 0
    ) -> _Answer:
        return await self._call(name, request, answer, timeout_seconds, "ImageService")

    # The runtime itself

    async def version(self) -> pb.VersionResponse:
        """Name and version of the runtime."""
        return await self._call("Version", pb.VersionRequest(version="0.1.0"), pb.VersionResponse)

    async def status(self, *, verbose: bool = False) -> pb.StatusResponse:
        """Conditions (RuntimeReady, NetworkReady), handlers and features."""
        return await self._call("Status", pb.StatusRequest(verbose=verbose), pb.StatusResponse)

    async def runtime_config(self) -> pb.RuntimeConfigResponse:
        """What the runtime wants of the kubelet: the cgroup driver. CriUnimplemented before containerd 2.0."""
        return await self._call("RuntimeConfig", pb.RuntimeConfigRequest(), pb.RuntimeConfigResponse)

    # Sandboxes

    async def run_pod_sandbox(self, config: pb.PodSandboxConfig, runtime_handler: str = "") -> str:
        """Create and start a sandbox; its id."""
        request = pb.RunPodSandboxRequest(config=config, runtime_handler=runtime_handler)
        # Twice the usual time, as upstream: a sandbox may wait for its image and its network.
        answer = await self._call("RunPodSandbox", request, pb.RunPodSandboxResponse, self._timeout_seconds * 2)
        return answer.pod_sandbox_id

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        """Stop everything in the sandbox and give its network back. May be repeated."""
        await self._call(
            "StopPodSandbox", pb.StopPodSandboxRequest(pod_sandbox_id=sandbox_id), pb.StopPodSandboxResponse
        )

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        """Remove the sandbox and its containers. May be repeated."""
        await self._call(
            "RemovePodSandbox", pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id), pb.RemovePodSandboxResponse
        )

    async def pod_sandbox_status(self, sandbox_id: str, *, verbose: bool = False) -> pb.PodSandboxStatusResponse:
        """State and addresses of one sandbox."""
        request = pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id, verbose=verbose)
        return await self._call("PodSandboxStatus", request, pb.PodSandboxStatusResponse)

    async def list_pod_sandboxes(self, labels: Mapping[str, str] | None = None) -> Sequence[pb.PodSandbox]:
        """All sandboxes, or those with these labels."""
        request = pb.ListPodSandboxRequest(filter=pb.PodSandboxFilter(label_selector=dict(labels or {})))
        return (await self._call("ListPodSandbox", request, pb.ListPodSandboxResponse)).items

    # Containers

    async def create_container(
        self, sandbox_id: str, config: pb.ContainerConfig, sandbox_config: pb.PodSandboxConfig
    ) -> str:
        """Create a container in a sandbox; its id."""
        request = pb.CreateContainerRequest(pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox_config)
        return (await self._call("CreateContainer", request, pb.CreateContainerResponse)).container_id

    async def start_container(self, container_id: str) -> None:
        """Start a created container."""
        await self._call(
            "StartContainer", pb.StartContainerRequest(container_id=container_id), pb.StartContainerResponse
        )

    async def stop_container(self, container_id: str, grace_seconds: int) -> None:
        """SIGTERM (or the image's stop signal), and SIGKILL after the grace; returns when it has ended."""
        request = pb.StopContainerRequest(container_id=container_id, timeout=grace_seconds)
        await self._call("StopContainer", request, pb.StopContainerResponse, self._timeout_seconds + grace_seconds)

    async def remove_container(self, container_id: str) -> None:
        """Remove a container, by force if it runs. May be repeated."""
        await self._call(
            "RemoveContainer", pb.RemoveContainerRequest(container_id=container_id), pb.RemoveContainerResponse
        )

    async def list_containers(self, labels: Mapping[str, str] | None = None) -> Sequence[pb.Container]:
        """All containers, or those with these labels."""
        request = pb.ListContainersRequest(filter=pb.ContainerFilter(label_selector=dict(labels or {})))
        return (await self._call("ListContainers", request, pb.ListContainersResponse)).containers

    async def container_status(self, container_id: str, *, verbose: bool = False) -> pb.ContainerStatusResponse:
        """State, times and exit code of one container."""
        request = pb.ContainerStatusRequest(container_id=container_id, verbose=verbose)
        return await self._call("ContainerStatus", request, pb.ContainerStatusResponse)

    async def update_container_resources(self, container_id: str, resources: pb.LinuxContainerResources) -> None:
        """Change a running container's limits."""
        request = pb.UpdateContainerResourcesRequest(container_id=container_id, linux=resources)
        await self._call("UpdateContainerResources", request, pb.UpdateContainerResourcesResponse)

    async def reopen_container_log(self, container_id: str) -> None:
        """Make the runtime write to a new log file after the old one was renamed."""
        request = pb.ReopenContainerLogRequest(container_id=container_id)
        await self._call("ReopenContainerLog", request, pb.ReopenContainerLogResponse)

    async def checkpoint_container(self, container_id: str, location: str, timeout_seconds: int) -> None:
        """Write a running container's state to an archive at `location` on the host, in this time or the usual one."""
        # As upstream: never less than any other call has.
        limit = max(timeout_seconds, int(self._timeout_seconds))
        request = pb.CheckpointContainerRequest(container_id=container_id, location=location, timeout=limit)
        await self._call("CheckpointContainer", request, pb.CheckpointContainerResponse, limit)

    # Running things in containers

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout_seconds: float) -> pb.ExecSyncResponse:
        """Run a command to its end; CriTimeout when it takes longer (0: no limit)."""
        request = pb.ExecSyncRequest(container_id=container_id, cmd=command, timeout=int(timeout_seconds))
        # The runtime kills the command at its time; ours is only for a runtime that doesn't answer.
        limit = self._timeout_seconds + timeout_seconds if timeout_seconds else None
        return await self._call("ExecSync", request, pb.ExecSyncResponse, limit)

    async def exec(self, request: pb.ExecRequest) -> str:
        """URL of a streaming server where the command's streams are waiting."""
        return (await self._call("Exec", request, pb.ExecResponse)).url

    async def attach(self, request: pb.AttachRequest) -> str:
        """URL of a streaming server where the container's streams are waiting."""
        return (await self._call("Attach", request, pb.AttachResponse)).url

    async def port_forward(self, sandbox_id: str, ports: Sequence[int] = ()) -> str:
        """URL of a streaming server where the sandbox's ports can be reached."""
        request = pb.PortForwardRequest(pod_sandbox_id=sandbox_id, port=ports)
        return (await self._call("PortForward", request, pb.PortForwardResponse)).url

    # Figures and events

    async def list_container_stats(self, labels: Mapping[str, str] | None = None) -> Sequence[pb.ContainerStats]:
        """Usage of running containers."""
        request = pb.ListContainerStatsRequest(filter=pb.ContainerStatsFilter(label_selector=dict(labels or {})))
        return (await self._call("ListContainerStats", request, pb.ListContainerStatsResponse)).stats

    async def list_pod_sandbox_stats(self) -> Sequence[pb.PodSandboxStats]:
        """Usage of sandboxes. CriUnimplemented in older runtimes."""
        request = pb.ListPodSandboxStatsRequest()
        return (await self._call("ListPodSandboxStats", request, pb.ListPodSandboxStatsResponse)).stats

    async def container_events(self) -> AsyncIterator[pb.ContainerEventResponse]:
        """What happens to containers, as it happens. CriUnimplemented before containerd 1.7."""
        call = self._runtime.unary_stream(
            "/runtime.v1.RuntimeService/GetContainerEvents",
            request_serializer=pb.GetEventsRequest.SerializeToString,
            response_deserializer=pb.ContainerEventResponse.FromString,
        )(pb.GetEventsRequest())
        try:
            async for event in call:
                yield event
        except grpc.aio.AioRpcError as error:
            raise map_error(error) from error
        finally:
            call.cancel()

    # Images

    async def list_images(self) -> Sequence[pb.Image]:
        """All images of the runtime."""
        return (await self._image_call("ListImages", pb.ListImagesRequest(), pb.ListImagesResponse)).images

    async def image_status(self, image: pb.ImageSpec) -> pb.Image | None:
        """The image of this reference, or None if it is not there."""
        answer = await self._image_call("ImageStatus", pb.ImageStatusRequest(image=image), pb.ImageStatusResponse)
        return answer.image if answer.HasField("image") else None

    async def pull_image(
        self, image: pb.ImageSpec, auth: pb.AuthConfig | None, sandbox_config: pb.PodSandboxConfig | None
    ) -> str:
        """Pull an image; the reference of what was pulled. Takes as long as it takes."""
        request = pb.PullImageRequest(image=image, auth=auth, sandbox_config=sandbox_config)
        return (await self._image_call("PullImage", request, pb.PullImageResponse, None)).image_ref

    async def remove_image(self, image: pb.ImageSpec) -> None:
        """Remove an image with all its tags. May be repeated."""
        await self._image_call("RemoveImage", pb.RemoveImageRequest(image=image), pb.RemoveImageResponse)

    async def image_fs_info(self) -> pb.ImageFsInfoResponse:
        """Filesystems that hold images, and their use."""
        return await self._image_call("ImageFsInfo", pb.ImageFsInfoRequest(), pb.ImageFsInfoResponse)


def _target(endpoint: str) -> str:
    """gRPC's target for upstream's `unix:///run/x.sock` (or a bare path)."""
    if endpoint.startswith("/"):
        return f"unix:{endpoint}"
    return "unix:" + endpoint.removeprefix("unix://") if endpoint.startswith("unix://") else endpoint
