"""What can go wrong with an expression."""

from __future__ import annotations

from machinery.errors import NavarchError


class CelError(NavarchError):
    """Any of these; the message is what cel-go says."""


class CompileError(CelError):
    """The expression can't be parsed, or its types don't fit."""


class EvaluationError(CelError):
    """The expression has no value for these variables."""


class BudgetExceeded(EvaluationError):
    """It cost more than it may."""
