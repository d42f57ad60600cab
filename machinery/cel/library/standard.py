"""The standard definitions of CEL.

Source: cel-spec, langdef.md "List of Standard Definitions"; cel-go common/stdlib (ids of overloads).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from machinery.api.structural import regex
from machinery.cel.declarations import Overload, overload
from machinery.cel.errors import EvaluationError
from machinery.cel.library.times import moment_of, parse_duration, parse_timestamp, show_duration, show_timestamp
from machinery.cel.operators import instant
from machinery.cel.types import DYN, Type, parse_type
from machinery.cel.values import INT_MAX, INT_MIN, UINT_MAX, Duration, Timestamp, TypeValue, UInt, type_name

_COMPARABLE: Final = ("bool", "int64", "uint64", "double", "string", "bytes", "timestamp", "duration")
_TYPES: Final = {"int64": "int", "uint64": "uint"}
_NUMBERS: Final = ("int64", "uint64", "double")


def _comparisons() -> list[Overload]:
    made = []
    for function, word in (("_<_", "less"), ("_<=_", "less_equals"), ("_>_", "greater"), ("_>=_", "greater_equals")):
        for kind in _COMPARABLE:
            name = _TYPES.get(kind, kind)
            made.append(overload(f"{word}_{kind}", f"({name}, {name}) bool", function=function))
        for one in _NUMBERS:
            for other in _NUMBERS:
                if one != other:
                    types = f"({_TYPES.get(one, one)}, {_TYPES.get(other, other)}) bool"
                    made.append(overload(f"{word}_{one}_{other}", types, function=function))
    return made


def _arithmetic() -> list[Overload]:
    made = []
    for function, word, kinds in (
        ("_+_", "add", _NUMBERS), ("_-_", "subtract", _NUMBERS), ("_*_", "multiply", _NUMBERS),
        ("_/_", "divide", _NUMBERS), ("_%_", "modulo", ("int64", "uint64")),
    ):  # fmt: skip
        for kind in kinds:
            name = _TYPES.get(kind, kind)
            made.append(overload(f"{word}_{kind}", f"({name}, {name}) {name}", function=function))
    for identity, types, function in (
        ("add_string", "(string, string) string", "_+_"),
        ("add_bytes", "(bytes, bytes) bytes", "_+_"),
        ("add_list", "(list(A), list(A)) list(A)", "_+_"),
        ("add_duration_duration", "(duration, duration) duration", "_+_"),
        ("add_duration_timestamp", "(duration, timestamp) timestamp", "_+_"),
        ("add_timestamp_duration", "(timestamp, duration) timestamp", "_+_"),
        ("subtract_duration_duration", "(duration, duration) duration", "_-_"),
        ("subtract_timestamp_duration", "(timestamp, duration) timestamp", "_-_"),
        ("subtract_timestamp_timestamp", "(timestamp, timestamp) duration", "_-_"),
        ("negate_int64", "(int) int", "-_"),
        ("negate_double", "(double) double", "-_"),
    ):
        made.append(overload(identity, types, function=function))
    return made


_OPERATORS: Final = [
    overload("logical_and", "(bool, bool) bool", function="_&&_"),
    overload("logical_or", "(bool, bool) bool", function="_||_"),
    overload("logical_not", "(bool) bool", function="!_"),
    overload("conditional", "(bool, A, A) A", function="_?_:_"),
    overload("equals", "(A, A) bool", function="_==_"),
    overload("not_equals", "(A, A) bool", function="_!=_"),
    overload("in_list", "(A, list(A)) bool", function="@in"),
    overload("in_map", "(A, map(A, B)) bool", function="@in"),
    overload("index_list", "(list(A), int) A", function="_[_]"),
    overload("index_map", "(map(A, B), A) B", function="_[_]"),
    overload("optional_list_index_value", "(optional(list(A)), int) optional(A)", function="_[_]"),
    overload("optional_map_index_value", "(optional(map(A, B)), A) optional(B)", function="_[_]"),
    overload("list_optindex_optional_int", "(list(A), int) optional(A)", function="_[?_]"),
    overload("optional_list_optindex_optional_int", "(optional(list(A)), int) optional(A)", function="_[?_]"),
    overload("map_optindex_optional_value", "(map(A, B), A) optional(B)", function="_[?_]"),
    overload("optional_map_optindex_optional_value", "(optional(map(A, B)), A) optional(B)", function="_[?_]"),
    Overload("not_strictly_false", "@not_strictly_false", False, (parse_type("bool"),), parse_type("bool")),
]


# -- conversions -----------------------------------------------------------------------------------------------------


def _to_int(value: Any) -> int:
    if isinstance(value, Timestamp):
        return value.nanoseconds // 10**9
    if isinstance(value, str):
        return _read(value, "int", INT_MIN, INT_MAX)
    if isinstance(value, float) and not -(2.0**63) < value < 2.0**63:
        raise EvaluationError("integer overflow")
    number = int(value)
    if not INT_MIN <= number <= INT_MAX:
        raise EvaluationError("integer overflow")
    return number


def _read(text: str, kind: str, low: int, high: int) -> int:
    digits = text[1:] if text[:1] in "+-" and text else text
    if not digits.isascii() or not digits.isdigit() or (kind == "uint" and text[:1] in "+-"):
        raise EvaluationError(f'strconv.Parse{kind.capitalize()}: parsing "{text}": invalid syntax')
    number = int(text) if len(digits) < 25 else 2**70
    if not low <= number <= high:
        raise EvaluationError(f'strconv.Parse{kind.capitalize()}: parsing "{text}": value out of range')
    return number


def _to_uint(value: Any) -> UInt:
    if isinstance(value, str):
        return UInt(_read(value, "uint", 0, UINT_MAX))
    if isinstance(value, float) and not 0 <= value < 2.0**64:
        raise EvaluationError("unsigned integer overflow")
    number = int(value)
    if not 0 <= number <= UINT_MAX:
        raise EvaluationError("unsigned integer overflow")
    return UInt(number)


def _to_double(value: Any) -> float:
    if not isinstance(value, str):
        return float(value)
    try:
        if value != value.strip() or "_" in value:
            raise ValueError
        return float(value)
    except ValueError:
        raise EvaluationError(f'strconv.ParseFloat: parsing "{value}": invalid syntax') from None


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "TRUE", "True", "t", "T", "1"):
        return True
    if value in ("false", "FALSE", "False", "f", "F", "0"):
        return False
    raise EvaluationError("type conversion error from 'string' to 'bool'")


def to_string(value: Any) -> str:
    """string(value)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None
    if isinstance(value, float):
        return show_double(value)
    if isinstance(value, Timestamp):
        return show_timestamp(value)
    if isinstance(value, Duration):
        return show_duration(value)
    return str(int(value))


def show_double(value: float) -> str:
    """As Go's %g with the shortest precision."""
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "0" if math.copysign(1, value) > 0 else "-0"
    exponent = math.floor(math.log10(abs(value)))
    if -4 <= exponent < 21:
        return str(int(value)) if value.is_integer() else repr(value) if "e" not in repr(value) else f"{value:f}"
    mantissa, _, power = repr(value).partition("e")
    if not power:
        mantissa, _, power = f"{value:e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa.removesuffix('.0')}e{power[0] if power[0] in '+-' else '+'}{power.lstrip('+-').zfill(2)}"


def _timestamp(value: Any) -> Timestamp:
    if isinstance(value, str):
        return parse_timestamp(value)
    return value if isinstance(value, Timestamp) else instant(int(value) * 10**9)


def _duration(value: Any) -> Duration:
    return parse_duration(value) if isinstance(value, str) else value


def _conversions() -> list[Overload]:
    made: list[Overload] = []
    for target, function, sources in (
        ("int", _to_int, ("int", "uint", "double", "string", "timestamp")),
        ("uint", _to_uint, ("uint", "int", "double", "string")),
        ("double", _to_double, ("double", "int", "uint", "string")),
        ("bool", _to_bool, ("bool", "string")),
        ("string", to_string, ("string", "bool", "int", "uint", "double", "bytes", "timestamp", "duration")),
        ("bytes", lambda v: v.encode() if isinstance(v, str) else v, ("bytes", "string")),
        ("timestamp", _timestamp, ("timestamp", "string", "int")),
        ("duration", _duration, ("duration", "string")),
    ):
        implementation: Callable[..., Any] = function
        for source in sources:
            identity = f"{_LONG.get(source, source)}_to_{_LONG.get(target, target)}"
            made.append(overload(identity, f"{target}({source}) {target}", implementation))
    return made


_LONG: Final = {"int": "int64", "uint": "uint64"}


# -- functions -------------------------------------------------------------------------------------------------------


def size(value: Any) -> int:
    """size(value)."""
    return len(value)


def matches(text: str, pattern: str) -> bool:
    """Whether the pattern, in Go's notation, is found in the text."""
    try:
        return regex.compile_go(pattern).search(text) is not None
    except regex.PatternError as exc:
        raise EvaluationError(str(exc)) from None


def _part(part: Callable[[Any], int]) -> Callable[..., int]:
    return lambda moment, zone="": part(moment_of(moment, zone))


_PARTS: Final[dict[str, tuple[str, Callable[[Any], int]]]] = {
    "getFullYear": ("year", lambda m: int(m.year)),
    "getMonth": ("month", lambda m: int(m.month) - 1),
    "getDayOfYear": ("day_of_year", lambda m: int(m.timetuple().tm_yday) - 1),
    "getDate": ("day_of_month_1_based", lambda m: int(m.day)),
    "getDayOfMonth": ("day_of_month", lambda m: int(m.day) - 1),
    "getDayOfWeek": ("day_of_week", lambda m: int(m.isoweekday()) % 7),
    "getHours": ("hours", lambda m: int(m.hour)),
    "getMinutes": ("minutes", lambda m: int(m.minute)),
    "getSeconds": ("seconds", lambda m: int(m.second)),
    "getMilliseconds": ("milliseconds", lambda m: int(m.microsecond) // 1000),
}
_SPANS: Final = {
    "getHours": ("hours", 3600 * 10**9), "getMinutes": ("minutes", 60 * 10**9), "getSeconds": ("seconds", 10**9),
    "getMilliseconds": ("milliseconds", 10**6),
}  # fmt: skip


def _times() -> list[Overload]:
    made = []
    for function, (word, part) in _PARTS.items():
        made.append(overload(f"timestamp_to_{word}", f"timestamp.{function}() int", _part(part)))
        made.append(overload(f"timestamp_to_{word}_with_tz", f"timestamp.{function}(string) int", _part(part)))
    for function, (word, unit) in _SPANS.items():
        made.append(overload(f"duration_to_{word}", f"duration.{function}() int", _span(unit)))
    return made


def _span(unit: int) -> Callable[[Duration], int]:
    def whole(duration: Duration) -> int:
        count = abs(duration.nanoseconds) // unit
        return count if duration.nanoseconds >= 0 else -count

    return whole


def _sizes() -> list[Overload]:
    made = []
    for kind, name in (("string", "string"), ("bytes", "bytes"), ("list(A)", "list"), ("map(A, B)", "map")):
        made.append(overload(f"size_{name}", f"size({kind}) int", size))
        made.append(overload(f"{name}_size", f"{kind}.size() int", size))
    return made


def _insert(holder: Mapping[Any, Any], *given: Any) -> dict[Any, Any]:
    added = given[0] if len(given) == 1 else {given[0]: given[1]}
    for key in added:
        if key in holder:
            raise EvaluationError(f"insert failed: key {key} already exists")
    return {**holder, **added}


FUNCTIONS: Final = [
    *_OPERATORS,
    *_comparisons(),
    *_arithmetic(),
    *_sizes(),
    *_conversions(),
    *_times(),
    Overload("to_dyn", "dyn", False, (parse_type("A"),), DYN, lambda value: value),
    Overload(
        "type",
        "type",
        False,
        (parse_type("A"),),
        Type("type", "", (parse_type("A"),)),
        lambda v: TypeValue(type_name(v)),
    ),
    overload("matches", "matches(string, string) bool", matches),
    overload("matches_string", "string.matches(string) bool", matches),
    overload("contains_string", "string.contains(string) bool", lambda text, part: part in text),
    overload("starts_with_string", "string.startsWith(string) bool", str.startswith),
    overload("ends_with_string", "string.endsWith(string) bool", str.endswith),
    overload("@mapInsert_map_map", "(map(K, V), map(K, V)) map(K, V)", _insert, function="cel.@mapInsert"),
    overload("@mapInsert_map_key_value", "(map(K, V), K, V) map(K, V)", _insert, function="cel.@mapInsert"),
]
