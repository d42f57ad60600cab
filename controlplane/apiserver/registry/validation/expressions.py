"""CEL expressions inside objects: whether they compile, name what there is, and yield what they must.

Types are known only for expressions without variables; others are taken to fit.

Source: k8s.io/apiserver/pkg/admission/plugin/cel/compile.go; cel-go's error format.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from controlplane.apiserver.admission.expressions import ExpressionError, compile_expression
from machinery.api.fielderror import FieldError, invalid

WEBHOOK_VARIABLES = frozenset(("object", "oldObject", "request", "authorizer"))
POLICY_VARIABLES = WEBHOOK_VARIABLES | {"params", "namespaceObject", "variables"}

_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_RESERVED = frozenset(
    (
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "return",
        "true",
        "var",
        "void",
        "while",
    )
)
# Macros bring in variables of their own.
_MACRO = re.compile(
    r"\.(?:all|exists|exists_one|existsOne|map|filter|bind|sortBy|optMap|optFlatMap|transform\w+)\(\s*(\w+)\s*"
    r"(?:,\s*(\w+)\s*,)?"
)
_BUILT_IN = frozenset(
    ("bool", "bytes", "cel", "double", "int", "list", "map", "null_type", "optional", "string", "type", "uint")
)
_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (int, "int"),
    (float, "double"),
    (str, "string"),
    (bytes, "bytes"),
    (list, "list"),
    (dict, "map"),
)


def identifier(name: str) -> bool:
    """Whether CEL takes this for the name of a variable."""
    return _IDENTIFIER.fullmatch(name) is not None and name not in _RESERVED


def wrong_expression(field: str, text: str, variables: frozenset[str], yields: str) -> list[FieldError]:
    """What is wrong with an expression over these variables that must yield a type ("" for any)."""
    wrong = _compile_error(text, variables) or _type_error(text, yields)
    return [invalid(field, text, wrong)] if wrong else []


@lru_cache(maxsize=2048)
def _compile_error(text: str, variables: frozenset[str]) -> str:
    try:
        expression = compile_expression(text)
    except ExpressionError as exc:
        told = re.sub(r"Failed to parse expression .*?: (?=ERROR: )", "", str(exc), count=1, flags=re.DOTALL)
        return told.replace("\n|", "\n |")
    bound = {name for match in _MACRO.finditer(text) for name in match.groups() if name}
    unknown = [_undeclared(text, name) for name in expression.names - variables - bound - _BUILT_IN]
    return "compilation failed: " + "\n".join(told for _, told in sorted(unknown)) if unknown else ""


def _undeclared(text: str, name: str) -> tuple[int, str]:
    """Where a name that stands for nothing is first used, and cel-go's words for it."""
    found = re.search(rf"(?<![\w.]){re.escape(name)}\b", text)
    position = found.start() if found else 0
    line_start = text.rfind("\n", 0, position) + 1
    line, column = text.count("\n", 0, position) + 1, position - line_start
    shown = text[line_start:].partition("\n")[0]
    told = f"ERROR: <input>:{line}:{column + 1}: undeclared reference to '{name}' (in container '')"
    return position, f"{told}\n | {shown}\n | {'.' * column}^"


def _type_error(text: str, yields: str) -> str:
    if not yields:
        return ""
    try:
        expression = compile_expression(text)
        if expression.names:
            return ""
        value = expression.evaluate({})
    except ExpressionError:
        return ""
    found = _type_of(value)
    if not found or found in yields.split(" or "):
        return ""
    return f"must evaluate to {yields} but got {found}"


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "")
