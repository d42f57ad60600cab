"""Resources as integers: which column of the node table a resource is, and what a pod asks of it.

Units: cpu in millis, everything else in whole units (bytes, pods, devices).

Source: k8s.io/kubernetes/pkg/scheduler/framework/types.go (Resource), util/pod_resources.go (non-zero requests);
component-helpers/resource (PodRequests); KEP-1287 and KEP-5419 (in-place resize), KEP-2837 (pod-level resources),
KEP-753 (sidecars).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from machinery.api import quantity
from machinery.api.meta import Object, condition
from machinery.api.podresources import is_sidecar

CPU, MEMORY, EPHEMERAL, PODS = 0, 1, 2, 3
"""Columns that every table has."""

_FIXED = ("cpu", "memory", "ephemeral-storage", "pods")

# Scores count a container that asks for nothing as if it asked for this, so that such pods spread too.
_LEAST = {"cpu": 100, "memory": 200 * 1024 * 1024}

Amounts = dict[str, int]


class ResourceNames:
    """Numbers resource names as they are met; a number is never given twice."""

    def __init__(self) -> None:
        self.names = list(_FIXED)
        self._columns = {name: column for column, name in enumerate(_FIXED)}

    def column(self, name: str) -> int:
        """The column of a resource, a new one if it has none yet."""
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = len(self.names)
            self.names.append(name)
        return column

    def __len__(self) -> int:
        return len(self.names)


def is_scalar(name: str) -> bool:
    """Extended resources, huge pages and attachable volumes: scored only for pods that ask for them."""
    return name not in _FIXED


def allocatable(node: Object, names: ResourceNames) -> dict[int, int]:
    """Column → what the node has for pods."""
    given = (node.get("status") or {}).get("allocatable") or {}
    return {names.column(name): _amount(name, text) for name, text in given.items()}


def requested(pod: Object, names: ResourceNames) -> dict[int, int]:
    """Column → what the pod asks for; zero amounts are left out, one of `pods` is in."""
    asked = {names.column(name): number for name, number in totals(pod).items() if number}
    return asked | {PODS: 1}


def scored(pod: Object) -> tuple[int, int]:
    """(cpu, memory) as scoring counts them: a least amount for containers that name none."""
    if (pod["spec"].get("resources") or {}).get("requests"):
        found = totals(pod)
        return found.get("cpu", 0), found.get("memory", 0)
    found = totals(pod, _LEAST)
    return found["cpu"], found["memory"]


def totals(pod: Object, least: Mapping[str, int] | None = None) -> Amounts:
    """What the pod asks for in all, with `least` for containers that name none of a resource.

    The larger of what runs together (app containers and sidecars) and what any init container needs beside the
    sidecars started before it, plus overhead. A pod being resized counts with the larger of what it has and wants.
    """
    spec = pod["spec"]
    running = _running(pod)
    together: Amounts = {}
    for container in spec.get("containers") or ():
        _add(together, _of_container(container, running, least))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        if is_sidecar(container):
            asked = _of_container(container, running, least)
            _add(together, asked)
            _add(sidecars, asked)
            _raise(peak, sidecars)
        else:
            asked = _of_container(container, {}, least)
            _add(asked, sidecars)
            _raise(peak, asked)
    _raise(together, peak)
    for name, number in _of_pod(pod).items():
        if name in _LEAST or name.startswith("hugepages-"):
            together[name] = number
    _add(together, _parsed(spec.get("overhead")))
    return together


Running = Mapping[str, tuple[Amounts, bool]]
"""Container name → (what it has been given, whether that alone counts)."""


def _running(pod: Object) -> Running:
    status = pod.get("status") or {}
    found: dict[str, tuple[Amounts, bool]] = {}
    statuses: Iterable[Object] = (
        *(status.get("containerStatuses") or ()),
        *(status.get("initContainerStatuses") or ()),
    )
    for each in statuses:
        if each.get("resources") is not None:
            given = _parsed(each["resources"].get("requests"))
            _raise(given, _parsed(each.get("allocatedResources")))
            found[each["name"]] = (given, False)
    if found and _infeasible(status):
        return {name: (given, True) for name, (given, _) in found.items()}
    return found


def _infeasible(status: Object) -> bool:
    pending = condition(status.get("conditions"), "PodResizePending")
    return pending is not None and pending.get("status") == "True" and pending.get("reason") == "Infeasible"


def _of_pod(pod: Object) -> Amounts:
    """What the pod as a whole asks for (pod-level resources), as it is being resized."""
    asked = _parsed((pod["spec"].get("resources") or {}).get("requests"))
    status = pod.get("status") or {}
    if not asked or status.get("resources") is None:
        return asked
    given = _parsed(status["resources"].get("requests"))
    _raise(given, _parsed(status.get("allocatedResources")))
    if not _infeasible(status):
        _raise(given, asked)
    return given


def _of_container(container: Object, running: Running, least: Mapping[str, int] | None) -> Amounts:
    asked = _parsed((container.get("resources") or {}).get("requests"))
    given = running.get(container["name"]) if running else None
    if given is not None:
        if given[1]:
            asked = dict(given[0])
        else:
            _raise(asked, given[0])
    return {**least, **asked} if least else asked


def _parsed(amounts: Mapping[str, str] | None) -> Amounts:
    return {name: _amount(name, text) for name, text in amounts.items()} if amounts else {}


@lru_cache(maxsize=4096)
def _amount(name: str, text: str) -> int:
    """A quantity in the table's unit for that resource, rounded up."""
    given = quantity.parse(text)
    return given.milli_value() if name == "cpu" else given.value()


def _add(into: Amounts, more: Mapping[str, int]) -> None:
    for name, number in more.items():
        into[name] = into.get(name, 0) + number


def _raise(into: Amounts, other: Mapping[str, int]) -> None:
    for name, number in other.items():
        if into.get(name, -1) < number:
            into[name] = number
