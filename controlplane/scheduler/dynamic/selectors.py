"""CEL expressions that choose devices: `device.attributes["gpu.example.com"].model == "a100"`.

Source: k8s.io/dynamic-resource-allocation/cel; resource.k8s.io/v1 CELDeviceSelector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from machinery.api import quantity
from machinery.api.meta import Object
from machinery.cel import devices
from machinery.cel.environment import Program, compile_program
from machinery.cel.errors import CompileError, EvaluationError
from machinery.cel.library.kubernetes import Amount
from machinery.cel.library.versions import semver
from machinery.errors import NavarchError


class SelectorInvalid(NavarchError):
    """An expression of a claim or a class can't be compiled (whatever the device), or has no value for a device."""

    def __init__(self, message: str, *, compiling: bool = False) -> None:
        super().__init__(message)
        self.compiling = compiling


_OPTIONAL: Final = (
    ". consider using CEL optional chaining (.? followed by orValue()) or guarding the check with has() for optional "
    "fields"
)
_DOMAIN: Final = re.compile(r"""(attributes|capacity)\s*\[\s*["']([^"']+)["']\s*\]""")


@lru_cache(maxsize=1024)
def compiled(expression: str) -> Program:
    """The program of an expression. Raises SelectorInvalid."""
    try:
        program = compile_program(expression, devices.SCOPE)
    except CompileError as exc:
        raise SelectorInvalid(f"CEL compile error: {exc}", compiling=True) from exc
    if not devices.chooses(program.result):
        told = f"must evaluate to bool or the unknown type, not {program.result}"
        raise SelectorInvalid(f"CEL compile error: {told}", compiling=True)
    return program


def variables(driver: str, device: Object) -> Mapping[str, Any]:
    """What an expression sees of a device: names without a domain are in the driver's."""
    attributes: dict[str, dict[str, Any]] = {}
    capacity: dict[str, dict[str, Any]] = {}
    for name, value in (device.get("attributes") or {}).items():
        kind, content = next(iter(value.items()), ("", None))
        _put(attributes, driver, name, semver(str(content)) if kind == "version" else content)
    for name, value in (device.get("capacity") or {}).items():
        _put(capacity, driver, name, Amount(quantity.parse(value["value"])))
    found = {"driver": driver, "attributes": attributes, "capacity": capacity}
    return {"device": found | {"allowMultipleAllocations": bool(device.get("allowMultipleAllocations"))}}


def _put(into: dict[str, dict[str, Any]], driver: str, name: str, value: Any) -> None:
    domain, slash, identifier = name.partition("/")
    if not slash:
        domain, identifier = driver, name
    into.setdefault(domain, {})[identifier] = value


def matches(expression: str, seen: Mapping[str, Any]) -> bool:
    """Whether the device is chosen. Raises SelectorInvalid, such as for an attribute that it does not have."""
    program = compiled(expression)
    device = dict(seen["device"])
    for part, domain in _DOMAIN.findall(expression):
        if domain not in device[part]:  # of a domain that the device does not have, it has none
            device[part] = {**device[part], domain: {}}
    try:
        return program.evaluate({"device": device}) is True
    except EvaluationError as exc:
        hint = _OPTIONAL if "no such key:" in str(exc) else ""
        raise SelectorInvalid(f"CEL runtime error: {exc}{hint}") from exc
