"""CEL expressions that choose devices: `device.attributes["gpu.example.com"].model == "a100"`.

Source: k8s.io/dynamic-resource-allocation/cel; resource.k8s.io/v1 CELDeviceSelector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from machinery.api.meta import Object
from machinery.cel import types
from machinery.cel.declarations import Declared, Field, Scope, scope_of
from machinery.cel.environment import Program, compile_program
from machinery.cel.errors import CelError, CompileError
from machinery.cel.types import Type
from machinery.errors import NavarchError

_DOMAIN = re.compile(r"""(attributes|capacity)\s*\[\s*["']([^"']+)["']\s*\]""")


class SelectorInvalid(NavarchError):
    """An expression of a claim or a class can't be compiled, or has no value for a device."""


@cache
def _scope() -> Scope:
    by_domain = types.map_of(types.STRING, types.map_of(types.STRING, types.DYN))
    amounts = types.map_of(types.STRING, types.map_of(types.STRING, Type("opaque", "kubernetes.Quantity")))
    fields = {
        "driver": Declared(types.STRING),
        "attributes": Declared(by_domain),
        "capacity": Declared(amounts),
        "allowMultipleAllocations": Declared(types.BOOL),
    }
    device = Type("object", "kubernetes.DRADevice")
    return scope_of(device=Declared(device, fields={name: Field(name, kind) for name, kind in fields.items()}))


@lru_cache(maxsize=1024)
def compiled(expression: str) -> Program:
    """The program of an expression. Raises SelectorInvalid."""
    try:
        program = compile_program(expression, _scope())
    except CompileError as exc:
        raise SelectorInvalid(f"CEL compile error: {exc}") from exc
    if program.result not in (types.BOOL, types.DYN):
        raise SelectorInvalid("CEL compile error: must evaluate to bool")
    return program


@cache
def _reader(function: str) -> Program:
    return compile_program(f"{function}(text)", scope_of(text=Declared(types.STRING)))


def _read(function: str, text: str) -> Any:
    return _reader(function).evaluate({"text": text})


def variables(driver: str, device: Object) -> Mapping[str, Any]:
    """What an expression sees of a device: names without a domain are in the driver's."""
    attributes: dict[str, dict[str, Any]] = {}
    capacity: dict[str, dict[str, Any]] = {}
    for name, value in (device.get("attributes") or {}).items():
        kind, given = next(iter(value.items()))
        _put(attributes, driver, name, _read("semver", given) if kind == "version" else given)
    for name, value in (device.get("capacity") or {}).items():
        _put(capacity, driver, name, _read("quantity", value["value"]))
    found = {"driver": driver, "attributes": attributes, "capacity": capacity}
    return {"device": found | {"allowMultipleAllocations": bool(device.get("allowMultipleAllocations"))}}


def _put(into: dict[str, dict[str, Any]], driver: str, name: str, value: Any) -> None:
    domain, slash, identifier = name.partition("/")
    if slash:
        into.setdefault(domain, {})[identifier] = value
    else:
        into.setdefault(driver, {})[name] = value


def matches(expression: str, seen: Mapping[str, Any]) -> bool:
    """Whether the device is chosen. Raises SelectorInvalid, such as for an attribute that it does not have."""
    program = compiled(expression)
    device = dict(seen["device"])
    for part, domain in _DOMAIN.findall(expression):
        if domain not in device[part]:  # of a domain that the device says nothing of there is an empty map
            device[part] = {**device[part], domain: {}}
    try:
        return program.evaluate({"device": device}) is True
    except CelError as exc:
        raise SelectorInvalid(f"CEL runtime error: {exc}") from exc
