"""CEL expressions that choose devices: `device.attributes["gpu.example.com"].model == "a100"`.

Source: k8s.io/dynamic-resource-allocation/cel; resource.k8s.io/v1 CELDeviceSelector.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any

from machinery.api import quantity
from machinery.api.meta import Object
from machinery.errors import NavarchError

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")


class SelectorInvalid(NavarchError):
    """An expression of a claim or a class can't be compiled."""


@cache
def _engine() -> Any:
    """The CEL engine, on first use: it brings a command line with it that takes a quarter of a second to import."""
    return importlib.import_module("cel")


@lru_cache(maxsize=1024)
def compiled(expression: str) -> Any:
    """The program of an expression. Raises SelectorInvalid."""
    try:
        return _engine().compile(expression)
    except (ValueError, RuntimeError, TypeError, RecursionError) as exc:
        raise SelectorInvalid(f"CEL compile error: {exc}") from exc


def variables(driver: str, device: Object) -> Mapping[str, Any]:
    """What an expression sees of a device: names without a domain are in the driver's."""
    attributes: dict[str, dict[str, Any]] = {}
    capacity: dict[str, dict[str, Any]] = {}
    for name, value in (device.get("attributes") or {}).items():
        _put(attributes, driver, name, next(iter(value.values()), None))
    for name, value in (device.get("capacity") or {}).items():
        _put(capacity, driver, name, _millis(value["value"]))
    found = {"driver": driver, "attributes": attributes, "capacity": capacity}
    return {"device": found | {"allowMultipleAllocations": bool(device.get("allowMultipleAllocations"))}}


def _put(into: dict[str, dict[str, Any]], driver: str, name: str, value: Any) -> None:
    domain, slash, identifier = name.partition("/")
    if slash:
        into.setdefault(domain, {})[identifier] = value
    else:
        into.setdefault(driver, {})[name] = value


def matches(expression: str, seen: Mapping[str, Any]) -> bool:
    """Whether the device is chosen; one that lacks what the expression asks about is not. Raises SelectorInvalid."""
    try:
        return compiled(expression).execute(_engine().Context(dict(seen), dict(_FUNCTIONS))) is True
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, OverflowError):
        return False


def _millis(text: Any) -> int:
    return quantity.parse(text).milli_value()


def _version(text: str) -> tuple[Any, ...]:
    found = _VERSION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a semantic version")
    pre = found.group(4)
    parts = [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in pre.split(".")] if pre else []
    return (*map(int, found.groups()[:3]), pre is None, parts)


def _compare(one: Any, other: Any) -> int:
    """Quantities are whole numbers of millis here, versions are texts."""
    left, right = (_version(one), _version(other)) if isinstance(one, str) else (one, other)
    return (left > right) - (left < right)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "quantity": _millis,
    "semver": str,
    "compareTo": _compare,
    "isGreaterThan": lambda one, other: _compare(one, other) > 0,
    "isLessThan": lambda one, other: _compare(one, other) < 0,
    "asInteger": lambda millis: millis // 1000,
    "asApproximateFloat": lambda millis: millis / 1000,
    "sign": lambda millis: (millis > 0) - (millis < 0),
    "add": lambda one, other: one + other,
    "sub": lambda one, other: one - other,
    "major": lambda text: _version(text)[0],
    "minor": lambda text: _version(text)[1],
    "patch": lambda text: _version(text)[2],
}
