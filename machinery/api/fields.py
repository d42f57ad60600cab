"""Field selectors: `metadata.name=x,status.phase!=Running`.

Source: k8s.io/apimachinery/pkg/fields (selector.go).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_OPERATORS = ("!=", "==", "=")


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Requirements that must all hold; with none it selects everything."""

    requirements: tuple[tuple[str, str, str], ...] = ()
    """(field, "=" or "!=", value), ordered as upstream orders them."""

    def matches(self, get: Callable[[str], str]) -> bool:
        """Whether an object is selected; `get(field)` gives the value of one of its fields."""
        return all((get(field) == value) == (operator == "=") for field, operator, value in self.requirements)

    def exact(self, field: str) -> str | None:
        """The value that the selector asks this field to have, if it does."""
        return next((v for f, operator, v in self.requirements if f == field and operator == "="), None)

    def __bool__(self) -> bool:
        return bool(self.requirements)

    def __str__(self) -> str:
        return ",".join(f"{field}{operator}{_escape(value)}" for field, operator, value in self.requirements)


EVERYTHING = FieldSelector()


def parse(text: str) -> FieldSelector:
    """Read a selector.

    Raises:
        ValueError: with upstream's message.
    """
    requirements = []
    for term in sorted(_split(text)):
        if not term:
            continue
        found = min(((term.find(o), i, o) for i, o in enumerate(_OPERATORS) if o in term), default=None)
        if found is None:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{term}'")
        at, _, operator = found
        field, value = term[:at], _unescape(term[at + len(operator) :])
        if field or value:  # upstream takes a lone "=" for everything
            requirements.append((field, "!=" if operator == "!=" else "=", value))
    return FieldSelector(tuple(requirements))


def _split(text: str) -> list[str]:
    """The terms between commas that no backslash escapes."""
    if "\\" not in text:
        return text.split(",")
    terms, start, escaped = [], 0, False
    for i, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ",":
            terms.append(text[start:i])
            start = i + 1
    return [*terms, text[start:]]


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def _unescape(value: str) -> str:
    out, escaped = [], False
    for char in value:
        if escaped:
            if char not in "\\,=":
                raise ValueError(f"invalid field selector: invalid escape sequence: \\{char}")
            out.append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in ",=":
            raise ValueError(f"invalid field selector: unescaped character in value: {ord(char)}")
        else:
            out.append(char)
    if escaped:
        raise ValueError("invalid field selector: invalid escape sequence: \\")
    return "".join(out)
