"""The loop of the pod network: Nodes and the host's links -> plan -> kernel, CNI configuration and masquerading.

It works when Nodes change, when somebody changes links or routes, and from time to time in any case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.network import cni, forwarding, masquerade
from agent.network.errors import NetworkError
from agent.network.model import NetworkPlan, NodeNetwork, OverlaySettings
from agent.network.planning import plan_network
from agent.network.policy import enforcer
from agent.network.rtnetlink import KernelNetwork
from agent.nft.errors import NftError
from machinery.api.meta import Object
from machinery.cache.informer import Informer
from machinery.clock import Clock
from machinery.events import EventRecorder
from machinery.log import get_logger

log = get_logger(__name__)

_SETTLE_SECONDS = 0.02  # a change of links comes as a burst of messages
_FIRST_RETRY_SECONDS = 0.5
_LONGEST_RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class NetworkSettings:
    """What the agent is told."""

    node_name: str
    own_ip: str  # when no Node object tells
    cni_folder: Path
    overlay: OverlaySettings
    mtu: int = 0  # of pods' links; 0: what the host's links allow
    look_seconds: float = 30.0  # between two looks whether all is as it should be


class NetworkAgent:
    """Keeps this host's pod network as the Nodes say."""

    def __init__(
        self, nodes: Informer, kernel: KernelNetwork, settings: NetworkSettings, recorder: EventRecorder, clock: Clock
    ) -> None:
        self._nodes = nodes
        self._kernel = kernel
        self._settings = settings
        self._recorder = recorder
        self._clock = clock
        self._wake = asyncio.Event()
        self._known: dict[str, NodeNetwork] = {}
        self._plan: NetworkPlan | None = None
        self._masqueraded: bytes | None = None

    def watch(self) -> None:
        """Begin to take notice of Nodes."""
        self._nodes.on_change(self._node_changed)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """Heartbeats change Nodes all the time; what counts here hardly ever changes."""
        if new is None:
            if old is not None:
                self._known.pop(NodeNetwork.of(old).name, None)
                self._wake.set()
            return
        node = NodeNetwork.of(new)
        if self._known.get(node.name) != node:
            self._known[node.name] = node
            self._wake.set()

    async def run(self) -> None:
        """Work until cancelled. The Nodes must have synced."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._reconcile_always())

    async def _listen(self) -> None:
        async for _ in self._kernel.changes():
            self._wake.set()

    async def _reconcile_always(self) -> None:
        delay = _FIRST_RETRY_SECONDS
        while True:
            self._wake.clear()
            try:
                await self.reconcile()
                delay = _FIRST_RETRY_SECONDS
            except NetworkError as error:
                log.error("pod network is not as it should be, trying again", error=error, seconds=delay)
                self._tell(str(error))
                await self._clock.sleep(delay)
                delay = min(delay * 2, _LONGEST_RETRY_SECONDS)
                continue
            await self._next()

    async def _next(self) -> None:
        try:
            async with asyncio.timeout(self._settings.look_seconds):
                await self._wake.wait()
        except TimeoutError:
            self._masqueraded = None  # look at everything, whatever is believed
        else:
            await asyncio.sleep(_SETTLE_SECONDS)

    async def reconcile(self) -> None:
        """Plan, and bring about what differs. Raises NetworkError."""
        settings = self._settings
        plan = plan_network(
            self._known.values(),
            settings.node_name,
            await self._kernel.links(),
            settings.own_ip,
            settings.overlay,
            settings.mtu,
        )
        self._report(plan)
        forwarding.enable(plan.pod_ranges)
        await self._kernel.apply(plan)
        if plan.bridge is not None:
            self._write_cni(cni.render(plan.bridge))
        script = masquerade.render(plan.bridge.ranges if plan.bridge else (), plan.pod_ranges)
        if script != self._masqueraded:
            await masquerade.apply(script)
            self._masqueraded = script
        self._plan = plan

    def _write_cni(self, content: bytes) -> None:
        try:
            if cni.write(self._settings.cni_folder, content):
                log.info("wrote CNI configuration", file=str(self._settings.cni_folder / cni.FILE_NAME))
        except OSError as error:
            raise NetworkError(f"CNI configuration: {error.strerror}: {error.filename}") from error

    def _report(self, plan: NetworkPlan) -> None:
        known: Sequence[str] = self._plan.problems if self._plan else ()
        for problem in plan.problems:
            if problem not in known:
                log.warning("part of the pod network can't be", problem=problem)
                self._tell(problem)

    def _tell(self, message: str) -> None:
        node = self._nodes.get(self._settings.node_name)
        if node is not None:
            self._recorder.warning({**node, "kind": "Node", "apiVersion": "v1"}, "NetworkNotReady", message)


async def clean_up(cni_folder: Path) -> None:
    """Take everything away that the agent ever makes. Raises NetworkError."""
    cni.remove(cni_folder)
    async with KernelNetwork() as kernel:
        await kernel.remove()
    await masquerade.apply(masquerade.render((), ()))
    try:
        await enforcer.clean_up()
    except NftError as error:
        raise NetworkError(f"NetworkPolicies: {error}") from error
