"""Resizing a running pod: whether the node can give what the spec asks for now, and giving it.

    spec changed ──► infeasible | deferred ──(others leave)──► promised ──► given, container by container ──► done

Source: KEP-1287; kubelet's allocation manager and kuberuntime doPodResizeAction; event and condition texts as there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from agent.cri import api_pb2 as pb
from agent.cri.errors import CriError
from agent.kubelet.container import resources
from agent.kubelet.container.model import RUNNING, Container, RuntimePod
from agent.kubelet.kit import Kit
from agent.kubelet.pods import admission, conditions, spec
from agent.kubelet.pods.allocation import RESIZABLE, resizable, same
from agent.kubelet.pods.plan import RESIZE, Kill
from machinery.api import meta, podresources, quantity
from machinery.api.meta import Object
from machinery.api.quantity import Quantity

DEFERRED, INFEASIBLE, ERROR = "Deferred", "Infeasible", "Error"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a resize is not possible: never (Infeasible) or not now (Deferred)."""

    reason: str
    message: str


def refusal(
    pod: Object, others: Iterable[Object], allocatable: Mapping[str, Quantity], *, exclusive: str = ""
) -> Refusal | None:
    """Why the node can't give what a pod's spec asks for; `exclusive` names static managers that this pod is under."""
    if spec.is_static(pod):
        return Refusal(INFEASIBLE, "In-place resize of static-pods is not supported")
    if exclusive:
        return Refusal(INFEASIBLE, exclusive)
    wanted = podresources.of_pod(pod)
    for name in ("memory", "cpu"):
        asked, known = wanted.get(name), allocatable.get(name)
        if asked is not None and known is not None and asked.nanos > known.nanos:
            told = f"{name}, requested: {_shown(name, asked)}, capacity: {_shown(name, known)}"
            return Refusal(INFEASIBLE, f"Node didn't have enough capacity: {told}")
    limits = {name: amount for name, amount in allocatable.items() if name in RESIZABLE}
    verdict = admission.fit(pod, [other for other in others if meta.uid_of(other) != meta.uid_of(pod)], limits)
    return Refusal(DEFERRED, verdict.message) if verdict is not None else None


def _shown(name: str, amount: Quantity) -> int:
    return amount.milli_value() if name == "cpu" else amount.value()


def changed_resources(before: Object, after: Object) -> set[str]:
    """Which of cpu and memory differ between two `resources`."""

    def amounts(of: Object, name: str) -> list[int]:
        found = [(of.get(section) or {}).get(name) for section in ("requests", "limits")]
        return [-1 if amount is None else quantity.parse(amount).nanos for amount in found]

    return {name for name in RESIZABLE if amounts(before, name) != amounts(after, name)}


def needs_restart(container: Object, changed: Iterable[str]) -> bool:
    """Whether the container's resizePolicy wants it restarted for a change of these resources."""
    policies = {entry["resourceName"]: entry.get("restartPolicy") for entry in container.get("resizePolicy") or ()}
    return any(policies.get(name) == "RestartContainer" for name in changed)


def summary(pod: Object, *, error: str = "") -> str:
    """What a pod's containers ask for, as resize events show it."""

    def entries(containers: Sequence[Object]) -> list[Object]:
        return [{"name": c["name"], "resources": _ordered(c.get("resources") or {})} for c in containers]

    shown: Object = {}
    sidecars = [c for c in spec.init_containers(pod) if spec.is_sidecar(c)]
    if sidecars:
        shown["initContainers"] = entries(sidecars)
    shown["containers"] = entries(spec.containers(pod))
    shown["generation"] = pod["metadata"].get("generation") or 0
    if error:
        shown["error"] = error
    return orjson.dumps(shown).decode()


def _ordered(of: Object) -> Object:
    return {name: dict(sorted(of[name].items())) for name in ("limits", "requests") if of.get(name)}


class Resizing:
    """The resizes of one pod."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._refused: Refusal | None = None
        self._refused_generation = 0
        self._started_generation = 0
        self._error = ""

    @property
    def is_pending(self) -> bool:
        """Whether a resize waits for others to leave."""
        return self._refused is not None and self._refused.reason == DEFERRED

    def decide(self, pod: Object, runtime: RuntimePod, others: Iterable[Object]) -> Object:
        """Promise what the spec asks for, if the node has it; the pod as it is promised."""
        kit = self._kit
        if not kit.allocations.differs(pod):
            self._refused = None
            return kit.allocations.pod(pod)
        refused = refusal(
            pod,
            others,
            kit.node.allocatable,
            exclusive=kit.cpus.exclusive_reason(pod) or kit.memory.exclusive_reason(pod),
        )
        generation = pod["metadata"].get("generation") or 0
        if refused is None:
            kit.allocations.resize(pod, _running(pod, runtime))
            self._refused, self._error, self._started_generation = None, "", generation
            kit.teller.pod(pod, "Normal", "ResizeStarted", f"Pod resize started: {summary(pod)}")
        elif (refused, generation) != (self._refused, self._refused_generation):
            kit.allocations.keep()
            self._refused, self._refused_generation = refused, generation
            told = f"Pod resize {refused.reason}: {summary(pod, error=refused.message)}"
            kit.teller.pod(pod, "Warning", f"Resize{refused.reason}", told)
        return kit.allocations.pod(pod)

    def restarts(self, pod: Object, runtime: RuntimePod) -> list[Kill]:
        """The running containers that have to start again to get what was promised."""
        return [
            Kill(status, f"Container {status.name} resize requires restart", RESIZE)
            for container, status, changed in self._open(pod, runtime)
            if needs_restart(container, changed)
        ]

    async def give(self, pod: Object, runtime: RuntimePod) -> bool:
        """Give running containers what was promised; False (and told) if the runtime or the kernel refused."""
        kit = self._kit
        open_ones = [entry for entry in self._open(pod, runtime) if not needs_restart(entry[0], entry[2])]
        if not open_ones:
            self._finish(pod, runtime)
            return True
        try:
            kit.cgroups.widen(pod)
            for container, status, _ in open_ones:
                self._check_memory(pod, container)
                await kit.cri.update_container_resources(status.id, self._for_update(pod, container))
                kit.allocations.give(status, container.get("resources") or {})
            kit.cgroups.create(pod)
        except (CriError, OSError, ValueError) as error:
            self._fail(pod, str(error))
            return False
        self._finish(pod, runtime)
        return True

    def _check_memory(self, pod: Object, container: Object) -> None:
        limit = podresources.of_container(container, "limits").get("memory")
        used = self._kit.cgroups.memory_used(pod)
        total = podresources.of_pod(pod, "limits").get("memory")
        if limit is not None and total is not None and used is not None and used > total.value() > 0:
            raise ValueError(f"attempting to set pod memory limit ({total.value()}) below current usage ({used})")

    def _for_update(self, pod: Object, container: Object) -> pb.LinuxContainerResources:
        kit = self._kit
        made = resources.of_container(pod, container, kit.rules)
        made.cpuset_cpus = kit.cpus.cpuset(meta.uid_of(pod), container["name"])
        if not made.cpu_quota:
            made.cpu_quota = -1  # an update with nothing said would leave the old quota
        return made

    def _fail(self, pod: Object, message: str) -> None:
        if message != self._error:
            self._error = message
            told = f"Pod resize error: {summary(pod, error=message)}"
            self._kit.teller.pod(pod, "Warning", "ResizeError", told)

    def _finish(self, pod: Object, runtime: RuntimePod) -> None:
        if not self._started_generation or any(True for _ in self._open(pod, runtime)):
            return
        self._started_generation, self._error = 0, ""
        self._kit.teller.pod(pod, "Normal", "ResizeCompleted", f"Pod resize completed: {summary(pod)}")

    def _open(self, pod: Object, runtime: RuntimePod) -> Iterable[tuple[Object, Container, set[str]]]:
        """(container, its status, what differs) of each that runs with something else than was promised."""
        for container in resizable(pod):
            status = runtime.container(container["name"])
            if status is None or status.state != RUNNING:
                continue
            given, promised = self._kit.allocations.given_to(pod, status), container.get("resources") or {}
            if not same(given, promised):
                yield container, status, changed_resources(given, promised)

    def conditions(self, pod: Object, runtime: RuntimePod) -> tuple[Object, ...]:
        """PodResizePending and PodResizeInProgress, where they hold."""
        found = []
        if self._refused is not None:
            pending = conditions.make(conditions.RESIZE_PENDING, True, self._refused.reason, self._refused.message)
            found.append({**pending, "observedGeneration": self._refused_generation})
        if any(True for _ in self._open(pod, runtime)):
            under_way = conditions.make(conditions.RESIZE_IN_PROGRESS, True, ERROR if self._error else "", self._error)
            if self._started_generation:
                under_way["observedGeneration"] = self._started_generation
            found.append(under_way)
        return tuple(found)


def _running(pod: Object, runtime: RuntimePod) -> Iterable[Container]:
    for container in resizable(pod):
        status = runtime.container(container["name"])
        if status is not None and status.state == RUNNING:
            yield status
