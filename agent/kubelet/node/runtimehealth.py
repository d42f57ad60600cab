"""Whether the runtime and its network are ready: what makes the node ready, and lets pods start.

Source: kubelet's runtime.go and updateRuntimeUp.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from agent.cri import api_pb2 as pb
from agent.cri.client import CriClient
from agent.cri.errors import CriError
from agent.kubelet.container.imagevolumes import mounted_by
from agent.kubelet.container.view import RuntimeView
from agent.kubelet.kit import NodeFacts
from machinery.clock import Clock
from machinery.log import get_logger

log = get_logger(__name__)

_PERIOD_SECONDS = 5.0
_TROUBLED_PERIOD_SECONDS = 1.0
_DOWN_SECONDS = 30.0


class RuntimeHealth:
    """Asks the runtime how it is, every few seconds."""

    def __init__(self, cri: CriClient, node: NodeFacts) -> None:
        self._cri = cri
        self._node = node
        self._answered_at = 0.0
        self._runtime_error = "container runtime status check may not have completed yet"
        self._listener: Callable[[], None] = lambda: None
        self.is_shutting_down: Callable[[], bool] = lambda: False

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call this when the answer is another one than before."""
        self._listener = listener

    async def first(self, clock: Clock) -> None:
        """Wait until the runtime answers at all."""
        told = False
        while True:
            try:
                version = await self._cri.version()
            except CriError as error:
                if not told:
                    log.warning("waiting for the container runtime", err=str(error))
                    told = True
                await clock.sleep(_TROUBLED_PERIOD_SECONDS)
            else:
                self._node.runtime_name = version.runtime_name
                self._node.mounts_images = mounted_by(version.runtime_name, version.runtime_version)
                await self._ask()
                return

    async def run(self, clock: Clock) -> None:
        """Ask until cancelled."""
        while True:
            before = (self._runtime_error, self._node.network_error)
            await self._ask()
            if before != (self._runtime_error, self._node.network_error):
                self._listener()
            troubled = self._runtime_error or self._node.network_error
            await clock.sleep(_TROUBLED_PERIOD_SECONDS if troubled else _PERIOD_SECONDS)

    async def _ask(self) -> None:
        try:
            answer = await self._cri.status()
        except CriError as error:
            if time.monotonic() - self._answered_at > _DOWN_SECONDS:
                self._runtime_error = f"container runtime is down: {error}"
            return
        self._answered_at = time.monotonic()
        status = answer.status
        self._node.user_namespace_handlers = frozenset(
            handler.name for handler in answer.runtime_handlers if handler.features.user_namespaces
        )
        runtime, network = _condition(status, "RuntimeReady"), _condition(status, "NetworkReady")
        self._runtime_error = "" if runtime is None or runtime.status else f"runtime not ready: {_shown(runtime)}"
        if network is not None and not network.status:
            self._node.network_error = f"container runtime network not ready: {_shown(network)}"
        else:
            self._node.network_error = ""

    def problems(self, view: RuntimeView) -> Sequence[str]:
        """What keeps the node from being ready."""
        found = [self._runtime_error, self._node.network_error]
        if view.last_look and not view.is_fresh:
            age = int(time.monotonic() - view.last_look)
            found.append(f"PLEG is not healthy: pleg was last seen active {age}s ago; threshold is 3m0s")
        if self.is_shutting_down():
            found.append("node is shutting down")
        return [problem for problem in found if problem]


def _condition(status: pb.RuntimeStatus, kind: str) -> pb.RuntimeCondition | None:
    return next((c for c in status.conditions if c.type == kind), None)


def _shown(condition: pb.RuntimeCondition) -> str:
    return f"{condition.type}=false reason:{condition.reason} message:{condition.message}"
