"""Bringing up a pod's sandbox and its containers, one call of the runtime after the other.

Source: kubelet's kuberuntime startContainer and createPodSandbox; event reasons and messages as upstream's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from agent.cri import api_pb2 as pb
from agent.cri.errors import CriError
from agent.kubelet import metrics
from agent.kubelet.container import containerconfig, dns, environment, sandboxconfig
from agent.kubelet.container.containerconfig import ContainerInputs
from agent.kubelet.container.deviceneeds import DeviceNeeds, Placement
from agent.kubelet.container.errors import ContainerConfigError, StartError
from agent.kubelet.container.images import Tell
from agent.kubelet.container.imagevolumes import ImageVolumes, Place
from agent.kubelet.container.lifecycle import Hooks
from agent.kubelet.container.model import RuntimePod
from agent.kubelet.kit import Kit
from agent.kubelet.pods import spec
from agent.kubelet.volumes.model import MountedVolume
from machinery.api import meta
from machinery.api.meta import Object
from machinery.errors import StatusError, TransportError
from machinery.log import get_logger

log = get_logger(__name__)

# Who goes first when many pods start: those whose sandbox is there already.
RANK_CONTAINER, RANK_SANDBOX = 0, 1


@dataclass(frozen=True, slots=True)
class PodStart:
    """What all containers of a pod need to start."""

    pod: Object
    sandbox_config: pb.PodSandboxConfig
    sandbox_id: str
    volumes: Mapping[str, MountedVolume]
    secrets: tuple[Object, ...]  # image pull secrets
    runtime_handler: str


class Starter:
    """Makes sandboxes and containers. One for the whole kubelet."""

    def __init__(self, kit: Kit, hooks: Hooks) -> None:
        self._kit = kit
        self._hooks = hooks
        self._image_volumes = ImageVolumes(kit.cri, kit.root_dir)

    def sandbox_config(self, pod: Object, attempt: int, runtime_handler: str) -> pb.PodSandboxConfig:
        """The sandbox's configuration. Raises StartError."""
        kit = self._kit
        host = dns.host_config(kit.settings.resolv_conf)
        names = dns.pod_config(pod, host, kit.settings.cluster_dns, kit.settings.cluster_domain)
        for reason, message in names.warnings:
            kit.teller.pod(pod, "Warning", reason, message)
        return sandboxconfig.build(
            pod, attempt, kit.settings, names, kit.cgroups.runtime_parent(pod), self._users(pod, runtime_handler)
        )

    def _users(self, pod: Object, runtime_handler: str) -> pb.UserNamespace | None:
        supported = runtime_handler in self._kit.node.user_namespace_handlers
        return self._kit.user_namespaces.of_pod(pod, supported=supported)

    async def run_sandbox(self, pod: Object, config: pb.PodSandboxConfig, runtime_handler: str) -> str:
        """Make a pod's sandbox; its id. Raises StartError after telling the user."""
        kit = self._kit
        try:
            os.makedirs(config.log_directory, mode=0o755, exist_ok=True)
            async with kit.slots.hold(RANK_SANDBOX):
                metrics.STARTED_PODS.inc()
                with metrics.timed(metrics.RUN_SANDBOX.labels(runtime_handler)):
                    sandbox_id = await kit.cri.run_pod_sandbox(config, runtime_handler)
            await kit.view.note_sandbox(sandbox_id)
        except (CriError, OSError) as error:
            metrics.STARTED_PODS_ERRORS.inc()
            metrics.RUN_SANDBOX_ERRORS.labels(runtime_handler).inc()
            kit.teller.pod(pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            raise StartError(f"failed to create a sandbox for pod {meta.key_of(pod)}: {error}") from error
        return sandbox_id

    async def pull_secrets(self, pod: Object) -> tuple[Object, ...]:
        """The pod's image pull secrets that are there; the missing ones are told."""
        found, missing = [], []
        for reference in pod["spec"].get("imagePullSecrets") or ():
            name = reference.get("name")
            if not name:
                continue
            try:
                secret = await self._kit.references.secret(meta.namespace_of(pod), name)
            except StartError:
                missing.append(name)
            else:
                found += [secret] if secret is not None else []
        if missing:
            self._kit.teller.pod(
                pod,
                "Warning",
                "FailedToRetrieveImagePullSecret",
                f"Unable to retrieve some image pull secrets ({', '.join(missing)}); attempting to pull the image may "
                "not succeed.",
            )
        return tuple(found)

    async def start(self, start: PodStart, container: Object, runtime: RuntimePod) -> str:
        """Pull, create and start one container; its id. Raises StartError after telling the user."""
        kind = spec.container_type(start.pod, container)
        metrics.STARTED_CONTAINERS.labels(kind).inc()
        try:
            return await self._start(start, container, runtime)
        except StartError as error:
            metrics.STARTED_CONTAINERS_ERRORS.labels(kind, error.reason).inc()
            raise

    async def _start(self, start: PodStart, container: Object, runtime: RuntimePod) -> str:
        kit, pod = self._kit, start.pod
        tell = kit.teller.of_container(pod, container)
        try:
            image = await kit.images.ensure(
                pod, container, start.secrets, start.sandbox_config, tell, start.runtime_handler
            )
        except StartError as error:
            tell("Warning", "Failed", f"Error: {error.reason}")
            raise
        start = replace(start, volumes=await self._with_images(start, container))
        config = await self._config(start, container, runtime, image, tell)
        async with kit.slots.hold(RANK_CONTAINER):
            container_id = await self._create(start, config, tell)
            try:
                await kit.cri.start_container(container_id)
            except CriError as error:
                tell("Warning", "Failed", f"Error: {error.detail}")
                await self._note(container_id, start.sandbox_id)
                raise StartError(error.detail, reason="RunContainerError") from error
        tell("Normal", "Started", "Container started")
        await self._note(container_id, start.sandbox_id)
        self._link_log(pod, container, container_id, config, start.sandbox_config)
        await self._post_start(start, container, container_id)
        return container_id

    async def _with_images(self, start: PodStart, container: Object) -> Mapping[str, MountedVolume]:
        """The pod's volumes; those of images that the container mounts are pulled. Raises StartError."""
        kit, pod = self._kit, start.pod
        mounted = {mount["name"] for mount in container.get("volumeMounts") or ()}
        volumes = dict(start.volumes)
        for name, volume in start.volumes.items():
            if volume.image is None or name not in mounted:
                continue
            asked = {"image": volume.image.get("reference"), "imagePullPolicy": volume.image.get("pullPolicy")}
            tell = partial(kit.teller.pod, pod)
            image = await kit.images.ensure(
                pod, asked, start.secrets, start.sandbox_config, tell, start.runtime_handler
            )
            if kit.node.mounts_images:
                volumes[name] = replace(volume, image={**volume.image, "reference": image.id})
            else:
                place = Place(pod, kit.pod_dir(meta.uid_of(pod)), start.sandbox_id, start.sandbox_config)
                volumes[name] = await self._image_volumes.shown(place, volume, image)
        return volumes

    async def _note(self, container_id: str, sandbox_id: str) -> None:
        with contextlib.suppress(CriError):  # the next look will find it
            await self._kit.view.note_container(container_id, sandbox_id)

    async def _config(
        self, start: PodStart, container: Object, runtime: RuntimePod, image: pb.Image, tell: Tell
    ) -> pb.ContainerConfig:
        try:
            return await self._build_config(start, container, runtime, image, tell)
        except ContainerConfigError as error:
            tell("Warning", "Failed", f"Error: {error}")
            raise
        except (StatusError, TransportError) as error:
            tell("Warning", "Failed", f"Error: {error}")
            raise ContainerConfigError(str(error)) from error

    async def _build_config(
        self, start: PodStart, container: Object, runtime: RuntimePod, image: pb.Image, tell: Tell
    ) -> pb.ContainerConfig:
        kit, pod = self._kit, start.pod
        ips = kit.node.ips if spec.is_host_network(pod) else kit.view.pod(meta.uid_of(pod)).ips
        facts, services = kit.facts(tuple(ips)), kit.services(pod)
        values = await environment.build(pod, container, facts, kit.references, services, start.volumes)
        for reason, message in values.warnings:
            tell("Warning", reason, message)
        previous = runtime.container(container["name"])
        if previous is not None:
            count = previous.restart_count + 1
        else:
            count = containerconfig.restart_count_of_logs(start.sandbox_config.log_directory, container["name"])
        pod_dir = kit.pod_dir(meta.uid_of(pod))
        needs = await self._device_needs(pod, container)
        return containerconfig.build(
            pod,
            container,
            ContainerInputs(
                settings=kit.settings,
                root_dir=kit.root_dir,
                pod_dir=pod_dir,
                rules=kit.rules,
                image=image,
                environment=values.values,
                pod_ips=ips,
                volumes=start.volumes,
                restart_count=count,
                target_id=self._target(container, runtime),
                users=self._users(pod, start.runtime_handler),
                needs=needs,
            ),
        )

    async def _device_needs(self, pod: Object, container: Object) -> DeviceNeeds:
        kit = self._kit
        try:
            responses = await kit.devices.before_start(pod, container)
        except CriError as error:
            raise ContainerConfigError(f"device plugin: PreStartContainer: {error}") from error
        uid, name = meta.uid_of(pod), container["name"]
        kit.cpus.started(pod, container)
        kit.memory.started(pod, container)
        placement = Placement(
            kit.cpus.cpuset(uid, name), kit.memory.mems(uid, name), bool(kit.cpus.exclusive(uid, name))
        )
        return DeviceNeeds(responses, kit.claims.cdi_ids(pod, container), placement)

    @staticmethod
    def _target(container: Object, runtime: RuntimePod) -> str:
        name = container.get("targetContainerName")
        if not name:
            return ""
        target = runtime.container(name)
        if target is None or target.state != "running":
            raise ContainerConfigError(f"unable to find target container {name}")
        return target.id

    async def _create(self, start: PodStart, config: pb.ContainerConfig, tell: Tell) -> str:
        try:
            container_id = await self._kit.cri.create_container(start.sandbox_id, config, start.sandbox_config)
        except CriError as error:
            tell("Warning", "Failed", f"Error: {error.detail}")
            raise StartError(error.detail, reason="CreateContainerError") from error
        tell("Normal", "Created", "Container created")
        return container_id

    def _link_log(
        self,
        pod: Object,
        container: Object,
        container_id: str,
        config: pb.ContainerConfig,
        sandbox_config: pb.PodSandboxConfig,
    ) -> None:
        """A link under the name that log collectors look for."""
        links = self._kit.log_links_dir
        link = os.path.join(links, containerconfig.symlink_name(pod, container["name"], container_id))
        try:
            os.makedirs(links, mode=0o755, exist_ok=True)
            os.symlink(os.path.join(sandbox_config.log_directory, config.log_path), link)
        except FileExistsError:
            pass
        except OSError as error:
            log.warning("cannot link container log", link=link, err=str(error))

    async def _post_start(self, start: PodStart, container: Object, container_id: str) -> None:
        handler = (container.get("lifecycle") or {}).get("postStart")
        if not handler:
            return
        failure = await self._hooks.run(handler, start.pod, container, container_id)
        if failure is None:
            return
        tell = self._kit.teller.of_container(start.pod, container)
        tell("Warning", "FailedPostStartHook", "PostStartHook failed")
        await self._hooks.kill_failed(start.pod, container, container_id)
        raise StartError(failure, reason="PostStartHookError")
