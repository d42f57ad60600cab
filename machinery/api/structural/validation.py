"""Validating a custom resource against its structural schema, in the words of upstream's validator.

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/validation (messages, ratcheting),
k8s.io/kube-openapi/pkg/validation/validate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from machinery.api import fielderror
from machinery.api.fielderror import FieldError
from machinery.api.patch import goformat
from machinery.api.structural import formats, listtype, regex
from machinery.api.structural.listtype import MISSING

_INT_OR_STRING: Final = "x-kubernetes-int-or-string"
_EMBEDDED: Final = "x-kubernetes-embedded-resource"

NOT_CHECKED: Final = FieldError(
    "FieldValueInvalid",
    "<nil>",
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
)
"""Said in place of the results of CEL rules when the object is so wrong that they could not run."""

_BLOCKING: Final = frozenset(
    f"FieldValue{word}" for word in ("NotSupported", "Required", "TooLong", "TooMany", "TypeInvalid")
)


def validate(definition: Mapping[str, Any], obj: Any, old: Any = None) -> list[FieldError]:
    """All errors of a value, apart from what lists have twice; `old` is the value before an update."""
    return _check(definition, obj, "", MISSING if old is None else old)


def blocks_rules(errors: Iterable[FieldError]) -> bool:
    """Whether CEL rules can't be evaluated on an object with these errors."""
    return any(error.reason in _BLOCKING for error in errors)


def type_name(value: Any) -> str:
    """The JSON Schema type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float) and not value.is_integer():
        return "number"
    names: dict[type, str] = {str: "string", int: "integer", float: "integer", list: "array", dict: "object"}
    return names[value.__class__]


def _check(s: Mapping[str, Any], value: Any, path: str, old: Any) -> list[FieldError]:
    if old is not MISSING and _same(value, old):
        return []  # what was accepted once and did not change stays accepted
    if value is None and s.get("nullable"):
        return []
    wrong = _type_error(s, value, path)
    if wrong is not None:
        return [wrong]
    errors = _of_sort(s, value, path, old)
    if s.get("enum") is not None and not any(_same(value, allowed) for allowed in s["enum"]):
        allowed = [v if isinstance(v, str) else fielderror.show(v) for v in s["enum"]]
        errors.append(fielderror.not_supported(path, value, allowed))
    return errors + _composed(s, value, path)


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _type_error(s: Mapping[str, Any], value: Any, path: str) -> FieldError | None:
    found = type_name(value)
    if s.get(_INT_OR_STRING):
        wanted = "integer,string"
        fits = found in ("integer", "string")
    else:
        wanted = s.get("type") or ""
        fits = not wanted or found == wanted or (wanted == "number" and found == "integer")
        if not wanted and value is None:
            fits = bool(s.get("x-kubernetes-preserve-unknown-fields")) or not s
    if fits:
        return None
    wanted = wanted or "object"
    return fielderror.type_invalid(path, found, f'{_in(path)}must be of type {wanted}: "{found}"')


def _of_sort(s: Mapping[str, Any], value: Any, path: str, old: Any) -> list[FieldError]:
    if isinstance(value, dict):
        return _object(s, value, path, old)
    if isinstance(value, list):
        return _list(s, value, path, old)
    if isinstance(value, str):
        return _string(s, value, path)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _number(s, value, path)
    return []


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _object(s: Mapping[str, Any], value: dict[str, Any], path: str, old: Any) -> list[FieldError]:
    errors: list[FieldError] = []
    properties = s.get("properties") or {}
    rest = s.get("additionalProperties")
    before = old if isinstance(old, dict) else {}
    if (limit := s.get("maxProperties")) is not None and len(value) > limit:
        errors.append(fielderror.too_many(path, len(value), limit))
    if (limit := s.get("minProperties")) is not None and len(value) < limit:
        errors.append(_invalid(path, value, f"should have at least {limit} properties"))
    for name, inner in value.items():
        sub = properties.get(name, rest)
        if isinstance(sub, Mapping) and not (name == "metadata" and (not path or s.get(_EMBEDDED))):
            errors += _check(sub, inner, _join(path, name), before.get(name, MISSING))
    missing = (name for name in s.get("required") or () if name not in value)
    errors += [fielderror.required(_join(path, name)) for name in missing]
    return errors


def _list(s: Mapping[str, Any], value: list[Any], path: str, old: Any) -> list[FieldError]:
    errors: list[FieldError] = []
    if (limit := s.get("maxItems")) is not None and len(value) > limit:
        errors.append(fielderror.too_many(path, len(value), limit))
    if (limit := s.get("minItems")) is not None and len(value) < limit:
        errors.append(_invalid(path, value, f"should have at least {limit} items"))
    items = s.get("items")
    if isinstance(items, Mapping):
        for i, (item, before) in enumerate(zip(value, listtype.counterparts(s, value, old), strict=True)):
            errors += _check(items, item, f"{path}[{i}]", before)
    return errors


def _in(path: str) -> str:
    return f"{path} in body " if path else ""


def _invalid(path: str, value: Any, what: str) -> FieldError:
    return fielderror.invalid(path, value, f"{_in(path)}{what}")


def _string(s: Mapping[str, Any], value: str, path: str) -> list[FieldError]:
    errors = []
    length = len(value)
    if (limit := s.get("maxLength")) is not None and length > limit:
        errors.append(fielderror.too_long(path, limit))
    if (limit := s.get("minLength")) is not None and length < limit:
        errors.append(_invalid(path, value, f"should be at least {limit} chars long"))
    if (pattern := s.get("pattern")) and not _pattern(pattern).search(value):
        errors.append(_invalid(path, value, f"should match '{pattern}'"))
    form = s.get("format")
    check = formats.CHECKS.get(form.replace("-", "")) if form and s.get("type") in (None, "", "string") else None
    if check is not None and not check(value):
        errors.append(
            fielderror.type_invalid(path, value, f"{_in(path)}must be of type {form}: {fielderror.show(value)}")
        )
    return errors


@lru_cache(maxsize=2048)
def _pattern(pattern: str) -> re.Pattern[str]:
    try:
        return regex.compile_go(pattern)
    except regex.PatternError:
        return re.compile("")  # the definition's own validation refuses it


def _number(s: Mapping[str, Any], value: float, path: str) -> list[FieldError]:
    errors = _out_of_format(s, value, path)
    if (limit := s.get("maximum")) is not None:
        strict = bool(s.get("exclusiveMaximum"))
        if value > limit or (strict and value == limit):
            word = "less than" if strict else "less than or equal to"
            errors.append(_invalid(path, value, f"should be {word} {_shown(limit)}"))
    if (limit := s.get("minimum")) is not None:
        strict = bool(s.get("exclusiveMinimum"))
        if value < limit or (strict and value == limit):
            word = "greater than" if strict else "greater than or equal to"
            errors.append(_invalid(path, value, f"should be {word} {_shown(limit)}"))
    if (factor := s.get("multipleOf")) and Decimal(repr(value)) % Decimal(repr(factor)) != 0:
        errors.append(_invalid(path, value, f"should be a multiple of {_shown(factor)}"))
    return errors


_LARGEST_FLOAT32: Final = (2 - 2**-23) * 2.0**127


def _out_of_format(s: Mapping[str, Any], value: float, path: str) -> list[FieldError]:
    """A number that its format has no room for. What is beyond the int64 is no integer to begin with."""
    kind, form = s.get("type"), s.get("format")
    if (kind, form) == ("integer", "int32"):
        fits = -(2**31) <= value < 2**31
    elif (kind, form) == ("number", "float"):
        fits = abs(value) < _LARGEST_FLOAT32 + 2.0**103  # what rounds to a float
    else:
        return []
    told = f"Checked value must be of type {kind} with format {form} in {path}"
    return [] if fits else [fielderror.invalid("<nil>", "", told)]


def _shown(limit: float) -> str:
    return goformat.number(float(limit))


def _composed(s: Mapping[str, Any], value: Any, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if s.get("anyOf"):
        results = [_check(part, value, path, MISSING) for part in s["anyOf"]]
        if all(results):
            errors.append(_composite(path, "must validate at least one schema (anyOf)"))
            errors += _fewest(results)
    if s.get("oneOf"):
        results = [_check(part, value, path, MISSING) for part in s["oneOf"]]
        valid = sum(not r for r in results)
        if valid != 1:
            what = "Found none valid" if not valid else f"Found {valid} valid alternatives"
            errors.append(_composite(path, f"must validate one and only one schema (oneOf). {what}"))
            errors += _fewest(results) if not valid else []
    if s.get("allOf"):
        results = [_check(part, value, path, MISSING) for part in s["allOf"]]
        valid = sum(not r for r in results)
        if valid != len(results):
            none = ". None validated" if not valid else ""
            errors += [e for r in results for e in r]
            errors.append(_composite(path, f"must validate all the schemas (allOf){none}"))
    if s.get("not") is not None and not _check(s["not"], value, path, MISSING):
        errors.append(_composite(path, "must not validate the schema (not)"))
    return errors


def _fewest(results: list[list[FieldError]]) -> list[FieldError]:
    return min(results, key=len)


def _composite(path: str, what: str) -> FieldError:
    return fielderror.invalid(path or "<nil>", "", f'"{path}" {what}')
