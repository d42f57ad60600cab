"""Defaults of pods and of the templates that make pods.

Source: pkg/apis/core/v1/defaults.go, conversion.go.
"""

from __future__ import annotations

from controlplane.apiserver.registry.defaults.containers import (
    default_container,
    default_resources,
    requests_from_limits,
    round_amounts,
)
from controlplane.apiserver.registry.defaults.volumes import default_volume
from controlplane.apiserver.registry.objects import child, flag, items, number, put_absent, put_empty, sub, text
from machinery.api import quantity
from machinery.api.meta import Object
from machinery.api.quantity import Quantity

# What a pod as a whole may ask for; huge pages of each size besides.
_POD_LEVEL = ("cpu", "memory")


def default_pod_spec(spec: Object) -> None:
    """The spec of a pod, or of a pod template."""
    put_empty(spec, dnsPolicy="ClusterFirst", restartPolicy="Always", schedulerName="default-scheduler")
    put_absent(spec, securityContext={}, terminationGracePeriodSeconds=30)
    account = text(spec, "serviceAccountName") or text(spec, "serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for volume in items(spec, "volumes"):
        default_volume(volume)
    for container in all_containers(spec):
        default_container(container)
    round_amounts(sub(spec, "overhead"))
    default_resources(sub(spec, "resources"))


def all_containers(spec: Object) -> list[Object]:
    """Init, ordinary and ephemeral containers."""
    return [*items(spec, "initContainers"), *items(spec, "containers"), *items(spec, "ephemeralContainers")]


def default_template(template: Object) -> None:
    """A pod template."""
    default_pod_spec(child(template, "spec"))


def default_pod(pod: Object) -> None:
    """A pod."""
    spec = child(pod, "spec")
    default_pod_spec(spec)
    put_absent(spec, enableServiceLinks=True)
    for container in (*items(spec, "containers"), *items(spec, "initContainers")):
        requests_from_limits(sub(container, "resources"))
        if flag(spec, "hostNetwork"):
            for port in items(container, "ports"):
                if not port.get("hostPort") and number(port, "containerPort"):
                    port["hostPort"] = number(port, "containerPort")
    if isinstance(spec.get("resources"), dict):
        _default_pod_level(spec)
    _join_addresses(sub(pod, "status"), "podIP", "podIPs", "ip")
    _join_addresses(sub(pod, "status"), "hostIP", "hostIPs", "ip", both=False)


def _join_addresses(status: Object, one: str, many: str, key: str, *, both: bool = True) -> None:
    """The first of a list of addresses stands in a field of its own; either is made from the other."""
    listed = items(status, many)
    if listed and text(listed[0], key):
        if not text(status, one):
            status[one] = text(listed[0], key)
    elif both and text(status, one):
        status[many] = [{key: text(status, one)}]


def is_pod_level(name: str) -> bool:
    """Whether a pod as a whole can ask for this resource."""
    return name in _POD_LEVEL or name.startswith("hugepages-")


def _default_pod_level(spec: Object) -> None:
    """What the pod as a whole requests, where only its containers or its limits say so.

    Huge pages are limited as the containers' are, and requested as they are limited: they can't be overcommitted.
    """
    resources = child(spec, "resources")
    limits, requests = dict(sub(resources, "limits")), dict(sub(resources, "requests"))
    if limits or requests:
        for name, amount in sum_of(spec, "limits").items():
            if name.startswith("hugepages-") and name not in requests:
                limits.setdefault(name, str(amount))
    if not limits:
        return
    resources["limits"] = limits
    for name, amount in sum_of(spec, "requests").items():
        if name in _POD_LEVEL:
            requests.setdefault(name, str(amount))
    for name, amount in limits.items():
        if is_pod_level(name):
            requests.setdefault(name, amount)
    if requests:
        resources["requests"] = requests


def _amounts(container: Object, which: str) -> dict[str, Quantity]:
    found = {}
    for name, amount in sub(container, "resources", which).items():
        try:
            found[name] = quantity.parse(amount)
        except (ValueError, TypeError):
            continue
    return found


def sum_of(spec: Object, which: str) -> dict[str, Quantity]:
    """What the containers request, or are limited to, together.

    That is what runs at once, or the greatest init container with the sidecars before it.
    """
    total: dict[str, Quantity] = {}

    def add(amounts: dict[str, Quantity], into: dict[str, Quantity]) -> None:
        for name, amount in amounts.items():
            into[name] = into[name] + amount if name in into else amount

    for container in items(spec, "containers"):
        add(_amounts(container, which), total)
    sidecars: dict[str, Quantity] = {}
    greatest: dict[str, Quantity] = {}
    for container in items(spec, "initContainers"):
        amounts = _amounts(container, which)
        if text(container, "restartPolicy") == "Always":
            add(amounts, total)
            add(amounts, sidecars)
            amounts = dict(sidecars)
        else:
            add(sidecars, amounts)
        for name, amount in amounts.items():
            greatest[name] = max(greatest.get(name, amount), amount)
    for name, amount in greatest.items():
        total[name] = max(total.get(name, amount), amount)
    return total
