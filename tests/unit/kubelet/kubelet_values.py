"""Pods and what the runtime holds of them, as the kubelet's unit tests need them."""

from __future__ import annotations

from typing import Any

from agent.kubelet.container.model import EXITED, RUNNING, Container, RuntimePod, Sandbox
from machinery.api.meta import Object


def container(name: str = "c", **fields: Any) -> Object:
    return {"name": name, "image": "busybox:1.35", **fields}


def sized(name: str = "c", requests: Object | None = None, limits: Object | None = None, **fields: Any) -> Object:
    resources = {"requests": requests, "limits": limits}
    return container(name, resources={k: v for k, v in resources.items() if v}, **fields)


def pod(*containers: Object, name: str = "p", uid: str = "", metadata: Object | None = None, **spec: Any) -> Object:
    own = {"name": name, "namespace": "default", "uid": uid or f"uid-{name}", "generation": 1, **(metadata or {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": own,
        "spec": {"containers": list(containers) or [container()], **spec},
        "status": {},
    }


def ran(name: str = "c", state: str = RUNNING, *, count: int = 0, created: int = 0, **fields: Any) -> Container:
    """A container as the runtime has it; `created` in seconds."""
    own = {"sandbox_id": "s0", "created_at": created * 10**9, "restart_count": count, **fields}
    return Container(
        id=fields.pop("id", f"{name}-{count}"), name=name, state=state, **{k: v for k, v in own.items() if k != "id"}
    )


def ended(name: str = "c", code: int = 0, **fields: Any) -> Container:
    return ran(name, EXITED, exit_code=code, **fields)


def sandbox(number: int = 0, *, ready: bool = True) -> Sandbox:
    return Sandbox(id=f"s{number}", ready=ready, attempt=number, created_at=number, ips=("10.0.0.1",))


def runtime(*containers: Container, sandboxes: tuple[Sandbox, ...] | None = None, uid: str = "uid-p") -> RuntimePod:
    """What the runtime holds, newest first."""
    return RuntimePod(uid, "p", "default", (sandbox(),) if sandboxes is None else sandboxes, containers)
