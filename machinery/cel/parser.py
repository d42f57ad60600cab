"""From tokens to nodes, macros expanded.

Source: cel-spec, langdef.md "Syntax"; cel-go's parser (where nodes point to, messages).
"""

from __future__ import annotations

from typing import Any, Final

from machinery.cel import macros
from machinery.cel.ast import Call, Entry, Ident, ListNode, Literal, MapNode, Node, Problems, Select, StructNode
from machinery.cel.errors import CompileError
from machinery.cel.lexer import RESERVED, Token, tokens
from machinery.cel.values import UInt

_RELATIONS: Final = {
    "==": "_==_", "!=": "_!=_", "<": "_<_", "<=": "_<=_", ">": "_>_", ">=": "_>=_", "in": "@in",
}  # fmt: skip
_LEVELS: Final[tuple[dict[str, str], ...]] = (
    _RELATIONS,
    {"+": "_+_", "-": "_-_"},
    {"*": "_*_", "/": "_/_", "%": "_%_"},
)
_STARTS: Final = (
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
)
_LONGEST: Final = 100_000  # code points. Source: cel-go, ExpressionSizeCodePointLimit
_DEEPEST: Final = 100
"""Brackets inside brackets. Upstream allows 250 rules of its grammar, which is fewer brackets than this."""


def parse(text: str) -> Node:
    """The expression. Raises CompileError with what cel-go says."""
    problems = Problems(text)
    if len(text) > _LONGEST:
        raise CompileError(
            f"ERROR: <input>:-1:0: expression code point size exceeds limit: size: {len(text)}, limit {_LONGEST}"
        )
    found = tokens(text, problems)
    if problems.found:
        raise CompileError(str(problems))
    parser = _Parser(found, problems)
    try:
        node = parser.expression()
        parser.expect("end", "<EOF>")
    except _Stop:
        raise CompileError(str(problems)) from None
    except RecursionError:
        raise CompileError("ERROR: <input>:-1:0: expression recursion limit exceeded: 250") from None
    if problems.found:
        raise CompileError(str(problems))
    return node


class _Stop(Exception):
    """Nothing sensible can be read after this."""


class _Parser:
    def __init__(self, found: list[Token], problems: Problems) -> None:
        self._tokens = found
        self._at = 0
        self._depth = 0
        self._problems = problems

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _accept(self, kind: str) -> Token | None:
        return self._take() if self._token.kind == kind else None

    def expect(self, kind: str, told: str = "") -> Token:
        """The next token, if it is of this kind."""
        if self._token.kind != kind:
            self._unexpected(told or f"'{kind}'")
        return self._take()

    def _unexpected(self, wanted: str) -> None:
        token = self._token
        self._problems.add(token.position, f"Syntax error: mismatched input '{token.text}' expecting {wanted}")
        raise _Stop

    def expression(self) -> Node:
        """A whole expression: conditionals bind the least."""
        self._depth += 1
        if self._depth > _DEEPEST:
            self._problems.add(0, "expression recursion limit exceeded: 250")
            raise _Stop
        node = self._logical("||", "_||_")
        if mark := self._accept("?"):
            then = self._logical("||", "_||_")
            self.expect(":")
            node = Call(mark.position, "_?_:_", None, [node, then, self.expression()])
        self._depth -= 1
        return node

    def _logical(self, sign: str, function: str) -> Node:
        def term() -> Node:
            return self._logical("&&", "_&&_") if sign == "||" else self._binary(0)

        terms, marks = [term()], []
        while mark := self._accept(sign):
            marks.append(mark.position)
            terms.append(term())
        return _balanced(function, terms, marks)

    def _binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        node = self._binary(level + 1)
        while function := _LEVELS[level].get(self._token.kind):
            mark = self._take()
            node = Call(mark.position, function, None, [node, self._binary(level + 1)])
        return node

    def _unary(self) -> Node:
        sign = self._token
        if sign.kind not in ("!", "-"):
            return self._member()
        count = 0
        while self._token.kind == sign.kind:
            self._take()
            count += 1
        following = self._token
        if sign.kind == "-" and count == 1 and _is_number(following):
            self._take()
            return self._suffixes(Literal(sign.position, -following.value))
        node = self._member()
        return Call(sign.position, f"{sign.kind}_", None, [node]) if count % 2 else node

    def _member(self) -> Node:
        return self._suffixes(self._primary())

    def _suffixes(self, node: Node) -> Node:
        while True:
            if mark := self._accept("."):
                node = self._selected(node, mark)
            elif mark := self._accept("["):
                optional = self._accept("?") is not None
                index = self.expression()
                self.expect("]")
                node = Call(mark.position, "_[?_]" if optional else "_[_]", None, [node, index])
            else:
                return node

    def _selected(self, node: Node, mark: Token) -> Node:
        optional = self._accept("?") is not None
        if not optional and self._token.kind != "name":  # a field or a method: ANTLR could not tell which
            seen = "" if self._token.text == "<EOF>" else self._token.text
            self._problems.add(self._token.position, f"Syntax error: no viable alternative at input '.{seen}'")
            raise _Stop
        name = self.expect("name", "IDENTIFIER")
        if not optional and (opened := self._accept("(")):
            args = self._arguments(")")
            return self._call(opened.position, name.text, node, args)
        field = name.text.strip("`")
        if optional:
            return Call(mark.position, "_?._", None, [node, Literal(name.position, field)])
        return Select(mark.position, node, field)

    def _call(self, position: int, name: str, target: Node | None, args: list[Node]) -> Node:
        expanded = macros.expand(position, name, target, args, self._problems)
        return expanded if expanded is not None else Call(position, name, target, args)

    def _arguments(self, closing: str) -> list[Node]:
        args: list[Node] = []
        if self._accept(closing):
            return args
        while True:
            args.append(self.expression())
            if not self._accept(","):
                self.expect(closing)
                return args

    def _primary(self) -> Node:
        token = self._take()
        if token.kind == "value":
            if token.value.__class__ is int and token.value > 2**63 - 1:
                self._problems.add(token.position, "invalid int literal")
            return Literal(token.position, token.value)
        if token.kind == "(":
            node = self.expression()
            self.expect(")")
            return node
        if token.kind == "[":
            return self._list(token)
        if token.kind == "{":
            return MapNode(token.position, self._entries(named=False))
        if token.kind == ".":
            name = self.expect("name", "IDENTIFIER")
            return self._named(name, f".{name.text}")
        if token.kind == "name":
            return self._named(token, token.text)
        self._at -= 1
        self._unexpected(_STARTS)
        raise _Stop

    def _named(self, token: Token, name: str) -> Node:
        if token.text in RESERVED:
            self._problems.add(token.position, f"reserved identifier: {token.text}")
        if opened := self._accept("("):
            return self._call(opened.position, name, None, self._arguments(")"))
        if struct := self._struct(name):
            return struct
        return Ident(token.position, name)

    def _struct(self, name: str) -> Node | None:
        """An object literal: a qualified name before a brace."""
        ahead = self._at
        while self._tokens[ahead].kind == "." and self._tokens[ahead + 1].kind == "name":
            ahead += 2
        if self._tokens[ahead].kind != "{":
            return None
        whole = name + "".join(token.text for token in self._tokens[self._at : ahead])
        self._at = ahead
        opened = self._take()
        return StructNode(opened.position, whole, self._entries(named=True))

    def _list(self, opened: Token) -> Node:
        elements: list[Node] = []
        optional: set[int] = set()
        while not self._accept("]"):
            if self._accept("?"):
                optional.add(len(elements))
            elements.append(self.expression())
            if not self._accept(","):
                self.expect("]")
                break
        return ListNode(opened.position, elements, frozenset(optional))

    def _entries(self, *, named: bool) -> list[Entry]:
        entries: list[Entry] = []
        while not self._accept("}"):
            optional = self._accept("?") is not None
            key: Node | str
            key = self.expect("name", "IDENTIFIER").text.strip("`") if named else self.expression()
            colon = self.expect(":")
            entries.append(Entry(key, self.expression(), optional, colon.position))
            if not self._accept(","):
                self.expect("}")
                break
        return entries


def _is_number(token: Token) -> bool:
    value: Any = token.value
    return token.kind == "value" and isinstance(value, int | float) and not isinstance(value, bool | UInt)


def _balanced(function: str, terms: list[Node], marks: list[int]) -> Node:
    if len(terms) == 1:
        return terms[0]
    middle = (len(terms) - 1) // 2 + (len(terms) - 1) % 2
    left = _balanced(function, terms[:middle], marks[: middle - 1])
    right = _balanced(function, terms[middle:], marks[middle:])
    return Call(marks[middle - 1], function, None, [left, right])
