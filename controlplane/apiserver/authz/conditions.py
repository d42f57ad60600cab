"""CEL that says which requests a webhook is asked about.

Source: KEP-3221; k8s.io/apiserver/pkg/authorization/cel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from machinery.api.meta import Object
from machinery.cel import types
from machinery.cel.declarations import Declared, Field, Scope, objects_in
from machinery.cel.environment import Program, compile_program
from machinery.cel.errors import CompileError, EvaluationError
from machinery.cel.types import Type


def _object(name: str, /, **fields: Declared) -> Declared:
    return Declared(Type("object", f"kubernetes.{name}"), fields={key: Field(key, d) for key, d in fields.items()})


def _texts(*words: str) -> dict[str, Declared]:
    return {word: Declared(types.STRING) for word in words}


def _request() -> Declared:
    list_of_texts = types.list_of(types.STRING)
    requirement = _object("SelectorRequirement", **_texts("key", "operator"), values=Declared(list_of_texts))
    requirements = Declared(types.list_of(requirement.type), element=requirement)
    selector = {"rawSelector": Declared(types.STRING), "requirements": requirements}
    return _object(
        "SubjectAccessReviewSpec",
        resourceAttributes=_object(
            "ResourceAttributes",
            **_texts("namespace", "verb", "group", "version", "resource", "subresource", "name"),
            fieldSelector=_object("FieldSelectorAttributes", **selector),
            labelSelector=_object("LabelSelectorAttributes", **selector),
        ),
        nonResourceAttributes=_object("NonResourceAttributes", **_texts("path", "verb")),
        **_texts("user", "uid"),
        groups=Declared(list_of_texts),
        extra=Declared(types.map_of(types.STRING, list_of_texts)),
    )


_REQUEST: Final = _request()
_SCOPE: Final = Scope({"request": _REQUEST}, objects_in([_REQUEST]))
_ATTRIBUTES: Final = ("namespace", "verb", "group", "version", "resource", "subresource", "name")


@dataclass(frozen=True, slots=True)
class Conditions:
    """All must hold for the webhook to be asked."""

    programs: tuple[Program, ...]

    @staticmethod
    def of(expressions: Iterable[str]) -> Conditions:
        """Compile them. Raises CompileError."""
        programs = []
        for text in expressions:
            program = compile_program(text, _SCOPE)
            if program.result not in (types.BOOL, types.DYN):
                raise CompileError("must evaluate to bool")
            programs.append(program)
        return Conditions(tuple(programs))

    def match(self, spec: Object) -> bool:
        """Whether all hold of a SubjectAccessReview's spec.

        Raises EvaluationError if one can't be evaluated and none is false.
        """
        failure: EvaluationError | None = None
        shown = _complete(spec)
        for program in self.programs:
            try:
                if program.evaluate({"request": shown}) is not True:
                    return False
            except EvaluationError as exc:
                failure = failure or exc
        if failure is not None:
            raise failure
        return True


ALL: Final = Conditions(())
"""Asked about everything."""


def _complete(spec: Object) -> Object:
    """The spec with the empty values that CEL is to see."""
    shown: Object = {"user": "", "uid": "", "groups": [], "extra": {}, **spec}
    if "resourceAttributes" in spec:
        shown["resourceAttributes"] = {**dict.fromkeys(_ATTRIBUTES, ""), **spec["resourceAttributes"]}
    return shown
