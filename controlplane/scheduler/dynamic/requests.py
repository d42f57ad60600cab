"""What claims ask for, read with their device classes.

Source: resource.k8s.io/v1 ResourceClaim; KEP-4816 (prioritized list), KEP-5018 (admin access), KEP-5075 (capacity).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controlplane.scheduler.dynamic import capacity
from controlplane.scheduler.dynamic.inventory import Device
from controlplane.scheduler.dynamic.selectors import SelectorInvalid
from machinery.api.meta import Object, key_of
from machinery.errors import NavarchError

MOST_RESULTS = 32


class AllocationFailed(NavarchError):
    """A claim or a class is wrong: no node can help."""


@dataclass(frozen=True, eq=False)
class Request:
    """One request of a claim, or one of its alternatives (`parent/name`)."""

    name: str
    claim: str
    selectors: Sequence[tuple[str, str]]
    """(whose: `class NAME: selector #0`, expression)"""
    count: int
    everything: bool
    admin: bool
    tolerations: Sequence[Object]
    amounts: Mapping[str, str]
    """What it asks for of devices' capacities."""

    @classmethod
    def of(cls, claim: Object, given: Object, name: str, classes: Mapping[str, Object]) -> Request:
        """From a request and its class. Raises AllocationFailed."""
        told = f"claim {key_of(claim)}, request {given.get('name') or name}"
        class_name = given.get("deviceClassName") or ""
        if not class_name:
            raise AllocationFailed(f"{told}: missing device class name (unsupported request type?)")
        if class_name not in classes:
            missing = f'deviceclass.resource.k8s.io "{class_name}" not found'
            raise AllocationFailed(f"{told}: could not retrieve device class {class_name}: {missing}")
        of_class = classes[class_name]["spec"].get("selectors") or ()
        own = given.get("selectors") or ()
        if any(not (each.get("cel") or {}).get("expression") for each in own):
            raise AllocationFailed(f"{told}, selector: CEL expression empty (unsupported selector type?)")
        chosen = [
            (f"{whose}: selector #{number}", (each.get("cel") or {}).get("expression", ""))
            for whose, each_of in ((f"class {class_name}", of_class), (f"claim {key_of(claim)}", own))
            for number, each in enumerate(each_of)
        ]
        return cls(
            name,
            key_of(claim),
            tuple(chosen),
            given.get("count") or 1,
            given.get("allocationMode") == "All",
            bool(given.get("adminAccess")),
            given.get("tolerations") or (),
            (given.get("capacity") or {}).get("requests") or {},
        )

    @property
    def base(self) -> str:
        """The name without that of the request which it is an alternative of."""
        return self.name.rpartition("/")[2]

    def takes(self, device: Device) -> bool:
        """Whether the device is what was asked for. Raises AllocationFailed."""
        for whose, expression in self.selectors:
            try:
                if not device.chosen_by(expression):
                    return False
            except SelectorInvalid as exc:
                on = "" if exc.compiling else f" on device {'/'.join(device.id)}"
                raise AllocationFailed(f"{whose}{on}: {exc}") from exc
        return True

    def consumption(self, device: Device) -> capacity.Amounts | None:
        """What it would take of the device's capacities; None if it can't."""
        return capacity.consumption(self.amounts, device.capacities)


@dataclass(frozen=True)
class Pick:
    """A device for a request. `taken`: of its capacities, of which other claims may have the rest."""

    request: Request
    device: Device
    taken: capacity.Amounts


Chosen = Sequence[Pick]
"""What a claim gets."""


@dataclass(frozen=True)
class Constraint:
    """What devices of some requests must have in common, or must not."""

    attribute: str
    distinct: bool
    requests: frozenset[str]  # empty: of all

    def about(self, request: str) -> bool:
        """Whether it speaks of a request, or of the one that it is an alternative of."""
        return not self.requests or request in self.requests or request.partition("/")[0] in self.requests

    def allows(self, chosen: Chosen, request: Request, device: Device) -> bool:
        """Whether the device goes with those chosen before."""
        if not self.about(request.name):
            return True
        value = _typed(device.attribute(self.attribute))
        if value is None:
            return False
        others = [_typed(pick.device.attribute(self.attribute)) for pick in chosen if self.about(pick.request.name)]
        return value not in others if self.distinct else all(value == other for other in others)


def _typed(attribute: Object | None) -> tuple[str, object] | None:
    return next(iter(attribute.items()), None) if attribute else None


@dataclass(frozen=True)
class Need:
    """What one claim needs: for each request its alternatives, the best first."""

    claim: Object
    requests: Sequence[Sequence[Request]]
    constraints: Sequence[Constraint]


def need(claim: Object, classes: Mapping[str, Object]) -> Need:
    """A claim, read with its classes. Raises AllocationFailed."""
    devices = (claim.get("spec") or {}).get("devices") or {}
    return Need(
        claim,
        [[Request.of(claim, given, name, classes) for given, name in each] for each in _alternatives(claim, devices)],
        [_constraint(claim, number, each) for number, each in enumerate(devices.get("constraints") or ())],
    )


def _alternatives(claim: Object, devices: Object) -> Iterable[Sequence[tuple[Object, str]]]:
    for each in devices.get("requests") or ():
        if subs := each.get("firstAvailable"):
            yield [(sub, f"{each['name']}/{sub['name']}") for sub in subs]
        elif each.get("exactly"):
            yield [({**each["exactly"], "name": each["name"]}, each["name"])]
        else:
            raise AllocationFailed(f"claim {key_of(claim)}, request {each['name']}: unknown request type")


def _constraint(claim: Object, number: int, given: Object) -> Constraint:
    attribute = given.get("matchAttribute") or given.get("distinctAttribute")
    if not attribute:
        told = f"constraint #{number}: empty constraint (unsupported constraint type?)"
        raise AllocationFailed(f"claim {key_of(claim)}, {told}")
    return Constraint(attribute, "distinctAttribute" in given, frozenset(given.get("requests") or ()))
