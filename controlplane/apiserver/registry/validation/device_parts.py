"""Parts of devices, of their slices and of what is told about them in claims.

Source: pkg/apis/resource/validation/validation.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any, Final

from controlplane.apiserver.registry.objects import sub, text, values
from controlplane.apiserver.registry.validation.parts import check_interface, check_names, repeated
from machinery.api import names, quantity
from machinery.api.fielderror import FieldError, forbidden, invalid, required, show, too_long, too_many
from machinery.api.meta import Object
from machinery.api.quantity import Quantity

_MOST_BINDING: Final = 4
_MOST_VALUES: Final = 10
_MOST_ADDRESSES: Final = 16
_LONGEST_INTERFACE: Final = 256
_LONGEST_HARDWARE: Final = 128
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NORMAL: Final = (
    "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal "
    "characters"
)

Rule = Callable[[str, Any], list[FieldError]]


def several(
    at: str, found: list[Any], most: int, rule: Rule, key: Callable[[Any], Hashable] | None = None
) -> list[FieldError]:
    """A list of at most so many items, all valid, no key twice."""
    if most >= 0 and len(found) > most:
        return [too_many(at, len(found), most)]
    errors = [error for index, item in enumerate(found) for error in rule(f"{at}[{index}]", item)]
    seen: set[Hashable] = set()
    for index, item in enumerate(found) if key is not None else ():
        name = key(item) if key is not None else None
        if name in seen:
            errors.append(repeated(f"{at}[{index}]", name))
        seen.add(name)
    return errors


def shortened(key: str, most: int) -> str:
    """A key as paths show it: without its middle if it is too long."""
    if len(key) <= most:
        return key
    left = most - len("...")
    return f"{key[: (left + 1) // 2]}...{key[len(key) - left // 2 :]}"


def binding(at: str, holder: Object) -> list[FieldError]:
    """The conditions that a device has to have, and may not have, before its pod is bound: both or neither."""
    wanted = [name for name in values(holder, "bindingConditions") if isinstance(name, str)]
    failures = [name for name in values(holder, "bindingFailureConditions") if isinstance(name, str)]
    of_success, of_failure = f"{at}.bindingConditions", f"{at}.bindingFailureConditions"
    errors: list[FieldError] = []
    for where, found in ((of_success, wanted), (of_failure, failures)):
        errors += several(where, found, _MOST_BINDING, lambda at, name: check_names(at, name, names.qualified_name))
    errors += [repeated(f"{of_success}[{i}]", name) for i, name in enumerate(wanted) if name in wanted[:i]]
    for i, name in enumerate(failures):
        if name in failures[:i]:
            errors.append(repeated(f"{of_failure}[{i}]", name))
        if name in wanted:
            told = "bindingFailureConditions must not overlap with bindingConditions"
            errors.append(invalid(f"{of_failure}[{i}]", name, told))
    if failures and not wanted:
        told = "bindingConditions are required to use bindingFailureConditions"
        errors.append(invalid(of_success, None, told))
    if wanted and not failures:
        told = "bindingFailureConditions are required to use bindingConditions"
        errors.append(invalid(of_failure, None, told))
    return errors


def share_id(at: str, uid: Any) -> list[FieldError]:
    """Which share of a device, if it is one."""
    if not isinstance(uid, str):
        return []
    if wrong := _uuid_error(uid):
        return [invalid(at, uid, f"error validating uid: {wrong}")]
    return [] if len(uid) == 36 and uid == uid.lower() else [invalid(at, uid, _NORMAL)]


def _uuid_error(uid: str) -> str:
    """What github.com/google/uuid says; "" if it reads it."""
    inner = uid
    if len(uid) == 45:
        if uid[:9].lower() != "urn:uuid:":
            return f"invalid urn prefix: {show(uid[:9])}"
        inner = uid[9:]
    elif len(uid) == 38:
        if uid[0] != "{" or uid[-1] != "}":
            return "invalid bracketed UUID format"
        inner = uid[1:-1]
    elif len(uid) == 32:
        return "" if re.fullmatch("[0-9a-fA-F]{32}", uid) else "invalid UUID format"
    elif len(uid) != 36:
        return f"invalid UUID length: {len(uid)}"
    return "" if _UUID.fullmatch(inner) else "invalid UUID format"


def network_data(at: str, data: Object | None) -> list[FieldError]:
    """What is told about a device of a network."""
    if data is None:
        return []
    errors: list[FieldError] = []
    for key, most in (("interfaceName", _LONGEST_INTERFACE), ("hardwareAddress", _LONGEST_HARDWARE)):
        if len(text(data, key).encode()) > most:
            errors.append(too_long(f"{at}.{key}", most))
    addresses = [each for each in values(data, "ips") if isinstance(each, str)]
    return errors + several(f"{at}.ips", addresses, _MOST_ADDRESSES, check_interface, str)


def request_policy(at: str, capacity: Object) -> list[FieldError]:
    """How much of a capacity can be asked for."""
    policy = sub(capacity, "requestPolicy")
    listed, span = values(policy, "validValues"), policy.get("validRange")
    if not listed and not isinstance(span, dict):
        return []
    if listed and span is not None:
        told = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        return [forbidden(at, told)]
    key = "validValues" if listed else "validRange"
    if policy.get("default") is None:
        return [required(f"{at}.default", f"required when {key} is defined")]
    usual, most = quantity.parse(policy["default"]), quantity.parse(capacity.get("value") or "0")
    if listed:
        return _valid_values(f"{at}.{key}", usual, most, [quantity.parse(value) for value in listed])
    bounds = {name: quantity.parse(value) for name, value in dict(span or {}).items() if value is not None}
    return _valid_range(f"{at}.{key}", usual, most, bounds)


def _wrong(at: str, value: Quantity, told: str) -> FieldError:
    return invalid(at, value.canonical(), told)


def _valid_values(at: str, usual: Quantity, most: Quantity, listed: list[Quantity]) -> list[FieldError]:
    def one(where: str, value: Quantity) -> list[FieldError]:
        told = f"option is larger than capacity value: {most}"
        return [_wrong(where, value, told)] if value.nanos > most.nanos else []

    errors = [
        _wrong(f"{at}[{i}]", value, "values must be sorted in ascending order")
        for i, value in enumerate(listed)
        if i and listed[i - 1].nanos > value.nanos
    ]
    errors += several(at, listed, _MOST_VALUES, one, lambda value: str(value.value()))
    if len(listed) > _MOST_VALUES or usual not in listed:
        errors.append(_wrong(at, usual, "default value is not valid according to the requestPolicy"))
    return errors


def _valid_range(at: str, usual: Quantity, most: Quantity, bounds: dict[str, Quantity]) -> list[FieldError]:
    low, high, step = (bounds.get(name) for name in ("min", "max", "step"))
    if low is None:
        return [required(f"{at}.min", "required when validRange is defined")]
    errors: list[FieldError] = []
    if low.nanos > most.nanos:
        errors.append(_wrong(f"{at}.min", low, f"min is larger than capacity value: {most}"))
    if usual.nanos < low.nanos:
        errors.append(_wrong(f"{at}.min", usual, f"default is less than min: {low}"))
    if high is not None:
        if low.nanos > high.nanos:
            errors.append(_wrong(f"{at}.max", low, f"min is larger than max: {high}"))
        if high.nanos > most.nanos:
            errors.append(_wrong(f"{at}.max", high, f"max is larger than capacity value: {most}"))
        if usual.nanos > high.nanos:
            errors.append(_wrong(f"{at}.max", usual, f"default is more than max: {high}"))
    if step is not None:
        first = low + step
        if first.nanos > most.nanos:
            told = f"one step {first} is larger than capacity value: {most}"
            errors.append(_wrong(f"{at}.step", step, told))
        for value in (usual, high):
            if value is not None and step.value() and (value.value() - low.value()) % step.value():
                told = f"value is not a multiple of a given step ({step}) from ({low})"
                errors.append(_wrong(f"{at}.step", value, told))
    return errors
