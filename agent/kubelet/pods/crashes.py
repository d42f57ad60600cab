"""CrashLoopBackOff: how long a container that keeps ending has to wait.

Source: kubelet's kuberuntime doBackOff; pod lifecycle, "Container restarts".
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.kubelet.backoff import Backoff
from agent.kubelet.container.identity import container_hash
from agent.kubelet.container.model import EXITED, RuntimePod
from agent.kubelet.pods import spec
from machinery.api import meta
from machinery.api.meta import Object
from machinery.settings import show_duration


@dataclass(frozen=True, slots=True)
class CrashPause:
    """A pause that is not over; `message` is for the status, `event` for the event."""

    seconds: float
    message: str
    event: str


def crash_key(pod: Object, container: Object) -> str:
    """The key of a container's back-off: it starts afresh when the container's definition changes."""
    return f"{meta.uid_of(pod)}_{container['name']}_{container_hash(container)}"


def crash_pause(crashes: Backoff, pod: Object, container: Object, runtime: RuntimePod) -> CrashPause | None:
    """What is left of the pause; None if the container may start, in which case the next pause is longer."""
    ended = next((c for c in runtime.containers_of(container["name"]) if c.state == EXITED), None)
    if ended is None:
        return None
    key, ended_at = crash_key(pod, container), ended.finished_at / 1e9
    left = crashes.remaining(key, ended_at)
    if left > 0:
        name, described = container["name"], spec.describe(pod)
        return CrashPause(
            left,
            f"back-off {show_duration(crashes.pause(key))} restarting failed container={name} pod={described}",
            f"Back-off restarting failed container {name} in pod {described}",
        )
    crashes.next(key, ended_at)
    return None
