"""Compiling: text → parsed → checked → priced → a program that can be run.

Source: k8s.io/apiserver/pkg/cel/environment (what a Kubernetes version's expressions may call).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from machinery.cel import cost, evaluation
from machinery.cel.checker import Checked, check, check_patterns
from machinery.cel.closures import BUDGET, Closure
from machinery.cel.declarations import Functions, Scope
from machinery.cel.errors import EvaluationError
from machinery.cel.library import authorization, collections, kubernetes, network, standard, strings
from machinery.cel.parser import parse
from machinery.cel.types import Type

PER_CALL_BUDGET: Final = 1_000_000
"""What one evaluation may cost. Source: k8s.io/apiserver/pkg/apis/cel, PerCallLimit."""


@cache
def kubernetes_functions() -> Functions:
    """All that expressions of Kubernetes may call."""
    return Functions(
        standard.FUNCTIONS,
        strings.FUNCTIONS,
        collections.FUNCTIONS,
        network.FUNCTIONS,
        kubernetes.FUNCTIONS,
        authorization.FUNCTIONS,
    )


@dataclass(frozen=True)
class Program:
    """A compiled expression."""

    text: str
    checked: Checked
    scope: Scope
    run: Closure

    @property
    def result(self) -> Type:
        """The type of what it yields."""
        return self.checked.result

    @property
    def variables(self) -> set[str]:
        """The declared variables it refers to."""
        return self.checked.variables

    def evaluate(self, variables: Mapping[str, Any], budget: list[int] | None = None) -> Any:
        """Its value; `budget` is counted down (see BUDGET). Raises EvaluationError."""
        env = dict(variables)
        env[BUDGET] = [PER_CALL_BUDGET] if budget is None else budget
        try:
            return self.run(env)
        except RecursionError:
            raise EvaluationError("expression nested too deep to be evaluated") from None
        except (TypeError, AttributeError, ValueError, OverflowError) as exc:
            # a value is not of the type that the schema declares: objects stored long ago may not fit it any more
            raise EvaluationError("no such overload") from exc

    def cost(self) -> cost.Range:
        """The least and the most that it can cost."""
        return cost.estimate(self.checked, self.scope)


def compile_program(text: str, scope: Scope) -> Program:
    """Compile. Raises CompileError."""
    checked = check(parse(text), text, scope, kubernetes_functions())
    check_patterns(checked.root)
    return Program(text, checked, scope, evaluation.compiled(checked, scope))
