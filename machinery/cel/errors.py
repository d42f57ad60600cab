"""What can go wrong with an expression."""

from __future__ import annotations

from typing import ClassVar

from machinery.errors import NavarchError


class CelError(NavarchError):
    """Any of these; the message is what cel-go says."""


class CompileError(CelError):
    """The expression can't be parsed, or its types don't fit."""

    title: ClassVar[str] = "compilation failed"
    """What upstream writes before the message."""


class InstantiationError(CompileError):
    """The expression fits, and can't be run: a pattern in it can't be read."""

    title: ClassVar[str] = "program instantiation failed"


class EvaluationError(CelError):
    """The expression has no value for these variables."""


class BudgetExceeded(EvaluationError):
    """It cost more than it may."""
