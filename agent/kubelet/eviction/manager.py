"""Watching what the node has left; reclaiming, and evicting one pod at a time, when it is too little.

Source: Node-pressure Eviction; kubelet's eviction/eviction_manager.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agent.cri.errors import CriError
from agent.kubelet.collection.containers import ContainerCollector
from agent.kubelet.collection.images import ImageCollector
from agent.kubelet.eviction import ranking, thresholds
from agent.kubelet.eviction.observing import Observer
from agent.kubelet.eviction.ranking import Use
from agent.kubelet.eviction.thresholds import CONDITIONS, RESOURCES, Observation, Threshold
from agent.kubelet.kit import Kit
from agent.kubelet.metrics import EVICTIONS
from agent.kubelet.node.conditions import DISK, MEMORY
from agent.kubelet.pods import conditions, qos, spec
from agent.kubelet.pods.admission import tolerates
from agent.kubelet.pods.status import Verdict
from machinery.api import meta, podresources
from machinery.api.meta import Object
from machinery.log import get_logger

log = get_logger(__name__)

_PERIOD_SECONDS = 10.0
_IMMEDIATE_SECONDS = 1.0  # of grace, however long a pod would like to have
REASON = "Evicted"
_MEMORY_TAINT = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}

Evict = Callable[[str, Verdict, float], bool]
"""End the pod of this uid with so many seconds of grace; whether there is such a pod."""


class EvictionManager:
    """Keeps the node from running out. One for the whole kubelet."""

    def __init__(self, kit: Kit, images: ImageCollector, containers: ContainerCollector, evict: Evict) -> None:
        self._kit, self._images, self._containers, self._evict = kit, images, containers, evict
        self._observer = Observer(kit)
        self._thresholds = thresholds.configured(kit.settings)
        self._since: dict[Threshold, float] = {}  # when a threshold was met first
        self._condition_at: dict[str, float] = {}  # when a condition was seen last
        self._met: list[Threshold] = []
        self._listener: Callable[[], None] = lambda: None
        self.pressures: frozenset[str] = frozenset()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call this when a pressure begins or ends."""
        self._listener = listener

    async def run(self) -> None:
        """Look every ten seconds until cancelled."""
        while True:
            try:
                await self.look()
            except CriError as error:
                log.warning("cannot tell what pods use", err=str(error))
            await self._kit.clock.sleep(_PERIOD_SECONDS)

    async def look(self) -> None:
        """Look once, and evict a pod if one has to go."""
        await self._end_gluttons()
        now = self._kit.clock.monotonic()
        seen = await self._observer.signals()
        still = {t for t in thresholds.met(self._thresholds, seen, with_reclaim=True) if t in self._met}
        self._met = [t for t in self._thresholds if t in still or t in thresholds.met([t], seen)]
        self._since = {t: self._since.get(t, now) for t in self._met}
        self._set_pressures(now)
        due = [t for t in self._met if now - self._since[t] >= t.grace_seconds]
        if due:
            # Memory first: it is what ends everything when it is gone.
            due.sort(key=lambda t: (RESOURCES[t.signal] != "memory", not t.is_hard))
            await self._relieve(due[0], seen)

    def _set_pressures(self, now: float) -> None:
        for threshold in self._met:
            self._condition_at[CONDITIONS[threshold.signal]] = now
        held = self._kit.settings.eviction_transition_seconds
        found = frozenset(kind for kind, at in self._condition_at.items() if at == now or now - at < held)
        if found != self.pressures:
            self.pressures = found
            self._listener()

    async def _relieve(self, threshold: Threshold, seen: Mapping[str, Observation]) -> None:
        resource = RESOURCES[threshold.signal]
        self._kit.teller.node("Warning", "EvictionThresholdMet", f"Attempting to reclaim {resource}")
        log.warning("node is low on a resource", resource=resource, signal=threshold.signal)
        if CONDITIONS[threshold.signal] == DISK and await self._reclaim_disk(threshold):
            return
        pods = [pod for pod in self._kit.active_pods() if not spec.is_critical(pod)]
        if not pods:
            log.error("eviction manager: no pods are active to evict")
            return
        uses = await self._observer.uses()
        for pod in ranking.ranked(threshold.signal, pods, uses):
            use = uses.get(meta.uid_of(pod), Use())
            told = ranking.message(threshold, seen.get(threshold.signal), pod, use)
            grace = _IMMEDIATE_SECONDS if threshold.is_hard else self._soft_grace(pod)
            if self._end(pod, told, grace):
                EVICTIONS.labels(threshold.signal).inc()
                return

    def _soft_grace(self, pod: Object) -> float:
        own = float(pod["spec"].get("terminationGracePeriodSeconds") or 0)
        most = float(self._kit.settings.eviction_max_grace_seconds)
        return min(own, most) if own else most

    async def _reclaim_disk(self, threshold: Threshold) -> bool:
        """Remove dead containers and unused images; whether that was enough."""
        await self._containers.collect()
        await self._images.free_all()
        return threshold not in thresholds.met([threshold], await self._observer.signals(), with_reclaim=True)

    async def _end_gluttons(self) -> None:
        """End pods that use more of the disk than they said they would."""
        if not self._kit.settings.local_storage_isolation:
            return
        bounded = [pod for pod in self._kit.active_pods() if _bounds_disk(pod)]
        if not bounded:
            return
        uses = await self._observer.uses()
        for pod in bounded:
            use = uses.get(meta.uid_of(pod), Use())
            told = ranking.over_own_limits(pod, use, await self._observer.empty_dirs(pod), use.container_disk)
            if told:
                self._end(pod, told, _IMMEDIATE_SECONDS)

    def _end(self, pod: Object, told: str, grace_seconds: float) -> bool:
        disrupted = conditions.make(conditions.DISRUPTION_TARGET, True, "TerminationByKubelet", told)
        if not self._evict(meta.uid_of(pod), Verdict(REASON, told, (disrupted,)), grace_seconds):
            return False
        self._kit.teller.pod(pod, "Warning", REASON, told)
        log.warning("pod evicted", pod=meta.key_of(pod), why=told)
        return True

    def refuse(self, pod: Object) -> Verdict | None:
        """Why a new pod is not taken while the node is under pressure."""
        return refusal(pod, self.pressures)


def refusal(pod: Object, pressures: frozenset[str]) -> Verdict | None:
    """Why a node under these pressures doesn't take a pod."""
    if not pressures or spec.is_critical(pod):
        return None
    if pressures == {MEMORY}:
        if qos.qos_class(pod) != qos.BEST_EFFORT:
            return None
        if any(tolerates(t, _MEMORY_TAINT) for t in pod["spec"].get("tolerations") or ()):
            return None
    return Verdict(REASON, f"The node had condition: [{' '.join(sorted(pressures))}]. ")


def _bounds_disk(pod: Object) -> bool:
    """Whether anything of the pod has a limit on the disk."""
    if any((v.get("emptyDir") or {}).get("sizeLimit") for v in pod["spec"].get("volumes") or ()):
        return True
    containers: Sequence[Object] = [*spec.containers(pod), *spec.init_containers(pod)]
    return any("ephemeral-storage" in podresources.of_container(c, "limits") for c in containers)
