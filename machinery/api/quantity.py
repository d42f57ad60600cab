"""Amounts of resources: `100m`, `1.5Gi`, `12e6`.

A Quantity is exact: it holds a whole number of nanos (the smallest amount the API knows; finer ones are rounded away
from zero when they are read).  It remembers in which family of suffixes it was written and prints itself in it.

Source: k8s.io/apimachinery/pkg/api/resource (quantity.go, suffix.go, amount.go).
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, field
from typing import Final

DECIMAL_SI: Final = "DecimalSI"
BINARY_SI: Final = "BinarySI"
DECIMAL_EXPONENT: Final = "DecimalExponent"

FORMAT_WRONG: Final = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_NUMERIC_WRONG: Final = "unable to parse numeric part of quantity"
_SUFFIX_WRONG: Final = "unable to parse quantity's suffix"

_NANOS: Final = 10**9
_MAX_BINARY: Final = 2**63 - 1
# Beyond this an exponent is no amount of anything, only a way to make the server write out its digits.
_MAX_EXPONENT: Final = 1000
_MAX_LENGTH: Final = 1024

_PARTS = re.compile(r"([+-]?)0*([0-9]*)(?:(\.)([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIX = {0: ""} | {bits // 10: suffix for suffix, bits in _BINARY.items()}


def _divide_away(number: int, divisor: int) -> int:
    """number / divisor, rounded away from zero."""
    return -(-number // divisor) if number >= 0 else number // divisor


@dataclass(frozen=True, slots=True, order=True)
class Quantity:
    """An exact amount. Compares and hashes by amount alone: `parse("1000m") == parse("1")`."""

    nanos: int
    format: str = field(default=DECIMAL_SI, compare=False)
    text: str = field(default="", compare=False, repr=False)  # as written, where upstream prints it unchanged

    def value(self) -> int:
        """The amount in whole units, fractions rounded away from zero."""
        return _divide_away(self.nanos, _NANOS)

    def milli_value(self) -> int:
        """The amount in thousandths, smaller fractions rounded away from zero."""
        return _divide_away(self.nanos, 10**6)

    def as_float(self) -> float:
        """The amount, as near as a float can be; infinity if it is beyond all floats."""
        try:
            return self.nanos / _NANOS
        except OverflowError:
            return math.inf if self.nanos > 0 else -math.inf

    def is_integer(self) -> bool:
        """Whether the amount is a whole number of units."""
        return self.nanos % _NANOS == 0

    def canonical(self) -> str:
        """The amount as upstream prints it: no precision lost, no fraction, the largest suffix that allows that."""
        if self.text:
            return self.text
        if not self.nanos:
            return "0"
        if self.format == BINARY_SI and abs(self.nanos) >= 1024 * _NANOS and self.nanos % _NANOS == 0:
            number, times = self.nanos // _NANOS, 0
            while times < 6 and number % 1024 == 0:
                number, times = number // 1024, times + 1
            return f"{number}{_BINARY_SUFFIX[times]}"
        number, exponent = self.nanos, -9
        while number % 1000 == 0:
            number, exponent = number // 1000, exponent + 3
        if self.format != DECIMAL_EXPONENT and exponent in _DECIMAL_SUFFIX:
            return f"{number}{_DECIMAL_SUFFIX[exponent]}"
        return f"{number}e{exponent}" if exponent else str(number)

    def __str__(self) -> str:
        return self.canonical()

    def __bool__(self) -> bool:
        return self.nanos != 0

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos + other.nanos, self.format if self.nanos else other.format)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos - other.nanos, self.format if self.nanos else other.format)

    def __mul__(self, factor: int) -> Quantity:
        return Quantity(self.nanos * factor, self.format)

    def __neg__(self) -> Quantity:
        return Quantity(-self.nanos, self.format)

    def rounded_up(self, scale: int) -> Quantity:
        """Rounded away from zero to a multiple of 10**scale (-3: to millis)."""
        unit = 10 ** (scale + 9)
        return self if self.nanos % unit == 0 else Quantity(_divide_away(self.nanos, unit) * unit, self.format)


ZERO: Final = Quantity(0)


def of(units: int, form: str = DECIMAL_SI) -> Quantity:
    """The quantity of so many whole units."""
    return Quantity(units * _NANOS, form)


def of_milli(millis: int, form: str = DECIMAL_SI) -> Quantity:
    """The quantity of so many thousandths."""
    return Quantity(millis * 10**6, form)


def parse(text: str | int | float) -> Quantity:
    """Read a quantity as it stands in an object, or in a flag.

    Raises:
        ValueError: with upstream's message.
    """
    return _parse(text if isinstance(text, str) else str(text))


@functools.lru_cache(maxsize=8192)
def _parse(text: str) -> Quantity:
    parts = _PARTS.fullmatch(text) if 0 < len(text) <= _MAX_LENGTH else None
    if parts is None:
        raise ValueError(FORMAT_WRONG)
    sign, whole, _, fraction, suffix = parts.groups(default="")
    whole = whole or "0"
    form, exponent = _interpret(suffix)
    digits = whole + fraction
    number = int(digits)
    if form == BINARY_SI:
        return _binary(text, sign, number, len(fraction), exponent, plain=not fraction)
    shift = exponent - len(fraction)
    if shift >= -9:
        nanos = number * 10 ** (shift + 9)
        fast = len(digits) <= 18 and shift % 3 == 0 and not digits.endswith("000") and digits[0] != "0"
    else:
        # More digits below a nano than there are digits at all: what is not zero counts as one nano.
        nanos = min(number, 1) if -shift - 9 > len(digits) else _divide_away(number, 10 ** (-shift - 9))
        fast = False
    return Quantity(-nanos if sign == "-" else nanos, form, text if fast else "")


def _binary(text: str, sign: str, number: int, places: int, exponent: int, *, plain: bool) -> Quantity:
    nanos = _divide_away((number << exponent) * _NANOS, 10**places)
    form = BINARY_SI
    small = plain and 15 - len(str(number)) - int(exponent * 3 / 10) - 1 >= 0
    kept = text if small and exponent % 10 == 0 and number & 7 else ""
    if not small:
        nanos = min(nanos, _MAX_BINARY * _NANOS)
        if 0 < nanos < _NANOS:
            form = DECIMAL_SI
    return Quantity(-nanos if sign == "-" else nanos, form, kept)


def _interpret(suffix: str) -> tuple[str, int]:
    """(format, exponent: of 10, or of 2 for BinarySI)."""
    if suffix in _DECIMAL:
        return DECIMAL_SI, _DECIMAL[suffix]
    if suffix in _BINARY:
        return BINARY_SI, _BINARY[suffix]
    if suffix[0] in "eE" and re.fullmatch(r"[+-]?[0-9]{1,9}", suffix[1:]):
        exponent = int(suffix[1:])
        if exponent <= _MAX_EXPONENT:
            return DECIMAL_EXPONENT, exponent
    raise ValueError(_SUFFIX_WRONG)
