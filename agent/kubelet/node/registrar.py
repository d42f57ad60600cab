"""The node's object: made when the kubelet starts, and its status kept true.

Source: kubelet's kubelet_node_status.go; node heartbeats.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from agent.cri import api_pb2 as pb
from agent.cri.client import CriClient
from agent.cri.errors import CriError
from agent.kubelet.flags import Options
from agent.kubelet.node import capacity, conditions
from agent.kubelet.node.capacity import Amounts
from agent.kubelet.node.machine import Machine
from machinery.api import meta
from machinery.api.catalogue import NODES
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC, Client
from machinery.clock import Clock
from machinery.errors import AlreadyExists, NotFound, StatusError, TransportError
from machinery.log import get_logger
from machinery.version import KUBERNETES_VERSION

log = get_logger(__name__)

_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.2, 7.0
_IMAGES_SECONDS = 30.0
_MAX_NAMES = 5  # of one image, as upstream
_UNINITIALIZED = {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"}


@dataclass(frozen=True)
class NodeInputs:
    """What the node's object is made of."""

    options: Options
    machine: Machine
    ips: tuple[str, ...]
    capacity: Amounts
    allocatable: Amounts


class NodeRegistrar:
    """Registers the node and reports its status. `node` is the object as the API server has it."""

    def __init__(
        self,
        client: Client,
        cri: CriClient,
        inputs: NodeInputs,
        clock: Clock,
        problems: Callable[[], Awaitable[Sequence[str]]],
        tell: Callable[[str, str, str], None],
    ) -> None:
        """`tell(Normal or Warning, reason, message)` records an event about the node."""
        self._client = client
        self._cri = cri
        self._inputs = inputs
        self._clock = clock
        self._problems = problems
        self._tell = tell
        self.pressures: Callable[[], frozenset[str]] = frozenset
        self.of_plugins: Callable[[], tuple[Amounts, Amounts]] = lambda: ({}, {})  # (capacity, allocatable)
        self.volumes_in_use: Callable[[], list[str]] = list
        self._told: dict[str, str] = {}  # the status of a condition that was told last
        self._images: list[Object] = []
        self._images_at = float("-inf")
        self._runtime_version = ""
        self._handlers: list[Object] = []
        self._reported_at = float("-inf")
        self._changed = asyncio.Event()
        self.node: Object | None = None
        self.registered = asyncio.Event()

    def seen(self, old: Object | None, new: Object | None) -> None:
        """This node's object changed: an informer's handler."""
        if new is not None:
            self.node = new
        elif self.registered.is_set():
            log.warning("this node was deleted; registering again", node=self._inputs.options.node_name)
            self.node = None
            self._changed.set()

    def poke(self) -> None:
        """Something that the status shows may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Register, then report until cancelled."""
        settings = self._inputs.options.settings
        self._tell("Normal", "Starting", "Starting kubelet.")
        await self._persist(self._register if settings.register_node else self._read)
        self.registered.set()
        if "pods" in settings.enforce_allocatable:
            self._tell("Normal", "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")
        while True:
            self._changed.clear()
            await self._persist(self.report)
            try:
                async with asyncio.timeout(settings.status_update_seconds):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _persist(self, step: Callable[[], Awaitable[None]]) -> None:
        pause = _FIRST_RETRY_SECONDS
        while True:
            try:
                await step()
            except NotFound:
                log.warning("this node was deleted; registering again", node=self._inputs.options.node_name)
                self.node = None
                step = self._register
                await self._clock.sleep(_FIRST_RETRY_SECONDS)
            except (StatusError, TransportError, CriError) as error:
                log.warning("cannot report the node", node=self._inputs.options.node_name, err=str(error))
                await self._clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_RETRY_SECONDS)
            else:
                return

    async def _read(self) -> None:
        self.node = await self._client.get(NODES, self._inputs.options.node_name)

    async def _register(self) -> None:
        wanted = initial_node(self._inputs)
        try:
            wanted["status"] = await self._status(wanted)
            self.node = await self._client.create(NODES, wanted)
            self._reported_at = time.monotonic()
            log.info("node registered", node=meta.name_of(wanted))
        except AlreadyExists:
            self.node = await self._client.get(NODES, meta.name_of(wanted))
            before = ((self.node.get("status") or {}).get("nodeInfo") or {}).get("bootID")
            boot_id = self._inputs.machine.boot_id
            if before and before != boot_id:
                name = meta.name_of(wanted)
                self._tell("Warning", "Rebooted", f"Node {name} has been rebooted, boot id: {boot_id}")
            await self._reconcile(wanted)

    async def _reconcile(self, wanted: Object) -> None:
        """Labels and annotations that the kubelet owns, on a node that was there before."""
        if self.node is None:
            return
        ours = wanted["metadata"]
        changed: Object = {}
        for section in ("labels", "annotations"):
            present = self.node["metadata"].get(section) or {}
            missing = {k: v for k, v in (ours.get(section) or {}).items() if present.get(k) != v}
            if missing:
                changed[section] = missing
        if changed:
            patch = {"metadata": changed}
            self.node = await self._client.patch(NODES, meta.name_of(wanted), patch, content_type=STRATEGIC)

    async def report(self) -> None:
        """Send the status if it has changed, or if it is time to."""
        if self.node is None:
            return await self._register()
        old = self.node.get("status") or {}
        new = await self._status(self.node)
        self._tell_changes(new["conditions"])
        patch = _patch(old, new)
        due = time.monotonic() - self._reported_at >= self._inputs.options.settings.status_report_seconds
        if not patch and not due:
            return None
        body = {"status": {**patch, "conditions": new["conditions"]}}
        name = self._inputs.options.node_name
        self.node = await self._client.patch(NODES, name, body, content_type=STRATEGIC, subresource="status")
        self._reported_at = time.monotonic()
        return None

    def _declared(self) -> list[str]:
        declared = ["RestartAllContainersOnContainerExits"]
        if self._inputs.options.settings.cpu_manager_policy != "static":  # CPUs of their own stay what they are
            declared.insert(0, "GuaranteedQoSPodCPUResize")
        return declared

    def _tell_changes(self, now: Sequence[Object]) -> None:
        for condition in now:
            kind, status = condition["type"], condition["status"]
            if self._told.get(kind) == status:
                continue
            self._told[kind] = status
            event = condition["reason"].replace("Kubelet", "Node", 1)
            if kind == conditions.READY:
                event = "NodeReady" if status == "True" else "NodeNotReady"
            self._tell("Normal", event, f"Node {self._inputs.options.node_name} status is now: {event}")

    async def _status(self, node: Object) -> Object:
        inputs, machine, options = self._inputs, self._inputs.machine, self._inputs.options
        await self._ask_runtime()
        before = (node.get("status") or {}).get("conditions") or []
        now = meta.format_time(self._clock.now())
        of_plugins = self.of_plugins()
        has, usable = capacity.with_advertised(
            node.get("status") or {},
            {**inputs.capacity, **of_plugins[0]},
            {**inputs.allocatable, **of_plugins[1]},
        )
        status: Object = {
            "addresses": [
                *({"type": "InternalIP", "address": ip} for ip in inputs.ips),
                {"type": "Hostname", "address": options.node_name},
            ],
            "capacity": has,
            "allocatable": usable,
            "conditions": conditions.build(self.pressures(), await self._problems(), before, now),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": options.settings.port}},
            "nodeInfo": {
                "machineID": machine.machine_id,
                "systemUUID": machine.system_uuid,
                "bootID": machine.boot_id,
                "kernelVersion": machine.kernel_version,
                "osImage": machine.os_image,
                "containerRuntimeVersion": self._runtime_version,
                "kubeletVersion": KUBERNETES_VERSION,
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": machine.architecture,
                "swap": {"capacity": machine.swap_bytes},
            },
            "images": self._images,
            # What pods may ask of a node that not every kubelet has yet (KEP-5328).
            "declaredFeatures": self._declared(),
        }
        if options.cloud_provider:
            # Addresses are the cloud controller manager's to say.
            status["addresses"] = (node.get("status") or {}).get("addresses") or status["addresses"]
        in_use = self.volumes_in_use()
        if in_use or (node.get("status") or {}).get("volumesInUse"):
            status["volumesInUse"] = in_use
        if self._handlers:
            status["runtimeHandlers"] = self._handlers
        return status

    async def _ask_runtime(self) -> None:
        try:
            if not self._runtime_version:
                version = await self._cri.version()
                self._runtime_version = f"{version.runtime_name}://{version.runtime_version}"
                self._handlers = _handlers((await self._cri.status()).runtime_handlers)
            if time.monotonic() - self._images_at > _IMAGES_SECONDS:
                found = await self._cri.list_images()
                self._images = shown_images(found, self._inputs.options.settings.max_images_shown)
                self._images_at = time.monotonic()
        except CriError as error:
            log.debug("runtime does not answer", err=str(error))


def initial_node(inputs: NodeInputs) -> Object:
    """The node as it is registered."""
    options, machine = inputs.options, inputs.machine
    labels = {
        "beta.kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": options.node_name,
        "kubernetes.io/os": "linux",
        **options.node_labels,
    }
    annotations = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
    taints = list(options.settings.register_taints)
    if options.cloud_provider == "external":
        taints.append(_UNINITIALIZED)
        if options.node_ips:
            annotations["alpha.kubernetes.io/provided-node-ip"] = ",".join(options.node_ips)
    node: Object = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": options.node_name, "labels": labels, "annotations": annotations},
        "spec": {},
    }
    if taints:
        node["spec"]["taints"] = taints
    if options.settings.provider_id:
        node["spec"]["providerID"] = options.settings.provider_id
    return node


def _handlers(handlers: Sequence[pb.RuntimeHandler]) -> list[Object]:
    return [
        {
            "name": handler.name,
            "features": {
                "recursiveReadOnlyMounts": handler.features.recursive_read_only_mounts,
                "userNamespaces": handler.features.user_namespaces,
            },
        }
        for handler in handlers
    ]


def shown_images(images: Sequence[pb.Image], most: int) -> list[Object]:
    """status.images: the largest ones (`most` below 0: all)."""
    largest = sorted(images, key=lambda image: (-image.size, image.id))
    found = []
    for image in largest if most < 0 else largest[:most]:
        names = [*image.repo_digests, *image.repo_tags][:_MAX_NAMES] or [image.id]
        found.append({"names": names, "sizeBytes": image.size})
    return found


def _patch(old: Object, new: Object) -> Object:
    """What differs, heartbeat times aside; lists with merge keys say what is to go."""
    changed: Object = {}
    for name, value in new.items():
        if name == "conditions":
            if _without_times(old.get(name) or []) != _without_times(value):
                changed[name] = value
        elif name == "addresses":
            if old.get(name) != value:
                gone = {entry["type"] for entry in old.get(name) or ()} - {entry["type"] for entry in value}
                changed[name] = [*value, *({"type": kind, "$patch": "delete"} for kind in gone)]
        elif old.get(name) != value and (value or old.get(name)):
            changed[name] = value
    return changed


def _without_times(found: Sequence[Object]) -> list[Object]:
    owned = (conditions.MEMORY, conditions.DISK, conditions.PID, conditions.READY)
    kept = [c for c in found if c["type"] in owned]
    return [
        {k: v for k, v in c.items() if k != "lastHeartbeatTime"} for c in sorted(kept, key=lambda c: str(c["type"]))
    ]
