"""Processors: under the static policy, containers of guaranteed pods that ask for whole CPUs have them for themselves.

All other containers share what is left, and lose a CPU when it is given away.

Source: Control CPU Management Policies on the Node; kubelet's cm/cpumanager (policy_static.go, cpu_assignment.go).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from agent.kubelet.jsonfile import JsonFile
from agent.kubelet.pods import qos, spec
from agent.kubelet.pods.status import Verdict
from agent.kubelet.settings import Settings
from machinery.api import meta, podresources, quantity
from machinery.api.meta import Object
from machinery.errors import SettingsError

NONE, STATIC = "none", "static"
_FILE = "navarch_cpus.json"
_ONLINE = "/sys/devices/system/cpu/online"

Topology = dict[int, tuple[int, int]]
"""(socket, core) of each CPU."""


def parse_set(text: str) -> frozenset[int]:
    """`0-3,8` as numbers. Raises ValueError."""
    found: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, dash, last = part.partition("-")
            found.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(found)


def show_set(cpus: Iterable[int]) -> str:
    """Numbers as `0-3,8`."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][1] == cpu - 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def read_topology() -> Topology:
    """The CPUs of this machine."""
    found: Topology = {}
    for cpu in parse_set(Path(_ONLINE).read_text(encoding="ascii")):
        base = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            found[cpu] = tuple(int((base / name).read_text()) for name in ("physical_package_id", "core_id"))  # type: ignore[assignment]
        except (OSError, ValueError):
            found[cpu] = (0, cpu)
    return found


def take(topology: Topology, free: frozenset[int], count: int) -> frozenset[int]:
    """So many of the free CPUs: whole sockets, then whole cores, then single threads of cores already begun."""
    chosen: set[int] = set()
    for level in (0, 1):
        groups: dict[tuple[int, ...], set[int]] = {}
        for cpu, place in topology.items():
            groups.setdefault(place[: level + 1], set()).add(cpu)
        for _, group in sorted(groups.items()):
            if group <= free - chosen and len(group) <= count - len(chosen):
                chosen |= group
    left = sorted(free - chosen, key=lambda cpu: (_free_siblings(topology, free - chosen, cpu), cpu))
    return frozenset(chosen | set(left[: count - len(chosen)]))


def _free_siblings(topology: Topology, free: frozenset[int] | set[int], cpu: int) -> int:
    return sum(1 for other in free if topology[other] == topology[cpu])


def wanted(pod: Object, container: Object) -> int:
    """How many CPUs a container is to have for itself; 0 if it shares."""
    if qos.qos_class(pod) != qos.GUARANTEED:
        return 0
    asked = podresources.of_container(container).get("cpu")
    return asked.value() if asked is not None and asked.is_integer() else 0


class CpuManager:
    """Who has which CPUs. One for the whole kubelet."""

    def __init__(self, root_dir: str, settings: Settings, topology: Topology) -> None:
        """Raises SettingsError for a static policy without anything reserved."""
        self._topology = topology
        self.is_static = settings.cpu_manager_policy == STATIC
        self._reserved = self._reserve(settings) if self.is_static else frozenset()
        self._file = JsonFile(Path(root_dir, _FILE))
        # The CPUs of a container, by pod uid and container name.
        self._given: dict[str, dict[str, list[int]]] = (self._file.read() or {}) if self.is_static else {}

    def _reserve(self, settings: Settings) -> frozenset[int]:
        if settings.reserved_cpus:
            reserved = parse_set(settings.reserved_cpus)
            if not reserved <= self._topology.keys():
                raise SettingsError(f"reservedSystemCPUs: {settings.reserved_cpus}: this machine has no such CPUs")
            return reserved
        parts = [source["cpu"] for source in (settings.system_reserved, settings.kube_reserved) if "cpu" in source]
        count = -(-sum(quantity.parse(part).milli_value() for part in parts) // 1000)
        if count <= 0:
            raise SettingsError(
                "cpuManagerPolicy: static: requires systemreserved.cpu + kubereserved.cpu to be greater than zero"
            )
        return take(self._topology, frozenset(self._topology), count)

    @property
    def allocatable(self) -> frozenset[int]:
        """The CPUs that containers can have for themselves."""
        return frozenset(self._topology) - self._reserved if self.is_static else frozenset()

    @property
    def shared(self) -> frozenset[int]:
        """The CPUs of everybody else."""
        return frozenset(self._topology) - {
            cpu for pod in self._given.values() for cpus in pod.values() for cpu in cpus
        }

    def exclusive(self, uid: str, container: str) -> frozenset[int]:
        """The CPUs that a container has for itself."""
        return frozenset(self._given.get(uid, {}).get(container, ()))

    def admit(self, pod: Object) -> Verdict | None:
        """Choose the CPUs of a pod that is to be taken; why it can't be, if there are too few."""
        uid = meta.uid_of(pod)
        if not self.is_static or uid in self._given:
            return None
        chosen: dict[str, list[int]] = {}
        reusable: frozenset[int] = frozenset()  # of init containers that have ended by then
        apps = spec.containers(pod)
        for container in [*spec.init_containers(pod), *apps]:
            count = wanted(pod, container)
            if not count:
                continue
            free = (self.shared - self._reserved) - {c for cpus in chosen.values() for c in cpus} | reusable
            if count > len(free):
                told = (
                    "Allocate failed due to not enough cpus available to satisfy request: "
                    f"requested={count}, available={len(free)}, which is unexpected"
                )
                return Verdict("UnexpectedAdmissionError", told)
            first = take(self._topology, reusable, min(count, len(reusable)))
            cpus = first | take(self._topology, free - first, count - len(first))
            chosen[container["name"]] = sorted(cpus)
            ends = container not in apps and not spec.is_sidecar(container)
            reusable = reusable | cpus if ends else reusable - cpus
        if chosen:
            self._given[uid] = chosen
            self._file.write(self._given)
        return None

    def cpuset(self, uid: str, container: str) -> str:
        """The CPUs that a container may run on; empty where nobody cares."""
        if not self.is_static:
            return ""
        return show_set(self.exclusive(uid, container) or self.shared)

    def exclusive_reason(self, pod: Object) -> str:
        """Why a pod can't be resized while it runs; empty if it can."""
        if self.is_static and self._given.get(meta.uid_of(pod)):
            return "Resize is infeasible for Guaranteed Pods alongside CPU Manager static policy"
        return ""

    def forget(self, uid: str) -> None:
        """The pod has ended: its CPUs are everybody's again."""
        if self._given.pop(uid, None) is not None:
            self._file.write(self._given)
