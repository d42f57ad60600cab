"""Processors: under the static policy, containers of guaranteed pods that ask for whole CPUs have them for themselves.

All other containers share what is left, and lose a CPU when it is given away.

Source: Control CPU Management Policies on the Node; kubelet's cm/cpumanager (policy_static.go, cpu_manager.go).
"""

from __future__ import annotations

from agent.kubelet import metrics
from agent.kubelet.pods import qos, spec
from agent.kubelet.resources import cpuoptions
from agent.kubelet.resources.assignment import Manner, NotEnough, take_distributed, take_packed
from agent.kubelet.resources.cpuoptions import CpuOptions, cpu_options
from agent.kubelet.resources.cpuset import CpuSet, parse_set, show_set
from agent.kubelet.resources.cpustate import CpuStateFile
from agent.kubelet.resources.hints import Hint, Hints, masks, nodes_of
from agent.kubelet.resources.topology import Topology, socket
from agent.kubelet.resources.topologymanager import AdmissionError
from agent.kubelet.settings import Settings
from machinery.api import meta, podresources, quantity
from machinery.api.meta import Object
from machinery.errors import SettingsError

NONE, STATIC = "none", "static"
_NOTHING: CpuSet = frozenset()


def wanted(pod: Object, container: Object) -> int:
    """How many CPUs a container is to have for itself; 0 if it shares."""
    if qos.qos_class(pod) != qos.GUARANTEED or spec.has_pod_resources(pod):
        return 0
    asked = podresources.of_container(container).get("cpu")
    return asked.value() if asked is not None and asked.is_integer() else 0


def wanted_by_pod(pod: Object) -> int:
    """How many CPUs a pod's containers have for themselves at a time, at most."""
    init = sidecars = 0
    for container in spec.init_containers(pod):
        count = wanted(pod, container)
        if spec.is_sidecar(container):
            sidecars += count
        else:
            init = max(init, sidecars + count)
    return max(init, sidecars + sum(wanted(pod, container) for container in spec.containers(pod)))


class CpuManager:
    """Who has which CPUs. One for the whole kubelet."""

    def __init__(self, root_dir: str, settings: Settings, machine: Topology) -> None:
        """Raises SettingsError for options that can't be, and for state that does not fit to policy or machine."""
        self._machine = machine
        self.is_static = settings.cpu_manager_policy == STATIC
        self._options = cpu_options(settings, machine) if self.is_static else CpuOptions()
        self._reserved = self._reserve(settings) if self.is_static else _NOTHING
        self._file = CpuStateFile(root_dir, STATIC if self.is_static else NONE)
        self._state = self._file.load()
        self._reusable: tuple[str, CpuSet] = ("", _NOTHING)  # of init containers of the pod that is being taken
        if self.is_static:
            self._check_state()

    # -- the start ---------------------------------------------------------------------------------------------------

    def _reserve(self, settings: Settings) -> CpuSet:
        if settings.reserved_cpus:
            reserved = parse_set(settings.reserved_cpus)
            if not reserved <= self._machine.cpus:
                raise SettingsError(f"reservedSystemCPUs: {settings.reserved_cpus}: this machine has no such CPUs")
            return reserved
        parts = [source["cpu"] for source in (settings.system_reserved, settings.kube_reserved) if "cpu" in source]
        count = -(-sum(quantity.parse(part).milli_value() for part in parts) // 1000)
        if count <= 0:
            raise SettingsError(
                "[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero"
            )
        try:
            return self._take(self._machine.cpus, count)
        except NotEnough as error:
            raise SettingsError(
                f"[cpumanager] unable to reserve the required amount of CPUs (size of  did not equal {count})"
            ) from error

    def _check_state(self) -> None:
        """Upstream's checks of what the last kubelet left. Raises SettingsError."""
        state, strict = self._state, cpuoptions.STRICT in self._options
        everything = self._machine.cpus - (self._reserved if strict else _NOTHING)
        if not state.shared:
            if state.given:
                raise SettingsError("default cpuset cannot be empty")
            state.shared = everything
            self._file.save(state)
            return
        shared = show_set(state.shared)
        both = self._reserved & state.shared
        if strict and both:
            raise SettingsError(
                f'some of strictly reserved cpus: "{show_set(both)}" are present in defaultCpuSet: "{shared}"'
            )
        if not strict and both != self._reserved:
            reserved = show_set(self._reserved)
            raise SettingsError(f'not all reserved cpus: "{reserved}" are present in defaultCpuSet: "{shared}"')
        known = state.shared
        for uid, containers in state.given.items():
            for name, cpus in containers.items():
                if cpus & state.shared:
                    raise SettingsError(
                        f'pod: {uid}, container: {name} cpuset: "{show_set(cpus)}" overlaps with default cpuset '
                        f'"{shared}"'
                    )
                known |= cpus
        if known != everything:
            raise SettingsError(
                f'current set of available CPUs "{show_set(everything)}" doesn\'t match with CPUs in state '
                f'"{show_set(known)}"'
            )

    # -- asked from outside ------------------------------------------------------------------------------------------

    @property
    def allocatable(self) -> CpuSet:
        """The CPUs that containers can have for themselves."""
        return self._machine.cpus - self._reserved if self.is_static else _NOTHING

    @property
    def shared(self) -> CpuSet:
        """The CPUs of everybody else."""
        return self._state.shared if self.is_static else self._machine.cpus

    @property
    def given_count(self) -> int:
        """How many CPUs containers have for themselves."""
        return len({cpu for containers in self._state.given.values() for cpus in containers.values() for cpu in cpus})

    def exclusive(self, uid: str, container: str) -> CpuSet:
        """The CPUs that a container has for itself."""
        return self._state.given.get(uid, {}).get(container, _NOTHING)

    def has_exclusive(self, uid: str) -> bool:
        """Whether a container of the pod has CPUs for itself: then no quota holds it back."""
        return bool(self._state.given.get(uid))

    def cpuset(self, uid: str, container: str) -> str:
        """The CPUs that a container may run on; empty where nobody cares."""
        if not self.is_static:
            return ""
        return show_set(self.exclusive(uid, container) or self.shared)

    def exclusive_reason(self, pod: Object) -> str:
        """Why a pod can't be resized while it runs; empty if it can."""
        if self.is_static and self.has_exclusive(meta.uid_of(pod)):
            return "Resize is infeasible for Guaranteed Pods alongside CPU Manager static policy"
        return ""

    # -- hints -------------------------------------------------------------------------------------------------------

    def hints(self, pod: Object, container: Object) -> Hints:
        """Where the CPUs of a container could be."""
        count = wanted(pod, container) if self.is_static else 0
        if not count:
            return {}
        has = self.exclusive(meta.uid_of(pod), container["name"])
        if has:
            return {"cpu": self._hints(has, _NOTHING, count) if len(has) == count else []}
        return {"cpu": self._hints(self._free, self._reusable_of(pod), count)}

    def pod_hints(self, pod: Object) -> Hints:
        """Where the CPUs of a whole pod could be."""
        count = wanted_by_pod(pod) if self.is_static else 0
        if not count:
            return {}
        has = _NOTHING
        for container in [*spec.init_containers(pod), *spec.containers(pod)]:
            own = self.exclusive(meta.uid_of(pod), container["name"])
            if own and len(own) != wanted(pod, container):
                return {"cpu": []}
            has |= own
        if len(has) == count:
            return {"cpu": self._hints(has, _NOTHING, count)}
        return {"cpu": self._hints(self._free, self._reusable_of(pod) | has, count)}

    @property
    def _free(self) -> CpuSet:
        return self._state.shared - self._reserved

    def _hints(self, free: CpuSet, reusable: CpuSet, count: int) -> list[Hint]:
        machine = self._machine
        narrowest, found = len(machine.cpu_nodes), []
        for mask in masks(machine.cpu_nodes):
            nodes = nodes_of(mask)
            if len(machine.in_nodes(nodes)) >= count:
                narrowest = min(narrowest, len(nodes))
            ours = machine.in_nodes(nodes, reusable)
            if ours == reusable and len(ours) + len(machine.in_nodes(nodes, free)) >= count:
                found.append(mask)
        return [Hint(mask, self._is_preferred(mask, narrowest)) for mask in found]

    def _is_preferred(self, mask: int, narrowest: int) -> bool:
        if cpuoptions.BY_SOCKET in self._options:
            per_socket = len(self._machine.cpu_nodes) // self._machine.sockets
            if per_socket:
                sockets = self._machine.places(self._machine.in_nodes(nodes_of(mask)), socket)
                if len(sockets) == -(-narrowest // per_socket):
                    return True
        return mask.bit_count() == narrowest

    # -- giving and taking back --------------------------------------------------------------------------------------

    def allocate(self, pod: Object, container: Object, hint: Hint) -> None:
        """Give a container CPUs of its own, if it is to have any. Raises AdmissionError."""
        uid, name = meta.uid_of(pod), container["name"]
        count = wanted(pod, container) if self.is_static else 0
        if not count or spec.is_over(pod, container, self._state.given.get(uid, {})):
            return
        metrics.CPU_REQUESTS.inc()
        with metrics.CPU_ERRORS.count_exceptions(AdmissionError):
            has = self._find(pod, container, count, hint)
        if name not in self._state.given.get(uid, {}):
            self._state.shared -= has
            self._state.given.setdefault(uid, {})[name] = has
            self._file.save(self._state)
        ends = not spec.is_app(pod, container) and not spec.is_sidecar(container)
        before = self._reusable_of(pod)
        self._reusable = (uid, before | has if ends else before - has)

    def _find(self, pod: Object, container: Object, count: int, hint: Hint) -> CpuSet:
        """The CPUs that a container has, or is to have. Raises AdmissionError."""
        if cpuoptions.FULL in self._options:
            self._check_cores(count)
        try:
            has = self.exclusive(meta.uid_of(pod), container["name"])
            return has or self._choose(count, hint.mask, self._reusable_of(pod))
        except NotEnough as error:
            raise AdmissionError(str(error)) from error

    def _check_cores(self, count: int) -> None:
        threads = self._machine.cpus_per_core
        reason = "SMTAlignmentError"
        if count % threads:
            told = f"SMT Alignment Error: requested {count} cpus not multiple cpus per core = {threads}"
            raise AdmissionError(told, reason)
        reserved = {self._machine.processors[cpu].core for cpu in self._reserved}
        free = sum(1 for cpu in self._state.shared if self._machine.processors[cpu].core not in reserved)
        if count > free:
            raise AdmissionError(
                f"SMT Alignment Error: not enough free physical CPUs: available physical CPUs = {free}, "
                f"requested CPUs = {count}, CPUs per core = {threads}",
                reason,
            )

    def _choose(self, count: int, mask: int | None, reusable: CpuSet) -> CpuSet:
        free, machine = self._free | reusable, self._machine
        first = _NOTHING
        if mask is not None:
            near = machine.in_nodes(nodes_of(mask), free)
            if cpuoptions.BY_SOCKET in self._options:
                sockets = machine.places(machine.in_nodes(nodes_of(mask)), socket)
                near = frozenset(cpu for cpu in free if machine.processors[cpu].socket in sockets)
            first = self._take(near, min(count, len(near)))
        return first | self._take(free - first, count - len(first))

    def _take(self, free: CpuSet, count: int) -> CpuSet:
        options = self._options
        manner = Manner(spread=cpuoptions.ACROSS_CORES in options, by_cache=cpuoptions.BY_CACHE in options)
        if cpuoptions.ACROSS_NUMA in options:
            group = self._machine.cpus_per_core if cpuoptions.FULL in options else 1
            return take_distributed(self._machine, free, count, group, manner)
        return take_packed(self._machine, free, count, manner)

    def _reusable_of(self, pod: Object) -> CpuSet:
        uid, cpus = self._reusable
        return cpus if uid == meta.uid_of(pod) else _NOTHING

    def started(self, pod: Object, container: Object) -> None:
        """A container starts: the init containers before it have ended, and what only they had is everybody's again."""
        uid = meta.uid_of(pod)
        for name in spec.ended_before(pod, container):
            if self.exclusive(uid, name):
                self._release(uid, name)

    def _release(self, uid: str, name: str) -> None:
        own = self._state.given[uid]
        cpus = own.pop(name)
        self._state.shared |= cpus.difference(*own.values())
        if not own:
            del self._state.given[uid]
        self._file.save(self._state)

    def known(self) -> set[str]:
        """The uids of pods that have any."""
        return set(self._state.given)

    def forget(self, uid: str) -> None:
        """The pod has ended: its CPUs are everybody's again."""
        for name in list(self._state.given.get(uid, ())):
            self._release(uid, name)
