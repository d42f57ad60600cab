"""The groups of this node's pods: /kubepods, one below it for each class, one in that for each pod.

Source: kubelet's cm (qos_container_manager_linux.go, pod_container_manager_linux.go, node_container_manager_linux.go).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from agent.kubelet import metrics
from agent.kubelet.cgroups.hierarchy import Hierarchy, Limits
from agent.kubelet.container import resources
from agent.kubelet.node.capacity import amounts
from agent.kubelet.pods import qos, spec
from agent.kubelet.settings import Settings
from machinery.api import meta, podresources
from machinery.api.meta import Object
from machinery.errors import SettingsError
from machinery.log import get_logger

log = get_logger(__name__)

_CLASSES = {qos.GUARANTEED: (), qos.BURSTABLE: ("burstable",), qos.BEST_EFFORT: ("besteffort",)}


class PodCgroups:
    """Makes, limits and removes groups of pods. Without cgroupsPerQOS it does nothing and pods share `cgroupRoot`."""

    def __init__(self, settings: Settings, hierarchy: Hierarchy) -> None:
        self._settings = settings
        self._hierarchy = hierarchy
        self._enabled = settings.cgroups_per_qos
        self._allocatable_bytes = 0
        # Whether a pod has CPUs of its own: then no quota holds it back.
        self.has_exclusive_cpus: Callable[[str], bool] = lambda uid: False
        self._systemd = settings.cgroup_driver == "systemd"
        if settings.fail_cgroup_v1 and not hierarchy.unified:
            raise SettingsError("failCgroupV1: this host has cgroup v1")
        self._parts = tuple(part for part in settings.cgroup_root.split("/") if part)
        self._root = self._path()

    @property
    def unified(self) -> bool:
        """Whether this host has cgroup v2."""
        return self._hierarchy.unified

    @property
    def top(self) -> str:
        """The group above all pods."""
        return self._path("kubepods")

    def _path(self, *parts: str) -> str:
        """The group of these names below the root: each a folder, or each a slice of systemd's."""
        names = [*self._parts, *parts]
        if not self._systemd:
            return "".join(f"/{name}" for name in names)
        # A slice's name holds those of all above it, so a dash in a name would be one more level.
        escaped = [name.replace("-", "_") for name in names]
        return "".join(f"/{'-'.join(escaped[: end + 1])}.slice" for end in range(len(escaped)))

    def runtime_parent(self, pod: Object) -> str:
        """The group of a pod as the runtime wants it: systemd's slices go by their last name alone."""
        group = self.group_of(pod)
        return group.rpartition("/")[2] if self._systemd else group

    def settle(self, pod: Object) -> None:
        """Set the pod's limits again after containers started: systemd resets a slice when it first hears of it."""
        if self._systemd and self._enabled:
            try:
                self._hierarchy.limit(self.group_of(pod), self.limits_of(pod))
            except OSError as error:
                log.warning("cannot set limits of pod", pod=meta.key_of(pod), err=str(error))

    def group_of(self, pod: Object) -> str:
        """The group of a pod."""
        if not self._enabled:
            return self._root or "/"
        return self._pod_group(qos.qos_class(pod), meta.uid_of(pod))

    def _pod_group(self, kind: str, uid: str) -> str:
        return self._path("kubepods", *_CLASSES[kind], f"pod{uid}")

    def _class_group(self, kind: str) -> str:
        return self._path("kubepods", *_CLASSES[kind])

    def set_up(self, cpu_millis: int, memory_bytes: int) -> None:
        """Make the groups of the classes; all pods together get no more than this. Raises SettingsError."""
        self._allocatable_bytes = memory_bytes
        if not self._enabled:
            return
        try:
            for kind in _CLASSES:
                self._hierarchy.create(self._class_group(kind))
            enforced = "pods" in self._settings.enforce_allocatable
            self._hierarchy.limit(
                self.top,
                Limits(
                    cpu_shares=resources.cpu_shares(cpu_millis) if enforced else None,
                    memory_bytes=memory_bytes if enforced else None,
                ),
            )
            self._hierarchy.limit(self._class_group(qos.BEST_EFFORT), Limits(cpu_shares=resources.MIN_SHARES))
        except OSError as error:
            raise SettingsError(f"cannot make control group {error.filename}: {error.strerror}") from error
        self._hold_system(self._settings)

    def _hold_system(self, settings: Settings) -> None:
        """Hold the node's own daemons to what is reserved for them, where that is asked for. Raises SettingsError."""
        for key in settings.enforce_allocatable:
            kind, compressible = key.removesuffix("-compressible"), key.endswith("-compressible")
            if kind == "system-reserved":
                title, group, reserved = "System", settings.system_reserved_cgroup, settings.system_reserved
            elif kind == "kube-reserved":
                title, group, reserved = "Kube", settings.kube_reserved_cgroup, settings.kube_reserved
            else:
                continue
            parsed = amounts(f"{kind}", reserved)
            cpu, memory, pids = parsed.get("cpu"), parsed.get("memory"), parsed.get("pid")
            told = f'Failed to enforce {title} Reserved Cgroup Limits on "{group}"'
            if not self._hierarchy.exists(group):
                raise SettingsError(f'{told}: "{group}" cgroup does not exist')
            try:
                self._hierarchy.limit(
                    group,
                    Limits(
                        cpu_shares=resources.cpu_shares(cpu.milli_value()) if cpu else None,
                        memory_bytes=memory.value() if memory and not compressible else None,
                        pids=pids.value() if pids and not compressible else None,
                    ),
                )
            except OSError as error:
                raise SettingsError(f"{told}: {error.strerror}") from error

    def share(self, pods: Iterable[Object]) -> None:
        """Give the burstable class the shares that its pods ask for together."""
        if not self._enabled:
            return
        millis, memory = 0, {qos.GUARANTEED: 0, qos.BURSTABLE: 0, qos.BEST_EFFORT: 0}
        for pod in pods:
            kind, asked = qos.qos_class(pod), podresources.of_pod(pod)
            if kind == qos.BURSTABLE:
                millis += asked["cpu"].milli_value() if "cpu" in asked else 0
            memory[kind] += asked["memory"].value() if "memory" in asked else 0
        burstable, best_effort = self._memory_of_classes(memory)
        try:
            shares = resources.cpu_shares(millis)
            self._hierarchy.limit(self._class_group(qos.BURSTABLE), Limits(shares, memory_bytes=burstable))
            if best_effort is not None:
                self._hierarchy.limit(self._class_group(qos.BEST_EFFORT), Limits(memory_bytes=best_effort))
        except OSError as error:
            log.warning("cannot set limits of the classes of pods", err=str(error))

    def _memory_of_classes(self, asked: Mapping[str, int]) -> tuple[int | None, int | None]:
        """What burstable and best-effort pods may use, so that what better ones ask for is kept for them."""
        share = self._settings.qos_reserved.get("memory")
        if share is None or not self._settings.gate("QOSReserved", default=False):
            return None, None
        percent = int(share.removesuffix("%"))
        burstable = self._allocatable_bytes - asked[qos.GUARANTEED] * percent // 100
        return burstable, burstable - asked[qos.BURSTABLE] * percent // 100

    def create(self, pod: Object) -> None:
        """Make the pod's group and set its limits. Raises OSError."""
        if not self._enabled:
            return
        group = self.group_of(pod)
        with metrics.timed(metrics.CGROUP_MANAGER.labels("create")):
            self._hierarchy.create(group)
        with metrics.timed(metrics.CGROUP_MANAGER.labels("update")):
            self._hierarchy.limit(group, self.limits_of(pod))

    def widen(self, pod: Object) -> None:
        """Raise the pod's limits to what it may use now, and lower none. Raises OSError."""
        if self._enabled:
            self._hierarchy.limit(self.group_of(pod), self.limits_of(pod), only_raise=True)

    def memory_used(self, pod: Object) -> int | None:
        """Bytes that the pod uses; None if that can't be told."""
        return self._hierarchy.memory_used(self.group_of(pod)) if self._enabled else None

    def processes(self, pod: Object) -> set[int]:
        """The process ids of a pod."""
        return self._hierarchy.processes(self.group_of(pod)) if self._enabled else set()

    def memory_limit_and_working_set(self) -> tuple[int, int] | None:
        """What all pods together may use, and use and can't give back; None if there is no such limit."""
        return self._hierarchy.memory_limit_and_working_set(self.top) if self._enabled else None

    def limits_of(self, pod: Object) -> Limits:
        """What a pod may use in all."""
        requests, limits = podresources.of_pod(pod), podresources.of_pod(pod, "limits")
        period_us = int(self._settings.cpu_cfs_period_seconds * 1_000_000)
        everywhere = {name: self._all_limit(pod, name) for name in ("cpu", "memory")}
        kind = qos.qos_class(pod)
        if kind == qos.BEST_EFFORT:
            return Limits(cpu_shares=resources.MIN_SHARES, pids=self._pids())
        asked = requests.get("cpu") or limits.get("cpu")
        quota = None
        if self.has_exclusive_cpus(meta.uid_of(pod)):
            quota = -1
        elif everywhere["cpu"]:
            enforced = self._settings.cpu_cfs_quota
            quota = resources.cpu_quota(limits["cpu"].milli_value(), period_us) if enforced else -1
        return Limits(
            cpu_shares=resources.cpu_shares(asked.milli_value() if asked else 0),
            cpu_quota_us=quota,
            cpu_period_us=period_us,
            memory_bytes=limits["memory"].value() if everywhere["memory"] else None,
            pids=self._pids(),
        )

    def _pids(self) -> int | None:
        return self._settings.pod_pids_limit if self._settings.pod_pids_limit > 0 else None

    @staticmethod
    def _all_limit(pod: Object, name: str) -> bool:
        """Whether the pod as a whole is limited: by itself, or by each of its containers."""
        if name in ((pod["spec"].get("resources") or {}).get("limits") or {}):
            return True
        of_all = spec.containers(pod) + spec.init_containers(pod)
        return all(name in podresources.of_container(c, "limits") for c in of_all)

    def remove(self, uid: str) -> bool:
        """Remove a pod's group, killing what is left in it; False if it has to be tried again."""
        gone = True
        with metrics.timed(metrics.CGROUP_MANAGER.labels("destroy")):
            for kind in _CLASSES:
                group = self._pod_group(kind, uid)
                if any(True for _ in self._existing(group)) and not self._hierarchy.remove(group):
                    self._hierarchy.kill(group)
                    gone = self._hierarchy.remove(group)
        return gone

    def _existing(self, group: str) -> Iterable[str]:
        parent, _, name = group.rpartition("/")
        return [child for child in self._hierarchy.children(parent) if child == name] if self._enabled else []

    def known(self) -> set[str]:
        """The uids of all pods that have a group."""
        if not self._enabled:
            return set()
        found = set()
        for kind in _CLASSES:
            prefix = self._pod_group(kind, "").rpartition("/")[2].removesuffix(".slice")
            for child in self._hierarchy.children(self._class_group(kind)):
                if child.startswith(prefix):
                    uid = child.removeprefix(prefix).removesuffix(".slice")
                    found.add(uid.replace("_", "-") if self._systemd else uid)
        return found
