"""What the workers of all pods share: one value, built once, handed to each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from agent.cri.client import CriClient
from agent.kubelet.backoff import Backoff
from agent.kubelet.cgroups.pods import PodCgroups
from agent.kubelet.container import sandboxconfig
from agent.kubelet.container.images import ImageManager
from agent.kubelet.container.resources import Rules
from agent.kubelet.container.userns import UserNamespaces
from agent.kubelet.container.view import RuntimeView
from agent.kubelet.plugins.devices import DeviceManager
from agent.kubelet.plugins.dra import DraManager
from agent.kubelet.pods.allocation import Allocations
from agent.kubelet.pods.fieldref import PodFacts
from agent.kubelet.pods.statusmanager import StatusManager
from agent.kubelet.probes.handlers import Handlers
from agent.kubelet.probes.manager import ProbeManager
from agent.kubelet.references import References
from agent.kubelet.resources.cpus import CpuManager
from agent.kubelet.resources.memory import MemoryManager
from agent.kubelet.resources.topologymanager import TopologyManager
from agent.kubelet.runtimeclass import RuntimeClasses
from agent.kubelet.settings import Settings
from agent.kubelet.slots import Slots
from agent.kubelet.telling import Teller
from agent.kubelet.volumes.manager import VolumeManager
from agent.kubelet.volumes.tokens import Tokens
from machinery.api.meta import Object
from machinery.api.quantity import Quantity
from machinery.clock import Clock


@dataclass(slots=True)
class NodeFacts:
    """What is known of the node; addresses may come later than the rest."""

    name: str
    memory_bytes: int
    ips: tuple[str, ...] = ()
    allocatable: dict[str, Quantity] = field(default_factory=dict)
    runtime_name: str = "containerd"
    user_namespace_handlers: frozenset[str] = frozenset()  # the runtime's handlers that can have them
    mounts_images: bool = True  # the runtime makes volumes of images itself
    network_error: str = ""  # why pods can't have a network now


@dataclass(frozen=True)
class Kit:
    """The kubelet's parts."""

    settings: Settings
    root_dir: str
    node: NodeFacts
    clock: Clock
    cri: CriClient
    view: RuntimeView
    images: ImageManager
    volumes: VolumeManager
    tokens: Tokens
    references: References
    handlers: Handlers
    probes: ProbeManager
    statuses: StatusManager
    cgroups: PodCgroups
    rules: Rules
    teller: Teller
    crashes: Backoff
    slots: Slots
    runtime_classes: RuntimeClasses
    services: Callable[[Object], Iterable[Object]]  # all Services, for a pod; raises StartError until they are known
    allocations: Allocations
    devices: DeviceManager
    claims: DraManager
    cpus: CpuManager
    memory: MemoryManager
    topology: TopologyManager
    user_namespaces: UserNamespaces
    active_pods: Callable[[], list[Object]]  # every pod that uses the node's resources, as it was promised

    def pod_dir(self, uid: str) -> str:
        """The directory of everything that belongs to a pod."""
        return os.path.join(self.root_dir, "pods", uid)

    def log_directory(self, pod: Object) -> str:
        """Where a pod's logs are."""
        return sandboxconfig.log_directory(pod, self.settings.pod_logs_dir)

    @property
    def log_links_dir(self) -> str:
        """Where log collectors look: /var/log/containers, beside the logs themselves."""
        return os.path.join(os.path.dirname(self.settings.pod_logs_dir.rstrip("/")), "containers")

    def facts(self, pod_ips: tuple[str, ...]) -> PodFacts:
        """What a pod with these addresses may learn of itself."""
        return PodFacts(self.node.name, self.node.ips, pod_ips, self.node.allocatable)
