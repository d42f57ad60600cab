"""The part of kubectl's JSONPath that API objects use: printer columns, scale paths, selectable fields.

`.spec.replicas`, `['key']`, `[0]`, `[*]`, `[-1]`, `[?(@.type=="Ready")]`, `..name`; braces around it are allowed.

Source: k8s.io/client-go/util/jsonpath.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Step = Callable[[Iterable[Any]], Iterable[Any]]

_NAME = re.compile(r"(?:\\.|[^.\[\]\\\s])+")
_FILTER = re.compile(r"""^\?\(\s*@((?:\.[\w\-/\\.]+|\[['"][^'"]+['"]\])*)\s*(?:(==|!=|<=|>=|<|>)\s*(.+?))?\s*\)$""")


@dataclass(frozen=True)
class JSONPath:
    """A parsed path."""

    text: str
    steps: tuple[Step, ...]

    def find(self, value: Any) -> list[Any]:
        """All values that the path leads to."""
        found: Iterable[Any] = [value]
        for step in self.steps:
            found = step(found)
        return list(found)


@lru_cache(maxsize=1024)
def parse(text: str) -> JSONPath:
    """A path. Raises ValueError saying what is wrong."""
    rest = text.strip()
    if rest.startswith("{") and rest.endswith("}"):
        rest = rest[1:-1]
    rest = rest.removeprefix("$")
    if rest and rest[0] not in ".[":
        rest = "." + rest
    steps: list[Step] = []
    while rest:
        step, rest = _next(rest, text)
        if step is not None:
            steps.append(step)
    return JSONPath(text, tuple(steps))


def _next(rest: str, text: str) -> tuple[Step | None, str]:
    if rest.startswith("["):
        end = _closing(rest, text)
        return _subscript(rest[1:end].strip(), text), rest[end + 1 :]
    deep = rest.startswith("..")
    rest = rest[2 if deep else 1 :]
    if not rest:
        return None, ""
    if rest.startswith("["):
        return (_descend if deep else None), rest
    if rest.startswith("*"):
        return (_everything if not deep else _deep(None)), rest[1:]
    match = _NAME.match(rest)
    if match is None:
        raise ValueError(f"invalid JSONPath {text!r}: a name is missing")
    name = re.sub(r"\\(.)", r"\1", match.group())
    return (_deep(name) if deep else _member(name)), rest[match.end() :]


def _closing(rest: str, text: str) -> int:
    quote, depth = "", 0
    for at, char in enumerate(rest):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
            if depth == 0:
                return at
    raise ValueError(f"invalid JSONPath {text!r}: unterminated array")


def _subscript(inner: str, text: str) -> Step:
    if inner == "*":
        return _everything
    if inner[:1] in "'\"" and inner[-1:] == inner[:1] and len(inner) > 1:
        return _member(inner[1:-1])
    if inner.startswith("?"):
        return _filter(inner, text)
    try:
        numbers = [int(part) if part else None for part in inner.split(":")]
    except ValueError:
        raise ValueError(f"invalid JSONPath {text!r}: invalid array index {inner}") from None
    if len(numbers) == 1 and numbers[0] is not None:
        return _index(numbers[0])
    if len(numbers) in (2, 3):
        chosen = slice(*numbers)
        return lambda values: (item for v in values if isinstance(v, list) for item in v[chosen])
    raise ValueError(f"invalid JSONPath {text!r}: invalid array index {inner}")


def _filter(inner: str, text: str) -> Step:
    match = _FILTER.match(inner)
    if match is None:
        raise ValueError(f"invalid JSONPath {text!r}: unsupported filter {inner}")
    path, operator, right = parse(match[1]), match[2], match[3]
    if operator is None:
        return lambda values: (i for v in values if isinstance(v, list) for i in v if path.find(i))
    wanted = _literal(right, text)
    compare = _COMPARE[operator]

    def keep(item: Any) -> bool:
        return any(compare(found, wanted) for found in path.find(item))

    return lambda values: (i for v in values if isinstance(v, list) for i in v if keep(i))


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(one: Any, other: Any) -> bool:
        comparable = isinstance(one, int | float) and isinstance(other, int | float)
        return (comparable or (isinstance(one, str) and isinstance(other, str))) and test(one, other)

    return compare


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda one, other: bool(one == other),
    "!=": lambda one, other: bool(one != other),
    "<": _ordered(lambda one, other: bool(one < other)),
    "<=": _ordered(lambda one, other: bool(one <= other)),
    ">": _ordered(lambda one, other: bool(one > other)),
    ">=": _ordered(lambda one, other: bool(one >= other)),
}


def _literal(text: str, whole: str) -> Any:
    if text[:1] in "'\"" and text[-1:] == text[:1] and len(text) > 1:
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise ValueError(f"invalid JSONPath {whole!r}: unsupported value {text}") from None


def _member(name: str) -> Step:
    return lambda values: (v[name] for v in values if isinstance(v, dict) and name in v)


def _index(number: int) -> Step:
    return lambda values: (v[number] for v in values if isinstance(v, list) and -len(v) <= number < len(v))


def _everything(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, list):
            yield from value


def _descend(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        yield value
        yield from _descend(_everything([value]))


def _deep(name: str | None) -> Step:
    if name is None:
        return lambda values: (inner for v in _descend(values) for inner in _everything([v]))
    return lambda values: (v[name] for v in _descend(values) if isinstance(v, dict) and name in v)
