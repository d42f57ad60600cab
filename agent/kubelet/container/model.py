"""What the runtime holds of one pod, as immutable values.

Source: k8s.io/cri-api runtime/v1; kubelet's container.PodStatus.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CREATED, RUNNING, EXITED, UNKNOWN = "created", "running", "exited", "unknown"


@dataclass(frozen=True, slots=True)
class Container:
    """One container, in the state it was seen in last. Times are nanoseconds since 1970, 0 for never."""

    id: str
    name: str
    sandbox_id: str
    state: str
    created_at: int
    restart_count: int = 0
    hash: str = ""
    image: str = ""  # as the runtime names it
    image_ref: str = ""  # digest or id of what was pulled
    image_id: str = ""
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log_path: str = ""
    annotations: dict[str, str] = field(default_factory=dict, hash=False, compare=False)
    resources: Any = field(default=None, hash=False, compare=False)  # pb.LinuxContainerResources, if the runtime says
    user: Any = field(default=None, hash=False, compare=False)  # pb.LinuxContainerUser, if the runtime says


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One sandbox of a pod."""

    id: str
    ready: bool
    attempt: int
    created_at: int
    ips: tuple[str, ...] = ()
    host_network: bool = False
    runtime_handler: str = ""
    cgroup_parent: str = ""


@dataclass(frozen=True, slots=True)
class RuntimePod:
    """All sandboxes and containers of one pod, newest first."""

    uid: str
    name: str
    namespace: str
    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Container, ...] = ()

    @property
    def sandbox(self) -> Sandbox | None:
        """The newest sandbox."""
        return self.sandboxes[0] if self.sandboxes else None

    @property
    def ready_sandbox(self) -> Sandbox | None:
        """The newest sandbox, if it is ready."""
        sandbox = self.sandbox
        return sandbox if sandbox is not None and sandbox.ready else None

    @property
    def ips(self) -> tuple[str, ...]:
        """Addresses of the newest sandbox, if it is ready."""
        sandbox = self.ready_sandbox
        return sandbox.ips if sandbox is not None else ()

    def container(self, name: str) -> Container | None:
        """The newest container of this name."""
        return next((c for c in self.containers if c.name == name), None)

    def containers_of(self, name: str) -> list[Container]:
        """All containers of this name, newest first."""
        return [c for c in self.containers if c.name == name]

    def by_id(self, container_id: str) -> Container | None:
        """The container of this id."""
        return next((c for c in self.containers if c.id == container_id), None)

    @property
    def active(self) -> RuntimePod:
        """The same with only the containers of the newest sandbox."""
        sandbox = self.sandbox
        kept = tuple(c for c in self.containers if sandbox is not None and c.sandbox_id == sandbox.id)
        return RuntimePod(self.uid, self.name, self.namespace, self.sandboxes, kept)

    @property
    def has_live_parts(self) -> bool:
        """Whether a container may be running or a sandbox is ready."""
        return any(c.state in (RUNNING, UNKNOWN) for c in self.containers) or any(s.ready for s in self.sandboxes)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the pod is left in the runtime."""
        return not self.sandboxes and not self.containers


def container_id(runtime_name: str, container: Container) -> str:
    """A container's id as the API shows it: `containerd://…`."""
    return f"{runtime_name}://{container.id}"
