"""The groups of this node's pods: /kubepods, one below it for each class, one in that for each pod.

Source: kubelet's cm (qos_container_manager_linux.go, pod_container_manager_linux.go, node_container_manager_linux.go).
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.kubelet.cgroups.hierarchy import Hierarchy, Limits
from agent.kubelet.container import resources
from agent.kubelet.pods import qos, spec
from agent.kubelet.settings import Settings
from machinery.api import meta, podresources
from machinery.api.meta import Object
from machinery.errors import SettingsError
from machinery.log import get_logger

log = get_logger(__name__)

_CLASSES = {qos.GUARANTEED: "", qos.BURSTABLE: "/burstable", qos.BEST_EFFORT: "/besteffort"}


class PodCgroups:
    """Makes, limits and removes groups of pods. Without cgroupsPerQOS it does nothing and pods share `cgroupRoot`."""

    def __init__(self, settings: Settings, hierarchy: Hierarchy) -> None:
        self._settings = settings
        self._hierarchy = hierarchy
        self._enabled = settings.cgroups_per_qos
        if settings.cgroup_driver == "systemd":
            raise SettingsError("cgroupDriver: systemd is not supported; configure cgroupfs here and in the runtime")
        if settings.fail_cgroup_v1 and not hierarchy.unified:
            raise SettingsError("failCgroupV1: this host has cgroup v1")
        self._root = "/" + settings.cgroup_root.strip("/") if settings.cgroup_root.strip("/") else ""

    @property
    def unified(self) -> bool:
        """Whether this host has cgroup v2."""
        return self._hierarchy.unified

    @property
    def top(self) -> str:
        """The group above all pods."""
        return f"{self._root}/kubepods"

    def group_of(self, pod: Object) -> str:
        """The group of a pod."""
        if not self._enabled:
            return self._root or "/"
        return f"{self.top}{_CLASSES[qos.qos_class(pod)]}/pod{meta.uid_of(pod)}"

    def set_up(self, cpu_millis: int, memory_bytes: int) -> None:
        """Make the groups of the classes; all pods together get no more than this. Raises SettingsError."""
        if not self._enabled:
            return
        try:
            for name in _CLASSES.values():
                self._hierarchy.create(f"{self.top}{name}")
            enforced = "pods" in self._settings.enforce_allocatable
            self._hierarchy.limit(
                self.top,
                Limits(
                    cpu_shares=resources.cpu_shares(cpu_millis) if enforced else None,
                    memory_bytes=memory_bytes if enforced else None,
                ),
            )
            self._hierarchy.limit(f"{self.top}/besteffort", Limits(cpu_shares=resources.MIN_SHARES))
        except OSError as error:
            raise SettingsError(f"cannot make control group {error.filename}: {error.strerror}") from error

    def share(self, pods: Iterable[Object]) -> None:
        """Give the burstable class the shares that its pods ask for together."""
        if not self._enabled:
            return
        millis = 0
        for pod in pods:
            if qos.qos_class(pod) == qos.BURSTABLE:
                asked = podresources.of_pod(pod).get("cpu")
                millis += asked.milli_value() if asked is not None else 0
        try:
            self._hierarchy.limit(f"{self.top}/burstable", Limits(cpu_shares=resources.cpu_shares(millis)))
        except OSError as error:
            log.warning("cannot set shares of the burstable class", err=str(error))

    def create(self, pod: Object) -> None:
        """Make the pod's group and set its limits. Raises OSError."""
        if not self._enabled:
            return
        group = self.group_of(pod)
        self._hierarchy.create(group)
        self._hierarchy.limit(group, self.limits_of(pod))

    def widen(self, pod: Object) -> None:
        """Raise the pod's limits to what it may use now, and lower none. Raises OSError."""
        if self._enabled:
            self._hierarchy.limit(self.group_of(pod), self.limits_of(pod), only_raise=True)

    def memory_used(self, pod: Object) -> int | None:
        """Bytes that the pod uses; None if that can't be told."""
        return self._hierarchy.memory_used(self.group_of(pod)) if self._enabled else None

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
        if everywhere["cpu"] and self._settings.cpu_cfs_quota:
            quota = resources.cpu_quota(limits["cpu"].milli_value(), period_us)
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
        for name in _CLASSES.values():
            group = f"{self.top}{name}/pod{uid}"
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
        return {
            child.removeprefix("pod")
            for name in _CLASSES.values()
            for child in self._hierarchy.children(f"{self.top}{name}")
            if child.startswith("pod")
        }
