"""How values of the kubelet's configuration are written, in the file and on the command line.

Source: kubelet.config.k8s.io/v1beta1 KubeletConfiguration (1.36); kubelet --help.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from machinery import settings, tlsflags
from machinery.api import quantity
from machinery.api.meta import Object

Parse = Callable[[Any], Any]


def seconds(value: Any) -> float:
    """A duration, in seconds. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError('a duration such as "10s" is needed')
    return settings.duration(value)


def boolean(value: Any) -> bool:
    """true or false. Raises ValueError."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return settings.boolean(value)
    raise ValueError("true or false is needed")


def integer(value: Any) -> int:
    """A whole number. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a whole number is needed")
    return int(value)


def number(value: Any) -> float:
    """A number. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number is needed")
    return float(value)


def text(value: Any) -> str:
    """A string. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("a string is needed")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """Strings, as a list or with commas between. Raises ValueError."""
    if isinstance(value, str):
        return tuple(settings.strings(value))
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise ValueError("a list of strings is needed")
    return tuple(value)


def cipher_suites(value: Any) -> tuple[str, ...]:
    """TLS cipher suites by Go's names. Raises ValueError."""
    return tuple(tlsflags.known_suites(texts(value)))


def mapping(value: Any) -> dict[str, str]:
    """Strings by name. Raises ValueError."""
    if isinstance(value, str):
        return settings.mapping(value)
    if not isinstance(value, dict):
        raise ValueError("a map of strings is needed")
    return {str(key): str(part) for key, part in value.items()}


def thresholds(value: Any) -> dict[str, str]:
    """Eviction thresholds by signal. Raises ValueError."""
    if isinstance(value, str):  # --eviction-hard=memory.available<100Mi,…
        return dict(part.split("<", 1) for part in settings.strings(value))
    return mapping(value)


def size(value: Any) -> int:
    """A quantity as bytes. Raises ValueError."""
    return quantity.parse(text(value)).value()


def objects(value: Any) -> tuple[Object, ...]:
    """A list of objects. Raises ValueError."""
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise ValueError("a list of objects is needed")
    return tuple(value)


def taints(value: Any) -> tuple[Object, ...]:
    """Taints, as objects or as key=value:effect. Raises ValueError."""
    if not isinstance(value, str):
        return objects(value)
    taints = []
    for part in settings.strings(value):
        keyed, colon, effect = part.rpartition(":")
        key, _, own = keyed.partition("=")
        if not colon or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            raise ValueError(f"{part!r} is not key=value:effect")
        taints.append({"key": key, "effect": effect} | ({"value": own} if own else {}))
    return tuple(taints)


def one_of(*choices: str) -> Parse:
    """A parser of one of these words."""

    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)} is needed")
        return str(value)

    return parse


def reservations(value: Any) -> tuple[Object, ...]:
    """reservedMemory, as objects or as `0:memory=1Gi,hugepages-2M=2Gi;1:memory=1Gi`. Raises ValueError."""
    if not isinstance(value, str):
        return objects(value)
    found = []
    for part in filter(None, value.split(";")):
        number, colon, amounts = part.partition(":")
        if not colon or not number.strip().isdigit():
            raise ValueError(f"the reserved memory has incorrect format {part!r}, expected numa-node:type=quantity")
        found.append({"numaNode": int(number), "limits": settings.mapping(amounts)})
    return tuple(found)


def headers(value: Any) -> dict[str, list[str]]:
    """HTTP headers, as lists by name or as `name:value,name:value`. Raises ValueError."""
    if isinstance(value, str):
        found: dict[str, list[str]] = {}
        for part in settings.strings(value):
            name, colon, content = part.partition(":")
            if not colon:
                raise ValueError(f"{part!r} is not name:value")
            found.setdefault(name.strip(), []).append(content.strip())
        return found
    if not isinstance(value, dict) or not all(isinstance(v, list) for v in value.values()):
        raise ValueError("a map of lists of strings is needed")
    return {str(name): [str(v) for v in values] for name, values in value.items()}
