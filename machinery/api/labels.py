"""Label selectors: `app=web,tier in (a,b),!legacy`.

Source: k8s.io/apimachinery/pkg/labels (selector.go), meta/v1 LabelSelector.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from machinery.api import fielderror, names

IN, NOT_IN, EXISTS, DOES_NOT_EXIST = "in", "notin", "exists", "!"
EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER, LESS = "=", "==", "!=", "gt", "lt"

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_OPERATORS = {"=": EQUALS, "==": DOUBLE_EQUALS, "!=": NOT_EQUALS, ">": GREATER, "<": LESS, "in": IN, "notin": NOT_IN}
_SIGN = {EQUALS: "=", DOUBLE_EQUALS: "==", NOT_EQUALS: "!=", GREATER: ">", LESS: "<"}
_FROM_EXPRESSION = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": DOES_NOT_EXIST}


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one label must be like."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels fulfil it."""
        value = labels.get(self.key)
        match self.operator:
            case "=" | "==" | "in":
                return value is not None and value in self.values
            case "!=" | "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        if value is None or not _INTEGER.fullmatch(value):
            return False
        return int(value) > int(self.values[0]) if self.operator == GREATER else int(value) < int(self.values[0])

    def __str__(self) -> str:
        if self.operator == EXISTS:
            return self.key
        if self.operator == DOES_NOT_EXIST:
            return "!" + self.key
        values = ",".join(sorted(self.values))
        if self.operator in (IN, NOT_IN):
            return f"{self.key} {self.operator} ({values})"
        return f"{self.key}{_SIGN[self.operator]}{values}"


@dataclass(frozen=True)
class Selector:
    """Requirements, ordered by key, that must all be fulfilled; with none it selects everything."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = field(default=False)
    """Selects nothing at all (an absent LabelSelector)."""

    @cached_property
    def _exact(self) -> tuple[tuple[str, str], ...]:
        return tuple((r.key, r.values[0]) for r in self.requirements if r.operator in (EQUALS, DOUBLE_EQUALS))

    @cached_property
    def _others(self) -> tuple[Requirement, ...]:
        return tuple(r for r in self.requirements if r.operator not in (EQUALS, DOUBLE_EQUALS))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        if self.nothing:
            return False
        for key, value in self._exact:
            if labels.get(key) != value:
                return False
        return all(r.matches(labels) for r in self._others)

    def exact(self, key: str) -> str | None:
        """The one value that the selector asks this label to have, if it does."""
        for r in self.requirements:
            if r.key == key and r.operator in (EQUALS, DOUBLE_EQUALS, IN) and len(r.values) == 1:
                return r.values[0]
        return None

    def __bool__(self) -> bool:
        return bool(self.requirements) or self.nothing

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = Selector()
NOTHING = Selector(nothing=True)


def requirement(key: str, operator: str, values: tuple[str, ...] = ()) -> Requirement:
    """A checked requirement.

    Raises:
        ValueError: key, operator and values don't go together.
    """
    errors = []
    if wrong := names.qualified_name(key):
        errors.append(fielderror.invalid("key", key, "; ".join(wrong)))
    shown = list(values)
    if operator in (IN, NOT_IN) and not values:
        errors.append(fielderror.invalid("values", shown, "for 'in', 'notin' operators, values set can't be empty"))
    elif operator in (EQUALS, DOUBLE_EQUALS, NOT_EQUALS) and len(values) != 1:
        errors.append(fielderror.invalid("values", shown, "exact-match compatibility requires one single value"))
    elif operator in (EXISTS, DOES_NOT_EXIST) and values:
        errors.append(fielderror.invalid("values", shown, "values set must be empty for exists and does not exist"))
    elif operator in (GREATER, LESS):
        if len(values) != 1:
            errors.append(
                fielderror.invalid("values", shown, "for 'Gt', 'Lt' operators, exactly one value is required")
            )
        errors += [
            fielderror.invalid(f"values[{i}]", v, "for 'Gt', 'Lt' operators, the value must be an integer")
            for i, v in enumerate(values)
            if not _INTEGER.fullmatch(v)
        ]
    errors += [
        fielderror.invalid(f"values[{i}][{key}]", v, "; ".join(wrong))
        for i, v in enumerate(values)
        if (wrong := names.label_value(v))
    ]
    if errors:
        texts = list(dict.fromkeys(map(str, errors)))
        raise ValueError(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
    return Requirement(key, operator, values)


def _sorted(requirements: list[Requirement]) -> Selector:
    return Selector(tuple(sorted(requirements, key=lambda r: r.key)))


def from_map(labels: Mapping[str, str] | None) -> Selector:
    """Selects what has all these labels; nothing is checked."""
    return _sorted([Requirement(k, EQUALS, (v,)) for k, v in (labels or {}).items()])


def from_selector(selector: Mapping[str, Any] | None) -> Selector:
    """The meaning of a LabelSelector object: None selects nothing, {} everything.

    Raises:
        ValueError: it has an unknown operator, or keys or values that can't be.
    """
    if selector is None:
        return NOTHING
    found = [requirement(k, EQUALS, (v,)) for k, v in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        operator = expression.get("operator", "")
        if operator not in _FROM_EXPRESSION:
            raise ValueError(f'"{operator}" is not a valid label selector operator')
        values = tuple(expression.get("values") or ())
        found.append(requirement(expression.get("key", ""), _FROM_EXPRESSION[operator], values))
    return _sorted(found)


@lru_cache(maxsize=1024)
def parse(text: str) -> Selector:
    """Read a selector.

    Raises:
        ValueError: with upstream's message.
    """
    return _sorted(_Parser(text).requirements())


_TOKEN = re.compile(r"[ \t\r\n]*(?:([^ \t\r\n=!(),><]+)|([=!(),><]+))?", re.DOTALL)
_END = ""


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """(kind, literal): kind is "word", "end", "error" or the symbol itself (in and notin included)."""
    at = 0
    text = text.partition("\0")[0]  # upstream's scanner ends at a NUL
    while True:
        found = _TOKEN.match(text, at)
        assert found is not None  # the pattern matches the empty string
        word, symbols = found.groups()
        if word is not None:
            at = found.end()
            yield (word if word in ("in", "notin") else "word"), word
        elif symbols is not None:
            at = found.start(2)
            symbol = symbols[:2] if symbols[:2] in ("==", "!=") else symbols[0]
            at += len(symbol)
            yield symbol, symbol
        else:
            yield "end", _END
            return


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text))
        self.at = 0

    def look(self, *, value: bool = True) -> tuple[str, str]:
        kind, literal = self.tokens[min(self.at, len(self.tokens) - 1)]
        # `in` and `notin` are ordinary words where no operator can stand
        return ("word" if value and kind in ("in", "notin") else kind), literal

    def take(self, *, value: bool = True) -> tuple[str, str]:
        token = self.look(value=value)
        self.at += 1
        return token

    def requirements(self) -> list[Requirement]:
        found: list[Requirement] = []
        while True:
            kind, literal = self.look()
            if kind == "end":
                return found
            if kind not in ("word", "!"):
                raise ValueError(f"found '{literal}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self.requirement())
            except ValueError as exc:
                raise ValueError(f"unable to parse requirement: {exc}") from None
            kind, literal = self.take()
            if kind == "end":
                return found
            if kind != ",":
                raise ValueError(f"found '{literal}', expected: ',' or 'end of string'")
            kind, literal = self.look()
            if kind not in ("word", "!"):
                raise ValueError(f"found '{literal}', expected: identifier after ','")

    def requirement(self) -> Requirement:
        kind, key = self.take()
        absent = kind == "!"
        if absent:
            kind, key = self.take()
        if kind != "word":
            raise ValueError(f"found '{key}', expected: identifier")
        if wrong := names.qualified_name(key):
            raise ValueError(str(fielderror.invalid("<nil>", key, "; ".join(wrong))))
        if absent:
            return requirement(key, DOES_NOT_EXIST)
        if self.look()[0] in ("end", ","):
            return requirement(key, EXISTS)
        kind, literal = self.take(value=False)
        if kind not in _OPERATORS:
            raise ValueError(f"found '{literal}', expected: in, notin, =, ==, !=, gt, lt")
        operator = _OPERATORS[kind]
        values = self.values() if operator in (IN, NOT_IN) else {self.exact_value()}
        return requirement(key, operator, tuple(sorted(values)))

    def exact_value(self) -> str:
        if self.look()[0] in ("end", ","):
            return ""
        kind, literal = self.take()
        if kind != "word":
            raise ValueError(f"found '{literal}', expected: identifier")
        return literal

    def values(self) -> set[str]:
        kind, literal = self.take()
        if kind != "(":
            raise ValueError(f"found '{literal}' expected: '('")
        kind, literal = self.look()
        if kind == ")":
            self.take()
            return {""}
        if kind not in ("word", ","):
            raise ValueError(f"found '{literal}', expected: ',', ')' or identifier")
        found = self.identifiers()
        if self.take()[0] != ")":
            raise ValueError(f"found '{literal}', expected: ')'")
        return found

    def identifiers(self) -> set[str]:
        found: set[str] = set()
        while True:
            kind, literal = self.take()
            after, shown = self.look()
            if kind == "word":
                found.add(literal)
                if after == ")":
                    return found
                if after != ",":
                    raise ValueError(f"found '{shown}', expected: ',' or ')'")
            elif kind == ",":
                if not found:
                    found.add("")
                if after == ")":
                    return found | {""}
                if after == ",":
                    self.take()
                    found.add("")
            else:
                raise ValueError(f"found '{literal}', expected: ',', or identifier")
