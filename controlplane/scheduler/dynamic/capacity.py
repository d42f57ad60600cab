"""What a share of a device takes of its capacities: requests, rounded and judged by the device's policies.

Source: KEP-5075; resource.k8s.io/v1 CapacityRequestPolicy; k8s.io/dynamic-resource-allocation/structured (incubating).
"""

from __future__ import annotations

from collections.abc import Mapping

from machinery.api import quantity
from machinery.api.meta import Object
from machinery.api.quantity import Quantity

Amounts = Mapping[str, Quantity]
"""The name of a capacity, as the device has it → an amount."""


def consumption(requests: Mapping[str, str], capacities: Mapping[str, Object]) -> Amounts | None:
    """What is taken of every capacity; None if the device lacks one that is asked for, or a policy forbids the amount.

    A capacity that nobody asks for is taken by its policy's default, or else whole.
    """
    if not requests.keys() <= capacities.keys():
        return None
    found: dict[str, Quantity] = {}
    for name, capacity in capacities.items():
        policy = capacity.get("requestPolicy") or {}
        taken = _rounded(requests.get(name), capacity, policy)
        if not _allowed(taken, policy):
            return None
        found[name] = taken
    return found


def _rounded(asked: str | None, capacity: Object, policy: Object) -> Quantity:
    if asked is None:
        return quantity.parse(policy["default"] if policy.get("default") is not None else capacity["value"])
    wanted = quantity.parse(asked)
    limits = policy.get("validRange") or {}
    if limits.get("min") is not None:
        return _up_in_steps(wanted, limits)
    return next((value for value in _values(policy) if wanted <= value), wanted)


def _up_in_steps(wanted: Quantity, limits: Object) -> Quantity:
    least = quantity.parse(limits["min"])
    if wanted < least or limits.get("step") is None:
        return max(wanted, least)
    step = quantity.parse(limits["step"]).value()
    steps = -(-(wanted.value() - least.value()) // step)
    return quantity.of(least.value() + step * steps, quantity.BINARY_SI)


def _allowed(taken: Quantity, policy: Object) -> bool:
    if policy.get("default") is not None and taken == quantity.parse(policy["default"]):
        return True
    limits = policy.get("validRange")
    if limits is None:
        values = _values(policy)
        return not values or taken in values
    if limits.get("max") is not None and taken > quantity.parse(limits["max"]):
        return False
    if limits.get("step") is None:
        return True
    least = quantity.parse(limits.get("min") or "0").value()
    return (taken.value() - least) % quantity.parse(limits["step"]).value() == 0


def _values(policy: Object) -> list[Quantity]:
    return [quantity.parse(each) for each in policy.get("validValues") or ()]
