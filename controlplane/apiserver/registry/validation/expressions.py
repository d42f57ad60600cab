"""CEL expressions inside objects: whether they compile, name what there is, and yield what they must.

Source: k8s.io/apiserver/pkg/admission/plugin/cel/compile.go.
"""

from __future__ import annotations

import re
from typing import Final

from controlplane.apiserver.admission.expressions import Expressions, compile_in
from machinery.api.fielderror import FieldError, invalid
from machinery.cel import devices
from machinery.cel.errors import CompileError
from machinery.cel.lexer import RESERVED
from machinery.cel.types import Type

_DECLARED: Final = {
    "null": "null_type", "timestamp": "google.protobuf.Timestamp", "duration": "google.protobuf.Duration"
}  # fmt: skip
"""Types whose declared names differ from what the checker calls them."""
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")


def identifier(name: str) -> bool:
    """Whether CEL takes this for the name of a variable."""
    return _IDENTIFIER.fullmatch(name) is not None and name not in RESERVED | {"in", "true", "false", "null"}


def wrong_expression(
    field: str, text: str, expressions: Expressions, *yields: str, shown: str | None = None
) -> list[FieldError]:
    """What is wrong with one of these expressions, which must yield one of some types (none: any).

    `shown` is what the error shows, if not the text.
    """
    shown = text if shown is None else shown
    try:
        found = expressions.program(text).result
    except CompileError as exc:
        return [invalid(field, shown, str(exc))]
    if not yields or str(found) in yields:
        return []
    told = (
        f"{yields[0]} but got {declared(found)}"
        if len(yields) == 1
        else f"one of [{' '.join(_DECLARED.get(kind, kind) for kind in yields)}]"
    )
    return [invalid(field, shown, f"must evaluate to {told}")]


def declared(kind: Type) -> str:
    """A type by its declared name."""
    if not kind.params:
        return _DECLARED.get(str(kind), str(kind))
    return f"{kind.name or kind.sort}({', '.join(map(declared, kind.params))})"


def wrong_selector(field: str, text: str) -> list[FieldError]:
    """What is wrong with an expression that chooses devices."""
    try:
        found = compile_in(text, devices.SCOPE).result
    except CompileError as exc:
        return [invalid(field, text, str(exc))]
    told = f"must evaluate to bool or the unknown type, not {declared(found)}"
    return [] if devices.chooses(found) else [invalid(field, text, told)]
