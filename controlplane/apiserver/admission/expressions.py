"""CEL expressions of admission: compiled once, evaluated over an operation, with upstream's words for what goes wrong.

Source: k8s.io/apiserver/pkg/admission/plugin/cel; cel-spec.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from machinery.errors import NavarchError

Functions = Mapping[str, Callable[..., Any]]

_UNDEFINED = re.compile(r"Undefined variable or function: '([^']*)'")
_STRUCT = re.compile(r"\b(?:Object(?:\.[A-Za-z_]\w*)*|JSONPatch)\s*\{")
_FIELD = re.compile(r"\s*(\??)([A-Za-z_]\w*)\s*:")
_STRING = re.compile(
    r"""(?:[rRbB]{0,2})(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")""", re.DOTALL
)
_LONGEST = 64 * 1024


class ExpressionError(NavarchError):
    """An expression can't be compiled, or its evaluation failed; the message is what upstream would say."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression."""

    text: str
    program: Any
    names: frozenset[str]
    """The variables it refers to."""

    def evaluate(self, variables: Mapping[str, Any], functions: Functions | None = None) -> Any:
        """Its value. Raises ExpressionError."""
        import cel  # see compile_expression

        used = {name: variables[name] for name in self.names if name in variables}
        try:
            return self.program.execute(cel.Context(used, dict(functions or {})))
        except ExpressionError:
            raise
        except KeyError as exc:
            raise ExpressionError(f"no such key: {exc.args[0] if exc.args else ''}") from exc
        except ZeroDivisionError as exc:
            raise ExpressionError("division by zero") from exc
        except IndexError as exc:
            raise ExpressionError(str(exc)) from exc
        except TypeError as exc:
            raise ExpressionError("no such overload") from exc
        except (RuntimeError, ValueError, OverflowError, RecursionError) as exc:
            undefined = _UNDEFINED.search(str(exc))
            if undefined:
                raise ExpressionError(f"undeclared reference to '{undefined.group(1)}' (in container '')") from exc
            raise ExpressionError(str(exc)) from exc


@lru_cache(maxsize=2048)
def compile_expression(text: str) -> Expression:
    """Compile. Raises ExpressionError."""
    if len(text) > _LONGEST:
        raise ExpressionError("compilation failed: the expression is too long")
    import cel  # here, as it brings a command-line toolkit along: a tenth of a second that most servers never need

    try:
        program = cel.compile(as_maps(text))
    except (ValueError, RuntimeError, TypeError, RecursionError) as exc:
        raise ExpressionError(f"compilation failed: {exc}") from exc
    return Expression(text, program, frozenset(program.variables()))


def as_maps(text: str) -> str:
    """Object literals (`Object{spec: Object.spec{replicas: 1}}`, `JSONPatch{…}`) as the maps they stand for."""
    if "Object" not in text and "JSONPatch" not in text:
        return text
    made: list[str] = []
    at = 0
    while at < len(text):
        string = _STRING.match(text, at)
        if string:
            made.append(string.group())
            at = string.end()
            continue
        struct = _STRUCT.match(text, at) if at == 0 or not (text[at - 1].isalnum() or text[at - 1] in "_.") else None
        if struct is None:
            made.append(text[at])
            at += 1
            continue
        end = _closing(text, struct.end())
        made.append("{" + ", ".join(_entry(entry) for entry in _entries(text[struct.end() : end])) + "}")
        at = end + 1
    return "".join(made)


def _entry(entry: str) -> str:
    field = _FIELD.match(entry)
    if field is None:
        raise ExpressionError(f"compilation failed: not a field of an object literal: {entry.strip()!r}")
    if field.group(1):
        raise ExpressionError("compilation failed: optional fields of object literals are not supported")
    return f'"{field.group(2)}":{as_maps(entry[field.end() :])}'


def _closing(text: str, start: int) -> int:
    """Where the brace that is open at `start` closes."""
    depth, at = 1, start
    while at < len(text):
        string = _STRING.match(text, at)
        if string:
            at = string.end()
            continue
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            return at
        at += 1
    raise ExpressionError("compilation failed: missing '}'")


def _entries(text: str) -> list[str]:
    """What commas outside of brackets and strings separate."""
    entries, depth, start, at = [], 0, 0, 0
    while at < len(text):
        string = _STRING.match(text, at)
        if string:
            at = string.end()
            continue
        depth += {"{": 1, "[": 1, "(": 1, "}": -1, "]": -1, ")": -1}.get(text[at], 0)
        if text[at] == "," and not depth:
            entries.append(text[start:at])
            start = at + 1
        at += 1
    entries.append(text[start:])
    return [entry for entry in entries if entry.strip()]
