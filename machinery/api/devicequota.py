"""What a ResourceClaim counts for in a ResourceQuota: devices of each class, also as the extended resources they are.

A pod that asks for an extended resource counts for it itself, by the name it used; the claim that the scheduler makes
for it counts for what else that comes to.

Source: k8s.io/kubernetes/pkg/quota/v1/evaluator/core/resource_claims.go; KEP-4840, KEP-5004.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from machinery.api import podresources, quantity
from machinery.api.meta import Object, controller_of, name_of, namespace_of, uid_of
from machinery.api.podresources import DEVICE_CLASS_PREFIX
from machinery.api.quantity import ZERO, Quantity
from machinery.api.resourceclaims import is_special, requests_of, special_status

PER_CLASS = ".deviceclass.resource.k8s.io/devices"
_IMPLICIT = f"requests.{DEVICE_CLASS_PREFIX}"
_MOST_DEVICES = 32

Amount = tuple[str, Quantity]
"""(name in quotas, how much)"""


@dataclass(frozen=True)
class Surroundings:
    """What else must be known: the device class of a name, the pod of a namespace and a name; None if there is none."""

    device_class: Callable[[str], Object | None]
    pod: Callable[[str, str], Object | None]


ALONE = Surroundings(lambda name: None, lambda namespace, name: None)
"""Nothing else is known."""


def concerns(name: str) -> bool:
    """Whether claims can count for a name of a quota, besides the number of them."""
    bare = name.removeprefix("requests.")
    return name.endswith(PER_CLASS) or (bare != name and podresources.may_be_devices(bare))


def usage(claim: Object, around: Surroundings) -> dict[str, Quantity]:
    """What a claim counts for by the devices it asks for."""
    counted: dict[str, Quantity] = {}
    of_pod = _of_pod(claim, around)
    for request in requests_of(claim):
        if request.get("exactly"):
            for name, amount in _names(request["exactly"], around, of_pod):
                counted[name] = counted.get(name, ZERO) + amount
        most: dict[str, Quantity] = {}
        for sub in request.get("firstAvailable") or ():  # whichever it comes to
            for name, amount in _names(sub, around, of_pod):
                most[name] = max(most.get(name, ZERO), amount)
        for name, amount in most.items():
            counted[name] = counted.get(name, ZERO) + amount
    return counted


def _names(asked: Object, around: Surroundings, of_pod: list[Amount]) -> list[Amount]:
    """What one request counts for; `of_pod` is what the pod counts for itself, and loses what has been met."""
    count = _MOST_DEVICES if asked.get("allocationMode") == "All" else asked.get("count") or 1
    class_name, amount = asked["deviceClassName"], quantity.of(count)
    found = around.device_class(class_name)
    explicit = found["spec"].get("extendedResourceName") if found is not None else None
    names = [f"{_IMPLICIT}{class_name}", *([f"requests.{explicit}"] if explicit else [])]
    met = next((name for name in names if (name, amount) in of_pod), None)
    if met is not None:
        of_pod.remove((met, amount))
    return [(f"{class_name}{PER_CLASS}", amount), *((name, amount) for name in names if name != met)]


def _of_pod(claim: Object, around: Surroundings) -> list[Amount]:
    """What the pod of a special claim counts for itself, by containers; what only init containers need comes last."""
    owner = controller_of(claim) if is_special(claim) else None
    if owner is None or owner.get("kind") != "Pod" or owner.get("apiVersion") != "v1":
        return []
    pod = around.pod(namespace_of(claim), owner["name"])
    if pod is None or uid_of(pod) != owner.get("uid"):
        return []
    told = special_status(pod)
    if told and told.get("resourceClaimName") != name_of(claim):
        return []
    spec = pod["spec"]
    sidecars = [each for each in spec.get("initContainers") or () if podresources.is_sidecar(each)]
    found: list[Amount] = []
    sums: dict[str, Quantity] = {}
    for container in (*sidecars, *(spec.get("containers") or ())):
        for name, amount in podresources.of_container(container).items():
            if podresources.may_be_devices(name):
                found.append((f"requests.{name}", amount))
                sums[name] = sums.get(name, ZERO) + amount
    for name, amount in podresources.of_pod(pod).items():
        more = amount - sums.get(name, ZERO)
        if podresources.may_be_devices(name) and more > ZERO:
            found.append((f"requests.{name}", more))
    return found
