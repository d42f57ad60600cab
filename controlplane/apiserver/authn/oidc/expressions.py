"""CEL over a token's claims, and over the user made of them.

Source: k8s.io/apiserver/pkg/authentication/cel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from machinery.cel import types
from machinery.cel.ast import Call, Ident, Literal, Node, Select
from machinery.cel.declarations import Declared, Field, Scope, objects_in
from machinery.cel.environment import Program, compile_program
from machinery.cel.errors import CompileError
from machinery.cel.parser import parse
from machinery.cel.types import Type

_TEXTS = types.list_of(types.STRING)


def _scope(name: str, declared: Declared) -> Scope:
    return Scope({name: declared}, objects_in([declared]))


CLAIMS = _scope("claims", Declared(types.map_of(types.STRING, types.DYN)))
USER = _scope(
    "user",
    Declared(
        Type("object", "kubernetes.UserInfo"),
        fields={
            "username": Field("username", Declared(types.STRING)),
            "uid": Field("uid", Declared(types.STRING)),
            "groups": Field("groups", Declared(_TEXTS)),
            "extra": Field("extra", Declared(types.map_of(types.STRING, _TEXTS))),
        },
    ),
)


def compiled(text: str, scope: Scope, *, boolean: bool = False) -> Program:
    """Compile an expression; `boolean`: it must be one. Raises CompileError."""
    program = compile_program(text, scope)
    if boolean and program.result not in (types.BOOL, types.DYN):
        raise CompileError("must evaluate to bool")
    return program


def names_claim(text: str, claim: str) -> bool:
    """Whether an expression that compiles looks at `claims.<claim>`."""
    return any(_is_claim(node, claim) for node in _nodes(parse(text)))


def _is_claim(node: Node, claim: str) -> bool:
    if isinstance(node, Select):
        return node.field == claim and isinstance(node.operand, Ident) and node.operand.name == "claims"
    if isinstance(node, Call) and node.function == "_?._" and len(node.args) == 2:  # claims.?email
        first, second = node.args
        return (
            isinstance(first, Ident)
            and first.name == "claims"
            and isinstance(second, Literal)
            and second.value == claim
        )
    return False


def _nodes(part: Any) -> Iterator[Node]:
    """All parts of an expression."""
    if isinstance(part, list | tuple):
        for each in part:
            yield from _nodes(each)
    elif is_dataclass(part):
        if isinstance(part, Node):
            yield part
        for each in fields(part):
            yield from _nodes(getattr(part, each.name))
