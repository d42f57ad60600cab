"""From text to tokens.

Source: cel-spec, langdef.md "Lexis"; cel-go's messages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from machinery.cel.ast import Problems
from machinery.cel.errors import CompileError
from machinery.cel.values import UInt

_SKIP: Final = re.compile(r"(?:[ \t\r\n\f]+|//[^\n]*)+")
_STRING: Final = re.compile(
    r"""(?P<prefix>[rRbB]{0,2})(?P<quoted>'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"|'(?:[^'\\\n\r]|\\.)*'"""
    r"""|"(?:[^"\\\n\r]|\\.)*")""",
    re.DOTALL,
)
_RAW: Final = re.compile(
    r"""(?P<prefix>[bB]?[rR][bB]?)(?P<quoted>'''.*?'''|\"\"\".*?\"\"\"|'[^'\n\r]*'|"[^"\n\r]*")""", re.DOTALL
)
_NUMBER: Final = re.compile(
    r"0x[0-9a-fA-F]+[uU]?|\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?|\d+[uU]?"
)
_NAME: Final = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*|`[a-zA-Z0-9_.\-/ ]+`")
_SIGNS: Final = re.compile(r"==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{}]")
_ESCAPE: Final = re.compile(
    r"\\(?:(?P<one>[abfnrtv\\'\"`?])|x(?P<hex>[0-9a-fA-F]{2})|X(?P<hex2>[0-9a-fA-F]{2})|u(?P<u4>[0-9a-fA-F]{4})"
    r"|U(?P<u8>[0-9a-fA-F]{8})|(?P<oct>[0-3][0-7]{2})|(?P<bad>.))",
    re.DOTALL,
)
_ONE: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
RESERVED: Final = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is the sign itself, or name, value, end."""

    kind: str
    text: str
    position: int
    value: Any = None


def tokens(text: str, problems: Problems) -> list[Token]:
    """All tokens, the last of kind `end`. What can't be read is noted and left out."""
    made: list[Token] = []
    at = 0
    while True:
        if skipped := _SKIP.match(text, at):
            at = skipped.end()
        if at >= len(text):
            made.append(Token("end", "<EOF>", at))
            return made
        token, at = _next(text, at, problems)
        if token is not None:
            made.append(token)


def _next(text: str, at: int, problems: Problems) -> tuple[Token | None, int]:
    if (found := _RAW.match(text, at)) or (found := _STRING.match(text, at)):
        try:
            value = _string(found["prefix"].lower(), found["quoted"])
        except (ValueError, CompileError) as exc:
            problems.add(at, f"{exc}")
            value = ""
        return Token("value", found[0], at, value), found.end()
    if found := _NUMBER.match(text, at):
        return _number(found[0], at, problems), found.end()
    if found := _NAME.match(text, at):
        word = found[0]
        constants = {"true": True, "false": False, "null": None}
        if word in constants:
            return Token("value", word, at, constants[word]), found.end()
        if word == "in":
            return Token("in", word, at), found.end()
        return Token("name", word, at), found.end()
    if found := _SIGNS.match(text, at):
        return Token(found[0], found[0], at), found.end()
    problems.add(at, f"Syntax error: token recognition error at: '{text[at]}'")
    return None, at + 1


def _number(word: str, at: int, problems: Problems) -> Token:
    unsigned = word[-1] in "uU"
    digits = word.rstrip("uU")
    try:
        if digits[:2] != "0x" and any(c in digits for c in ".eE"):
            return Token("value", word, at, float(digits))
        number = int(digits, 16) if digits[:2] == "0x" else int(digits)
    except ValueError:  # longer than Python reads
        number = 2**70
    if unsigned:
        if number >= 2**64:
            problems.add(at, "invalid uint literal")
        return Token("value", word, at, UInt(min(number, 2**64 - 1)))
    if number > 2**63:  # 2**63 itself may stand behind a minus; the parser looks
        problems.add(at, "invalid int literal")
        number = 0
    return Token("value", word, at, number)


def _string(prefix: str, quoted: str) -> str | bytes:
    triple = quoted[:3] in ("'''", '"""') and len(quoted) >= 6
    body = quoted[3:-3] if triple else quoted[1:-1]
    if "b" in prefix:
        return body.encode() if "r" in prefix else _bytes(body)
    return body if "r" in prefix else _ESCAPE.sub(_unescape, body)


def _unescape(found: re.Match[str]) -> str:
    if found["one"]:
        return _ONE.get(found["one"], found["one"])
    if found["bad"]:
        raise CompileError(f"Syntax error: token recognition error at: '{found[0]}'")
    digits = found["hex"] or found["hex2"] or found["u4"] or found["u8"]
    code = int(digits, 16) if digits else int(found["oct"], 8)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise CompileError("invalid unicode code point")
    return chr(code)


def _bytes(body: str) -> bytes:
    made = bytearray()
    at = 0
    while at < len(body):
        if found := _ESCAPE.match(body, at):
            digits = found["hex"] or found["hex2"]
            if digits or found["oct"]:
                made.append(int(digits, 16) if digits else int(found["oct"], 8))
            else:
                made += _unescape(found).encode()
            at = found.end()
        else:
            made += body[at].encode()
            at += 1
    return bytes(made)
