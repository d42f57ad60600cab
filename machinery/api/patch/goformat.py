"""Values as Go's `%v` prints them; upstream's messages about strategic patches show whole maps so.

Source: Go's fmt (maps are printed with sorted keys).
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, Final


def show(value: Any) -> str:
    """`map[a:1 b:[x <nil>]]`."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{show(value[k])}" for k in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(show, value)) + "]"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return number(value) if isinstance(value, float) else str(value)


def type_name(value: Any) -> str:
    """The type of a JSON value as `%T` prints it."""
    return _TYPES[value.__class__]


_TYPES: Final[dict[type, str]] = {
    str: "string", bool: "bool", int: "int64", float: "float64", type(None): "<nil>", list: "[]interface {}",
    dict: "map[string]interface {}",
}  # fmt: skip


def number(value: float) -> str:
    """A float64 as `%v` prints it: the shortest digits, with an exponent below -4 and from 6 on."""
    if not math.isfinite(value):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    power = len(digits) + exponent - 1 if value else 0
    text = "".join(map(str, digits))
    minus = "-" if sign else ""
    if power < -4 or power >= 6:
        return f"{minus}{text[0]}{'.' if len(text) > 1 else ''}{text[1:]}e{power:+03d}"
    return f"{minus}{Decimal((0, digits, exponent)):f}"
