"""Values that are a number or a percentage of something: `3`, `"25%"`.

Source: k8s.io/apimachinery/pkg/util/intstr.
"""

from __future__ import annotations

import re


def scaled(value: int | str, total: int, *, round_up: bool) -> int:
    """The number meant by `value`: itself, or that percentage of `total`, rounded as asked.

    Raises:
        ValueError: a string that is no percentage.
    """
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        raise ValueError("invalid value for IntOrString: invalid type: string is not a percentage")
    number = value.removesuffix("%")
    if not re.fullmatch("[+-]?[0-9]+", number):
        raise ValueError(
            f'invalid value for IntOrString: invalid value "{value}": strconv.Atoi: parsing "{number}": invalid syntax'
        )
    product = int(number) * total
    return -(-product // 100) if round_up else product // 100


def is_percent(value: int | str) -> bool:
    """Whether the value is written as a percentage."""
    return isinstance(value, str) and value.endswith("%")
