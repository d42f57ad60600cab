"""Operators as closures: && and || that hold errors back, conditionals, and the rest.

Source: cel-spec, langdef.md "Logical Operators"; cel-go interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from machinery.cel import operators
from machinery.cel.errors import BudgetExceeded, EvaluationError
from machinery.cel.values import equal

Env = dict[str, Any]
Closure = Callable[[Env], Any]
BUDGET: Final = "@budget"
"""The variable that holds what an evaluation may still cost: a list of one number, counted down."""


def _and_or(decides: bool) -> Callable[[list[Closure]], Closure]:
    """&& is decided by false, || by true, whichever side it is on."""

    def make(args: list[Closure]) -> Closure:
        left, right = args

        def logic(env: Env) -> Any:
            held: EvaluationError | None = None
            try:
                one = left(env)
                if one is decides:
                    return decides
                if one is not (not decides):
                    held = EvaluationError("no such overload")
            except BudgetExceeded:
                raise
            except EvaluationError as exc:
                held = exc
            other = right(env) if held is None else _or_held(right, env, held)
            if other is decides:
                return decides
            if held is not None:
                raise held
            if other is (not decides):
                return other
            raise EvaluationError("no such overload")

        return logic

    return make


def _or_held(right: Closure, env: Env, held: EvaluationError) -> Any:
    try:
        return right(env)
    except BudgetExceeded:
        raise
    except EvaluationError:
        raise held from None


def _conditional(args: list[Closure]) -> Closure:
    condition, then, otherwise = args

    def choose(env: Env) -> Any:
        chosen = condition(env)
        if chosen is True:
            return then(env)
        if chosen is False:
            return otherwise(env)
        raise EvaluationError("no such overload")

    return choose


def _two(function: Callable[[Any, Any], Any]) -> Callable[[list[Closure]], Closure]:
    def make(args: list[Closure]) -> Closure:
        left, right = args
        return lambda env: function(left(env), right(env))

    return make


def _one(function: Callable[[Any], Any]) -> Callable[[list[Closure]], Closure]:
    def make(args: list[Closure]) -> Closure:
        only = args[0]
        return lambda env: function(only(env))

    return make


def _plus(args: list[Closure]) -> Closure:
    left, right = args

    def plus(env: Env) -> Any:
        made = operators.add(left(env), right(env))
        if isinstance(made, str | bytes | list):
            env[BUDGET][0] -= len(made) // 10
            if env[BUDGET][0] < 0:
                raise BudgetExceeded("operation cancelled: actual cost limit exceeded")
        return made

    return plus


OPERATORS: Final[dict[str, Callable[[list[Closure]], Closure]]] = {
    "_&&_": _and_or(False),
    "_||_": _and_or(True),
    "_?_:_": _conditional,
    "!_": _one(operators.invert),
    "-_": _one(operators.negate),
    "_+_": _plus,
    "_-_": _two(operators.subtract),
    "_*_": _two(operators.multiply),
    "_/_": _two(operators.divide),
    "_%_": _two(operators.modulo),
    "_==_": _two(equal),
    "_!=_": _two(lambda a, b: not equal(a, b)),
    "_<_": _two(lambda a, b: operators.compare(a, b) < 0),
    "_<=_": _two(lambda a, b: operators.compare(a, b) <= 0),
    "_>_": _two(lambda a, b: operators.compare(a, b) == 1),
    "_>=_": _two(lambda a, b: operators.compare(a, b) in (0, 1)),
    "@in": _two(operators.contains),
    "_[_]": _two(operators.index),
    "_[?_]": _two(operators.index_optional),
    "@not_strictly_false": _one(lambda value: value is not False),
}
