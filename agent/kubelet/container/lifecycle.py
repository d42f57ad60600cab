"""Lifecycle hooks, and stopping containers with them.

Source: Container Lifecycle Hooks; kubelet's kuberuntime killContainer and lifecycle handlers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence

import orjson

from agent.cri.errors import CriNotFound
from agent.kubelet.container import identity
from agent.kubelet.container.model import RUNNING, UNKNOWN, Container, RuntimePod
from agent.kubelet.kit import Kit
from agent.kubelet.pods import spec
from agent.kubelet.pods.fieldref import go_quote
from agent.kubelet.probes.handlers import Target, find_port, joined
from machinery.api import meta
from machinery.api.meta import Object
from machinery.log import get_logger

log = get_logger(__name__)

MINIMUM_GRACE_SECONDS = 1


class Hooks:
    """Runs hooks and stops containers. One for the whole kubelet."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def run(self, handler: Object, pod: Object, container: Object, container_id: str) -> str | None:
        """Run a postStart or preStop handler; None if it succeeded, else what went wrong."""
        if handler.get("sleep"):
            await self._kit.clock.sleep(float(handler["sleep"]["seconds"]))
            return None
        if not (handler.get("exec") or handler.get("httpGet")):  # tcpSocket was never one that could be run
            return f"Cannot run handler: invalid handler: {orjson.dumps(handler).decode()}"
        runtime = self._kit.view.pod(meta.uid_of(pod))
        ips = self._kit.node.ips if spec.is_host_network(pod) else runtime.ips
        target = Target(pod, container, container_id, ips[0] if ips else "127.0.0.1")
        # No time of its own: the caller's grace period, or nothing, bounds it.
        of = f'for Container "{container["name"]}" in Pod "{spec.describe(pod)}" failed - error:'
        if action := handler.get("exec"):
            failed = await self._kit.handlers.exec_hook(action, target)
            command = " ".join(str(part) for part in action.get("command") or ())
            return (
                f"Exec lifecycle hook ([{command}]) {of} {failed[0]}, message: {go_quote(failed[1])}"
                if failed
                else None
            )
        action = handler["httpGet"]
        try:
            failure, fell_back = await self._kit.handlers.http_hook(action, target)
        except ValueError as error:  # a port that has no number
            failure, fell_back = str(error), False
        if fell_back:
            where = joined(str(action.get("host") or target.pod_ip), find_port(action["port"], container))
            told = f"request to HTTPS lifecycle hook {where} got HTTP response, retry with HTTP succeeded"
            self._kit.teller.pod(pod, "Warning", "LifecycleHTTPFallback", told)
        return f"HTTP lifecycle hook ({action.get('path') or ''}) {of} {failure}" if failure else None

    async def kill_failed(self, pod: Object, container: Object, container_id: str) -> None:
        """Stop a container whose postStart hook failed."""
        status = self._kit.view.pod(meta.uid_of(pod)).by_id(container_id)
        if status is not None:
            await self.stop(pod, status, spec.grace_of(pod), message="FailedPostStartHook")

    async def stop(self, pod: Object, status: Container, grace_seconds: float, *, message: str = "") -> None:
        """preStop hook, then SIGTERM, then SIGKILL when the grace is over. Raises CriError."""
        kit = self._kit
        container = spec.find_container(pod, status.name)
        told = message or f"Stopping container {status.name}"
        kit.teller.pod(pod, "Normal", "Killing", told, container=status.name)
        handler = pre_stop(container, status)
        left = grace_seconds
        if handler and grace_seconds > 0 and status.state == RUNNING:
            began = kit.clock.monotonic()
            await self._pre_stop(handler, pod, container or {"name": status.name}, status, grace_seconds)
            left -= kit.clock.monotonic() - began
        if grace_seconds > 0:
            left = max(left, MINIMUM_GRACE_SECONDS)
        try:
            await kit.cri.stop_container(status.id, round(left))
        except CriNotFound:
            kit.view.note_removed(status.id)
            return
        await kit.view.note_container(status.id, status.sandbox_id)

    async def _pre_stop(
        self, handler: Object, pod: Object, container: Object, status: Container, grace_seconds: float
    ) -> None:
        try:
            async with asyncio.timeout(grace_seconds):
                failure = await self.run(handler, pod, container, status.id)
        except TimeoutError:
            log.warning("preStop hook did not end within the grace period", pod=meta.key_of(pod), container=status.name)
            return
        if failure is not None:
            self._kit.teller.pod(pod, "Warning", "FailedPreStopHook", "PreStopHook failed", container=status.name)

    async def stop_all(self, pod: Object, runtime: RuntimePod, grace_seconds: float) -> None:
        """Stop all containers: app containers together, then sidecars from the last to the first; then sandboxes.

        Raises CriError when something could not be stopped.
        """
        kit = self._kit
        began = kit.clock.monotonic()
        order = [c["name"] for c in spec.init_containers(pod) if spec.is_sidecar(c)]
        live = [c for c in runtime.containers if c.state in (RUNNING, UNKNOWN)]
        await self._stop_together(pod, (c for c in live if c.name not in order), grace_seconds)
        for name in reversed(order):
            left = max(grace_seconds - (kit.clock.monotonic() - began), MINIMUM_GRACE_SECONDS if grace_seconds else 0)
            await self._stop_together(pod, (c for c in live if c.name == name), left)
        for sandbox in runtime.sandboxes:
            if sandbox.ready:
                await kit.cri.stop_pod_sandbox(sandbox.id)
                await kit.view.note_sandbox(sandbox.id)

    async def _stop_together(self, pod: Object, containers: Iterable[Container], grace_seconds: float) -> None:
        stops = [self.stop(pod, status, grace_seconds) for status in containers]
        for result in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def reset(self, pod: Object, runtime: RuntimePod, last: Sequence[Container], grace_seconds: float) -> None:
        """Stop all containers but ephemeral ones and remove what they left; the sandbox stays. Raises CriError.

        The `last` ones are what tells that this has to be done: they go when all others are gone.
        """
        kept = {c["name"] for c in spec.ephemeral_containers(pod)}
        own = [c for c in runtime.containers if c.name not in kept]
        await self._stop_together(pod, (c for c in own if c.state in (RUNNING, UNKNOWN)), grace_seconds)
        asking = {status.id for status in last}
        for status in sorted(own, key=lambda c: c.id in asking):
            with contextlib.suppress(CriNotFound):
                await self._kit.cri.remove_container(status.id)
            self._kit.view.note_removed(status.id)

    async def remove_all(self, runtime: RuntimePod) -> None:
        """Remove what is left of a pod from the runtime. Raises CriError."""
        for sandbox in runtime.sandboxes:
            with contextlib.suppress(CriNotFound):
                await self._kit.cri.stop_pod_sandbox(sandbox.id)
                await self._kit.cri.remove_pod_sandbox(sandbox.id)
            self._kit.view.note_removed(sandbox.id)
        for container in runtime.containers:
            with contextlib.suppress(CriNotFound):
                await self._kit.cri.remove_container(container.id)
            self._kit.view.note_removed(container.id)


def pre_stop(container: Object | None, status: Container) -> Object | None:
    """A container's preStop handler: from its spec or, if that is gone, from what was written on the container."""
    if container is not None:
        handler: Object | None = (container.get("lifecycle") or {}).get("preStop")
        return handler
    written = status.annotations.get(identity.PRE_STOP_HANDLER)
    try:
        return orjson.loads(written) if written else None
    except orjson.JSONDecodeError:
        return None
