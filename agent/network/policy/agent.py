"""The loop of NetworkPolicy: what changes in the API -> what must be true on this node -> the kernel.

Informers' handlers keep the state and wake the loop; what comes in together is carried out together.
"""

from __future__ import annotations

import asyncio
import time

from prometheus_client import Counter, Histogram

from agent.network.policy.enforcer import Enforcer
from agent.network.policy.model import Pod, Policy
from agent.network.policy.rendering import render
from agent.network.policy.state import PolicyState
from agent.nft.errors import NftError
from machinery.api.catalogue import NAMESPACES, NETWORKPOLICIES, PODS
from machinery.api.meta import Object, key_of, labels_of
from machinery.cache.informer import Informer, Informers
from machinery.clock import Clock
from machinery.events import EventRecorder
from machinery.log import get_logger

log = get_logger(__name__)

_COALESCE_SECONDS = 0.005
_FIRST_RETRY_SECONDS = 0.5
_LONGEST_RETRY_SECONDS = 30.0

SYNC_SECONDS = Histogram("navarch_network_policy_sync_duration_seconds", "Time of one change of the policies' rules")
FAILURES = Counter("navarch_network_policy_sync_failures_total", "Changes of the policies' rules that failed")


class PolicyAgent:
    """Keeps this node's pods behind the policies that select them."""

    def __init__(
        self, informers: Informers, node: str, recorder: EventRecorder, clock: Clock, look_seconds: float
    ) -> None:
        """`look_seconds` is the time between two looks whether the rules are still there."""
        self._state = PolicyState(node)
        self._enforcer = Enforcer()
        self._recorder = recorder
        self._clock = clock
        self._look_seconds = look_seconds
        self._wake = asyncio.Event()
        self._sources: list[Informer] = [
            informers.of(NAMESPACES, transform=_shrunk),
            informers.of(PODS, transform=_shrunk),
            informers.of(NETWORKPOLICIES),
        ]
        for informer, handler in zip(
            self._sources, (self._namespace_changed, self._pod_changed, self._policy_changed), strict=True
        ):
            informer.on_change(handler)

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if self._state.set_namespace(key_of(new or old or {}), labels_of(new) if new else None):
            self._wake.set()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if self._state.set_pod(key_of(new or old or {}), Pod.of(new) if new else None):
            self._wake.set()

    def _policy_changed(self, old: Object | None, new: Object | None) -> None:
        policy = Policy.of(new) if new else None
        if not self._state.set_policy(key_of(new or old or {}), policy):
            return
        self._wake.set()
        for problem in policy.problems if policy else ():
            log.warning("part of a NetworkPolicy allows nothing", policy=policy and policy.key, problem=problem)
            self._recorder.warning(new or {}, "InvalidNetworkPolicy", problem)

    async def run(self) -> None:
        """Work until cancelled."""
        for informer in self._sources:
            await informer.synced()
        delay = _FIRST_RETRY_SECONDS
        while True:
            self._wake.clear()
            try:
                await self.reconcile()
            except NftError as error:
                FAILURES.inc()
                log.error(
                    "NetworkPolicies are not enforced as they should be, trying again", error=error, seconds=delay
                )
                self._tell(f"NetworkPolicies are not enforced as they should be: {error}")
                await self._clock.sleep(delay)
                delay = min(delay * 2, _LONGEST_RETRY_SECONDS)
                continue
            delay = _FIRST_RETRY_SECONDS
            await self._next()

    async def _next(self) -> None:
        try:
            async with asyncio.timeout(self._look_seconds):
                await self._wake.wait()
        except TimeoutError:
            self._enforcer.doubt()
        else:
            await asyncio.sleep(_COALESCE_SECONDS)

    async def reconcile(self) -> None:
        """Bring about what differs. Raises NftError."""
        began = time.monotonic()
        await self._enforcer.enforce(render(self._state) if self._state.policies else None)
        SYNC_SECONDS.observe(time.monotonic() - began)

    def _tell(self, message: str) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._state.node, "uid": self._state.node}}
        self._recorder.warning(node, "NetworkPolicyNotEnforced", message)


def _shrunk(obj: Object) -> Object:
    """A Pod or a Namespace without what policies do not look at."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "labels")
    ports = [
        {"ports": [port for port in container.get("ports") or () if port.get("name")]}
        for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    ]
    return {
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {
            "nodeName": spec.get("nodeName"),
            "hostNetwork": spec.get("hostNetwork"),
            "containers": [container for container in ports if container["ports"]],
        },
        "status": {name: status[name] for name in ("phase", "podIP", "podIPs") if name in status},
    }
