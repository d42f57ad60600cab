"""What a pod asks for in all: the sum that the scheduler, the kubelet, quotas and `kubectl describe` agree on.

Source: KEP-753 (sidecars), KEP-2837 (pod-level resources), KEP-688 (overhead); component-helpers/resource.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from machinery.api import quantity
from machinery.api.meta import Object
from machinery.api.quantity import Quantity

Resources = dict[str, Quantity]

_POD_LEVEL = ("cpu", "memory")


def is_sidecar(container: Object) -> bool:
    """Whether an init container keeps running beside the app containers."""
    return container.get("restartPolicy") == "Always"


def is_extended(name: str) -> bool:
    """Whether a resource is one that device plugins or administrators bring, by the look of its name."""
    return "/" in name and "kubernetes.io/" not in name and not name.startswith("requests.")


DEVICE_CLASS_PREFIX: Final = "deviceclass.resource.kubernetes.io/"
"""Before the name of a device class: the extended resource that such devices are without anybody having said so."""


def may_be_devices(name: str) -> bool:
    """Whether a resource could be one that device classes stand behind, by the look of its name.

    Source: KEP-5004; k8s.io/kubernetes/pkg/scheduler/util IsDRAExtendedResourceName.
    """
    return is_extended(name) or name.startswith(DEVICE_CLASS_PREFIX)


def of_container(container: Object, which: str = "requests") -> Resources:
    """A container's requests or limits, parsed."""
    return _parsed((container.get("resources") or {}).get(which))


def of_pod(pod: Object, which: str = "requests") -> Resources:
    """The pod's effective requests or limits.

    The larger of what runs together (app containers and sidecars) and what any init container needs beside the
    sidecars started before it; plus overhead. Pod-level cpu, memory and hugepages take the place of the sum.
    """
    spec = pod["spec"]
    together: Resources = {}
    for container in spec.get("containers") or ():
        _add(together, of_container(container, which))
    sidecars: Resources = {}
    peak: Resources = {}
    for container in spec.get("initContainers") or ():
        asked = of_container(container, which)
        if is_sidecar(container):
            _add(together, asked)
            _add(sidecars, asked)
            asked = dict(sidecars)
        else:
            asked = _sum(sidecars, asked)
        _maximum(peak, asked)
    _maximum(together, peak)
    for name, amount in _parsed((spec.get("resources") or {}).get(which)).items():
        if name in _POD_LEVEL or name.startswith("hugepages-"):
            together[name] = amount
    overhead = _parsed(spec.get("overhead"))
    if which == "limits":  # a limit that does not exist is not limited by the overhead
        overhead = {name: amount for name, amount in overhead.items() if name in together}
    _add(together, overhead)
    return together


def _parsed(amounts: Mapping[str, Any] | None) -> Resources:
    return {name: quantity.parse(amount) for name, amount in (amounts or {}).items()}


def _add(into: Resources, more: Mapping[str, Quantity]) -> None:
    for name, amount in more.items():
        into[name] = into[name] + amount if name in into else amount


def _sum(*parts: Mapping[str, Quantity]) -> Resources:
    total: Resources = {}
    for part in parts:
        _add(total, part)
    return total


def _maximum(into: Resources, other: Mapping[str, Quantity]) -> None:
    for name, amount in other.items():
        if name not in into or into[name] < amount:
            into[name] = amount
