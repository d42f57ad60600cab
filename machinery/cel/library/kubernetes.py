"""Quantities, versions and named formats.

Source: k8s.io/apiserver/pkg/cel/library/{quantity,semverlib,format}.go; semver.org.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from machinery.api import names, quantity
from machinery.api.quantity import Quantity
from machinery.cel.declarations import overload
from machinery.cel.errors import EvaluationError
from machinery.cel.library.network import parse_url
from machinery.cel.library.times import parse_timestamp
from machinery.cel.library.versions import SEMVER, semver
from machinery.cel.values import INT_MAX, INT_MIN, NONE, Optional

_QUANTITY, _SEMVER, _FORMAT = "kubernetes.Quantity", SEMVER, "kubernetes.NamedFormat"


_NO_QUANTITY: Final = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


@dataclass(frozen=True, slots=True)
class Amount:
    """kubernetes.Quantity."""

    type_name: ClassVar[str] = _QUANTITY
    quantity: Quantity

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Amount) and self.quantity == other.quantity

    def __hash__(self) -> int:
        return hash(self.quantity)


def _quantity(text: str) -> Amount:
    try:
        return Amount(quantity.parse(text))
    except ValueError:
        shaped = re.fullmatch(r"[+-]?[0-9.]+[eEinumkKMGTP]*[-+]?[0-9]*", text)
        raise EvaluationError("unable to parse quantity's suffix" if shaped else _NO_QUANTITY) from None


def _reads(parse: Callable[..., Any]) -> Callable[..., bool]:
    def check(*args: Any) -> bool:
        try:
            parse(*args)
        except EvaluationError:
            return False
        return True

    return check


def _integer(amount: Amount) -> int:
    whole = amount.quantity.value()
    if not amount.quantity.is_integer() or not INT_MIN <= whole <= INT_MAX:
        raise EvaluationError("cannot convert value to integer")
    return whole


def _is_integer(amount: Amount) -> bool:
    return amount.quantity.is_integer() and INT_MIN <= amount.quantity.value() <= INT_MAX


def _other(given: Any) -> Quantity:
    return given.quantity if isinstance(given, Amount) else quantity.of(given)


def _compare(one: Amount, other: Amount) -> int:
    return (one.quantity > other.quantity) - (one.quantity < other.quantity)


def _sign(amount: Amount) -> int:
    zero = quantity.of(0)
    return (amount.quantity > zero) - (amount.quantity < zero)


# -- formats ---------------------------------------------------------------------------------------------------------


def _problems(parse: Callable[[str], Any], told: str) -> Callable[[str], list[str]]:
    def check(text: str) -> list[str]:
        try:
            parse(text)
        except (EvaluationError, ValueError, binascii.Error):
            return [told]
        return []

    return check


def _uuid(text: str) -> list[str]:
    fits = re.fullmatch(r"(?i)[0-9A-F]{8}-?[0-9A-F]{4}-?[0-9A-F]{4}-?[0-9A-F]{4}-?[0-9A-F]{12}", text)
    return [] if fits else ["does not match the UUID format"]


def _date(text: str) -> list[str]:
    try:
        datetime.datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        return ["invalid date"]
    return [] if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) else ["invalid date"]


def _masked(prefix: str) -> str:
    """What a name could begin with, as a name."""
    return f"{prefix[:-2]}a" if len(prefix) > 1 and prefix.endswith("-") else prefix


FORMATS: Final[dict[str, Callable[[str], list[str]]]] = {
    "dns1123Label": names.dns1123_label,
    "dns1123Subdomain": names.dns1123_subdomain,
    "dns1035Label": names.dns1035_label,
    "qualifiedName": names.qualified_name,
    "labelValue": names.label_value,
    "dns1123LabelPrefix": lambda text: names.dns1123_label(_masked(text)),
    "dns1123SubdomainPrefix": lambda text: names.dns1123_subdomain(_masked(text)),
    "dns1035LabelPrefix": lambda text: names.dns1035_label(_masked(text)),
    "uri": _problems(parse_url, "invalid URI"),
    "uuid": _uuid,
    "byte": _problems(lambda text: base64.b64decode(text, validate=True), "invalid base64"),
    "date": _date,
    "datetime": _problems(parse_timestamp, "invalid datetime"),
}


@dataclass(frozen=True, slots=True)
class Format:
    """kubernetes.NamedFormat."""

    type_name: ClassVar[str] = _FORMAT
    name: str


def _validate(form: Format, text: str) -> Optional:
    found = FORMATS[form.name](text)
    return Optional(found) if found else NONE


def _named(name: str) -> Optional:
    return Optional(Format(name)) if name in FORMATS else NONE


def _constant(name: str) -> Callable[[], Format]:
    return lambda: Format(name)


def _escape_key(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


FUNCTIONS: Final = [
    overload("string_to_quantity", f"quantity(string) {_QUANTITY}", _quantity),
    overload("is_quantity_string", "isQuantity(string) bool", _reads(_quantity)),
    overload("quantity_sign", f"sign({_QUANTITY}) int", _sign),
    overload(
        "quantity_is_greater_than", f"{_QUANTITY}.isGreaterThan({_QUANTITY}) bool", lambda a, b: a.quantity > b.quantity
    ),
    overload(
        "quantity_is_less_than", f"{_QUANTITY}.isLessThan({_QUANTITY}) bool", lambda a, b: a.quantity < b.quantity
    ),
    overload("quantity_compare_to", f"{_QUANTITY}.compareTo({_QUANTITY}) int", _compare),
    overload("quantity_get_float", f"{_QUANTITY}.asApproximateFloat() double", lambda a: a.quantity.as_float()),
    overload("quantity_get_int", f"{_QUANTITY}.asInteger() int", _integer),
    overload("quantity_is_integer", f"{_QUANTITY}.isInteger() bool", _is_integer),
    overload("quantity_add", f"{_QUANTITY}.add({_QUANTITY}) {_QUANTITY}", lambda a, b: Amount(a.quantity + _other(b))),
    overload("quantity_add_int", f"{_QUANTITY}.add(int) {_QUANTITY}", lambda a, b: Amount(a.quantity + _other(b))),
    overload("quantity_sub", f"{_QUANTITY}.sub({_QUANTITY}) {_QUANTITY}", lambda a, b: Amount(a.quantity - _other(b))),
    overload("quantity_sub_int", f"{_QUANTITY}.sub(int) {_QUANTITY}", lambda a, b: Amount(a.quantity - _other(b))),
    overload("string_to_semver", f"semver(string) {_SEMVER}", semver),
    overload("string_bool_to_semver", f"semver(string, bool) {_SEMVER}", semver),
    overload("is_semver_string", "isSemver(string) bool", _reads(semver)),
    overload("is_semver_string_bool", "isSemver(string, bool) bool", _reads(semver)),
    overload("semver_is_greater_than", f"{_SEMVER}.isGreaterThan({_SEMVER}) bool", lambda a, b: a > b),
    overload("semver_is_less_than", f"{_SEMVER}.isLessThan({_SEMVER}) bool", lambda a, b: a < b),
    overload("semver_compare_to", f"{_SEMVER}.compareTo({_SEMVER}) int", lambda a, b: (a > b) - (a < b)),
    overload("semver_major", f"{_SEMVER}.major() int", lambda v: v.numbers[0]),
    overload("semver_minor", f"{_SEMVER}.minor() int", lambda v: v.numbers[1]),
    overload("semver_patch", f"{_SEMVER}.patch() int", lambda v: v.numbers[2]),
    overload("format-named", f"format.named(string) optional({_FORMAT})", _named),
    overload("format-validate", f"{_FORMAT}.validate(string) optional(list(string))", _validate),
    *(overload(f"constant-{name}", f"format.{name}() {_FORMAT}", _constant(name)) for name in FORMATS),
    overload("string_escapeKey_string", "jsonpatch.escapeKey(string) string", _escape_key),
]
