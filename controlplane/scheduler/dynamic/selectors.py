"""CEL expressions that choose devices: `device.attributes["gpu.example.com"].model == "a100"`.

Source: k8s.io/dynamic-resource-allocation/cel; resource.k8s.io/v1 CELDeviceSelector.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from machinery.api import quantity
from machinery.api.meta import Object
from machinery.cel import types
from machinery.cel.declarations import Declared, Field, scope_of
from machinery.cel.environment import Program, compile_program
from machinery.cel.errors import CompileError, EvaluationError
from machinery.cel.library.kubernetes import Amount, semver
from machinery.cel.types import Type
from machinery.errors import NavarchError


class SelectorInvalid(NavarchError):
    """An expression of a claim or a class can't be compiled."""


def _device() -> Declared:
    def by_domain(value: Type) -> Declared:
        return Declared(types.map_of(types.STRING, types.map_of(types.STRING, value)))

    fields = {
        "driver": Declared(types.STRING),
        "attributes": by_domain(types.DYN),
        "capacity": by_domain(Type("opaque", Amount.type_name)),
        "allowMultipleAllocations": Declared(types.BOOL),
    }
    return Declared(
        Type("object", "kubernetes.DRADevice"), fields={name: Field(name, each) for name, each in fields.items()}
    )


_SCOPE: Final = scope_of(device=_device())


class _Domains(dict[str, dict[str, Any]]):
    """Attributes or capacities by domain: of a domain that the device does not have, it has none."""

    def __missing__(self, domain: str) -> dict[str, Any]:
        return {}


@lru_cache(maxsize=1024)
def compiled(expression: str) -> Program:
    """The program of an expression. Raises SelectorInvalid."""
    try:
        return compile_program(expression, _SCOPE)
    except CompileError as exc:
        raise SelectorInvalid(f"CEL compile error: {exc}") from exc


def variables(driver: str, device: Object) -> Mapping[str, Any]:
    """What an expression sees of a device: names without a domain are in the driver's."""
    attributes, capacity = _Domains(), _Domains()
    for name, value in (device.get("attributes") or {}).items():
        kind, content = next(iter(value.items()), ("", None))
        _put(attributes, driver, name, semver(str(content)) if kind == "version" else content)
    for name, value in (device.get("capacity") or {}).items():
        _put(capacity, driver, name, Amount(quantity.parse(value["value"])))
    found = {"driver": driver, "attributes": attributes, "capacity": capacity}
    return {"device": found | {"allowMultipleAllocations": bool(device.get("allowMultipleAllocations"))}}


def _put(into: _Domains, driver: str, name: str, value: Any) -> None:
    domain, slash, identifier = name.partition("/")
    if not slash:
        domain, identifier = driver, name
    into.setdefault(domain, {})[identifier] = value


def matches(expression: str, seen: Mapping[str, Any]) -> bool:
    """Whether the device is chosen; one that lacks what the expression asks about is not. Raises SelectorInvalid."""
    try:
        return compiled(expression).evaluate(seen) is True
    except EvaluationError:
        return False
