"""Strings: what cel-go's extension and Kubernetes' regular expressions add.

Source: cel-go ext/strings.go, ext/formatting.go; k8s.io/apiserver/pkg/cel/library/regex.go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from machinery.api.structural import regex
from machinery.cel.declarations import overload
from machinery.cel.errors import EvaluationError
from machinery.cel.library.standard import show_double, to_string
from machinery.cel.values import Duration, Timestamp, TypeValue, UInt, type_name

_MOST_REPLACED: Final = 1_000_000
_SPACE: Final = "".join(
    chr(code)
    for code in (*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
)


def _char_at(text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise EvaluationError(f"index out of range: {at}")
    return text[at : at + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    if not part:
        return start
    if start < 0 or (start > 0 and start >= len(text) and len(text) > 0 and start > len(text)):
        raise EvaluationError(f"index out of range: {start}")
    return text.find(part, start)


def _last_index_of(text: str, part: str, last: int | None = None) -> int:
    if last is not None and not 0 <= last < max(len(text), 1):
        raise EvaluationError(f"index out of range: {last}")
    if not part:
        return len(text) if last is None else last
    return text.rfind(part) if last is None else text.rfind(part, 0, last + len(part))


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    made = text.count(old) if old else len(text) + 1
    if count >= 0:
        made = min(made, count)
    if len(text) + made * len(new) > 10 * _MOST_REPLACED:
        raise EvaluationError("operation cancelled: actual cost limit exceeded")
    return text.replace(old, new, count)


def _split(text: str, separator: str, count: int = -1) -> list[str]:
    if count == 0:
        return []
    if count == 1:
        return [text]
    if not separator:
        chars = list(text)
        return chars if count < 0 or len(chars) <= count else [*chars[: count - 1], "".join(chars[count - 1 :])]
    return text.split(separator, count - 1 if count > 0 else -1)


def _substring(text: str, start: int, end: int | None = None) -> str:
    stop = len(text) if end is None else end
    if not 0 <= start <= len(text):
        raise EvaluationError(f"index out of range: {start}")
    if not 0 <= stop <= len(text):
        raise EvaluationError(f"index out of range: {stop}")
    if start > stop:
        raise EvaluationError(f"invalid substring range. start: {start}, end: {stop}")
    return text[start:stop]


def _lower(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


def _upper(text: str) -> str:
    return "".join(c.upper() if c.isascii() else c for c in text)


def _join(items: list[Any], separator: str = "") -> str:
    if not all(isinstance(item, str) for item in items):
        raise EvaluationError("no such overload")
    return separator.join(items)


_QUOTED: Final = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\",
    '"': '\\"',
}  # fmt: skip


def _quote(text: str) -> str:
    return '"' + "".join(_QUOTED.get(char, char) for char in text) + '"'


def _find(text: str, pattern: str) -> str:
    found = _compiled(pattern).search(text)
    return found[0] if found else ""


def _find_all(text: str, pattern: str, count: int = -1) -> list[str]:
    found: list[str] = []
    for match in _compiled(pattern).finditer(text):
        if 0 <= count <= len(found):
            break
        found.append(match[0])
    return found


def _compiled(pattern: str) -> Any:
    try:
        return regex.compile_go(pattern)
    except regex.PatternError as exc:
        raise EvaluationError(f"Illegal regex: {exc}") from None


# -- format ----------------------------------------------------------------------------------------------------------


def _format(text: str, values: list[Any]) -> str:
    out: list[str] = []
    at, used = 0, 0
    while at < len(text):
        char = text[at]
        if char != "%":
            out.append(char)
            at += 1
            continue
        if text[at + 1 : at + 2] == "%":
            out.append("%")
            at += 2
            continue
        at += 1
        precision = None
        if text[at : at + 1] == ".":
            end = at + 1
            while text[end : end + 1].isdigit():
                end += 1
            precision = int(text[at + 1 : end] or "0")
            if precision > 1000:
                raise EvaluationError(
                    f"could not parse formatting clause: precision {precision} exceeds maximum of 1000"
                )
            at = end
        clause = text[at : at + 1]
        if not clause:
            raise EvaluationError("could not parse formatting clause: unexpected end of string")
        if used >= len(values):
            raise EvaluationError(f"index {used} out of range")
        out.append(_clause(clause, precision, values[used]))
        used += 1
        at += 1
    return "".join(out)


def _clause(clause: str, precision: int | None, value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if clause == "s":
        return _shown(value)
    if clause == "d" and isinstance(value, int) and number:
        return str(int(value))
    if clause in "fe" and number:
        if not math.isfinite(value):
            return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
        return f"{float(value):.{6 if precision is None else precision}{clause}}"
    if clause == "b" and isinstance(value, int):
        return f"{int(value):b}"
    if clause == "o" and isinstance(value, int) and number:
        return f"{int(value):o}"
    if clause in "xX":
        if isinstance(value, int) and number:
            return f"{int(value):{clause}}"
        if isinstance(value, str | bytes):
            shown = (value.encode() if isinstance(value, str) else value).hex()
            return shown.upper() if clause == "X" else shown
    if clause not in "sdfeboxX":
        raise EvaluationError(f'could not parse formatting clause: unrecognized formatting clause "{clause}"')
    raise EvaluationError(
        f"error during formatting: no formatting function for type {type_name(value)} in clause %{clause}"
    )


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    if isinstance(value, Mapping):
        shown = sorted((_shown(key), _shown(inner)) for key, inner in value.items())
        return "{" + ", ".join(f"{key}: {inner}" for key, inner in shown) + "}"
    if isinstance(value, TypeValue):
        return value.name
    if isinstance(value, float):
        return show_double(value)
    if isinstance(value, bool | int | str | bytes | UInt | Timestamp | Duration):
        return to_string(value)
    told = "strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
    raise EvaluationError(
        f"error during formatting: string clause can only be used on {told}, was given {type_name(value)}"
    )


FUNCTIONS: Final = [
    overload("string_char_at_int", "string.charAt(int) string", _char_at),
    overload("string_index_of_string", "string.indexOf(string) int", _index_of),
    overload("string_index_of_string_int", "string.indexOf(string, int) int", _index_of),
    overload("string_last_index_of_string", "string.lastIndexOf(string) int", _last_index_of),
    overload("string_last_index_of_string_int", "string.lastIndexOf(string, int) int", _last_index_of),
    overload("string_lower_ascii", "string.lowerAscii() string", _lower),
    overload("string_upper_ascii", "string.upperAscii() string", _upper),
    overload("string_replace_string_string", "string.replace(string, string) string", _replace),
    overload("string_replace_string_string_int", "string.replace(string, string, int) string", _replace),
    overload("string_split_string", "string.split(string) list(string)", _split),
    overload("string_split_string_int", "string.split(string, int) list(string)", _split),
    overload("string_substring_int", "string.substring(int) string", _substring),
    overload("string_substring_int_int", "string.substring(int, int) string", _substring),
    overload("string_trim", "string.trim() string", lambda text: text.strip(_SPACE)),
    overload("string_reverse", "string.reverse() string", lambda text: text[::-1]),
    overload("string_format", "string.format(list(dyn)) string", _format),
    overload("strings_quote", "strings.quote(string) string", _quote),
    overload("list_join", "list(string).join() string", _join),
    overload("list_join_string", "list(string).join(string) string", _join),
    overload("string_find_string", "string.find(string) string", _find),
    overload("string_find_all_string", "string.findAll(string) list(string)", _find_all),
    overload("string_find_all_string_int", "string.findAll(string, int) list(string)", _find_all),
]
