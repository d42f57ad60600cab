"""CEL expressions inside objects: whether they compile, name what there is, and yield what they must.

Source: k8s.io/apiserver/pkg/admission/plugin/cel/compile.go.
"""

from __future__ import annotations

import re

from controlplane.apiserver.admission.expressions import Expressions
from machinery.api.fielderror import FieldError, invalid
from machinery.cel.errors import CompileError
from machinery.cel.lexer import RESERVED

_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")


def identifier(name: str) -> bool:
    """Whether CEL takes this for the name of a variable."""
    return _IDENTIFIER.fullmatch(name) is not None and name not in RESERVED | {"in", "true", "false", "null"}


def wrong_expression(field: str, text: str, expressions: Expressions, *yields: str) -> list[FieldError]:
    """What is wrong with one of these expressions, which must yield one of some types (none: any)."""
    try:
        found = expressions.program(text).result
    except CompileError as exc:
        return [invalid(field, text, str(exc))]
    if not yields or found.sort in yields:
        return []
    told = f"{yields[0]} but got {found}" if len(yields) == 1 else f"one of [{' '.join(yields)}]"
    return [invalid(field, text, f"must evaluate to {told}")]
