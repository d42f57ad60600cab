"""JSON as Go reads it: exact integers, duplicate keys noticed, bounded depth, Go's words for what is wrong.

The fast path is orjson.  What orjson refuses and Go accepts (unpaired surrogates, invalid UTF-8: both become U+FFFD)
and what orjson would bend (integers beyond 64 bits become floats) takes the slow path.

Source: Go's encoding/json (scanner.go), sigs.k8s.io/json.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

MAX_DEPTH: Final = 250
"""Structures nested deeper are refused. Go's own bound is 10,000; no object comes near either."""

_DEPTH: Final = "exceeded max depth"

_MOST_DIGITS = 308  # of a number that a float can hold
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SPACE: Final = b" \t\r\n"
_LITERALS: Final = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}


class JSONError(ValueError):
    """The text is no JSON; the message is Go's."""


class Pairs(list[tuple[str, Any]]):
    """An object with its members as written, duplicates included."""

    __slots__ = ()


def loads(data: bytes, *, duplicates: bool = False) -> tuple[Any, bool]:
    """(value, whether some object in it has a key twice: looked for only when asked; the last one wins).

    Raises:
        JSONError: with Go's message.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return _slow(data, duplicates=duplicates)
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _too_deep(value):
        raise JSONError(_DEPTH)
    if _LONG_NUMBER.search(data):
        return _slow(data, duplicates=duplicates)
    return value, duplicates and repeats(data, value)


def repeats(data: bytes, value: Any) -> bool:
    """Whether a text has a key twice in some object; `value` is what was read from it."""
    # Each member has a colon, and strings without escapes have the same colons in the text and in the value.
    simple = b"\\" not in data and not _LONG_NUMBER.search(data)  # orjson writes no integers over 64 bits
    if simple and orjson.dumps(value).count(b":") == data.count(b":"):
        return False
    return _has_duplicates(pairs(data))


def _too_deep(value: Any) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if outer.__class__ is dict else outer)
            if inner.__class__ is dict or inner.__class__ is list
        ]
        if not level:
            return False
    return True


def pairs(data: bytes) -> Any:
    """The value with every object as `Pairs`, in the order of the text. Raises JSONError."""
    return _decode(data, Pairs)


def _has_duplicates(value: Any) -> bool:
    if isinstance(value, Pairs):
        return len({k for k, _ in value}) != len(value) or any(_has_duplicates(v) for _, v in value)
    return isinstance(value, list) and any(_has_duplicates(v) for v in value)


def _slow(data: bytes, *, duplicates: bool) -> tuple[Any, bool]:
    if message := syntax_error(data):
        raise JSONError(message)
    if duplicates:
        read = _decode(data, Pairs)
        return _plain(read), _has_duplicates(read)
    return _decode(data, dict), False


def _plain(value: Any) -> Any:
    if isinstance(value, Pairs):
        return {k: _plain(v) for k, v in value}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _decode(data: bytes, make: Any) -> Any:
    text = data.decode("utf-8", "replace")
    if "\\u" not in text:
        return json.loads(text, object_pairs_hook=make, parse_int=_whole)

    def build(members: list[tuple[str, Any]]) -> Any:
        return make([(_SURROGATE.sub("\ufffd", k), _mended(v)) for k, v in members])

    return _mended(json.loads(text, object_pairs_hook=build, parse_int=_whole))


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise JSONError(f"json: cannot unmarshal number {text} into Go value of type float64")
    return int(text)


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list) and not isinstance(value, Pairs):
        return [_mended(v) for v in value]
    return value


def syntax_error(data: bytes) -> str:
    """What Go's scanner says of this text; empty if it accepts it."""
    try:
        _Scanner(data).document()
    except JSONError as exc:
        return str(exc)
    return ""


def _quoted(char: int) -> str:
    """A byte as Go's scanner quotes it."""
    if char == ord("'"):
        return r"'\''"
    if char == ord('"'):
        return "'\"'"
    named = {7: "a", 8: "b", 12: "f", 10: "n", 13: "r", 9: "t", 11: "v", 92: "\\"}
    if char in named:
        return f"'\\{named[char]}'"
    if char < 32 or char == 127:
        return f"'\\x{char:02x}'"
    return f"'{chr(char)}'" if char < 128 or char > 160 else f"'\\u{char:04x}'"


class _Scanner:
    """Walks over a text to find where Go's scanner stops; speed does not matter here."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def fail(self, context: str) -> JSONError:
        if self.at >= len(self.data):
            return JSONError("unexpected end of JSON input")
        return JSONError(f"invalid character {_quoted(self.data[self.at])} {context}")

    def peek(self) -> int:
        while self.at < len(self.data) and self.data[self.at] in _SPACE:
            self.at += 1
        return self.data[self.at] if self.at < len(self.data) else -1

    def document(self) -> None:
        self.value()
        if self.peek() != -1:
            raise self.fail("after top-level value")

    def value(self) -> None:
        """Iterative: `stack` holds the closing bracket of every structure that is open."""
        stack: list[int] = []
        while True:
            if self.begin(stack):
                continue  # a structure was opened that has something in it
            while stack:
                found = self.peek()
                if found == ord(","):
                    self.at += 1
                    if stack[-1] == ord("}"):
                        self.key(empty_allowed=False)
                    break
                if found != stack[-1]:
                    where = "object key:value pair" if stack[-1] == ord("}") else "array element"
                    raise self.fail(f"after {where}")
                self.at += 1
                stack.pop()
            else:
                return

    def begin(self, stack: list[int]) -> bool:
        """Read a scalar or the opening of a structure; True if a value must follow at once."""
        found = self.peek()
        if found == ord("{"):
            self.open(stack, ord("}"))
            if self.key(empty_allowed=True):
                return True
            stack.pop()
        elif found == ord("["):
            self.open(stack, ord("]"))
            if self.peek() != ord("]"):
                return True
            self.at += 1
            stack.pop()
        elif found == ord('"'):
            self.string()
        elif found in _LITERALS:
            self.literal(_LITERALS[found])
        elif found == ord("-") or ord("0") <= found <= ord("9"):
            self.number()
        else:
            raise self.fail("looking for beginning of value")
        return False

    def open(self, stack: list[int], closing: int) -> None:
        stack.append(closing)
        if len(stack) > MAX_DEPTH:
            raise JSONError(_DEPTH)
        self.at += 1

    def key(self, *, empty_allowed: bool) -> bool:
        found = self.peek()
        if found == ord("}") and empty_allowed:
            self.at += 1
            return False
        if found != ord('"'):
            raise self.fail("looking for beginning of object key string")
        self.string()
        if self.peek() != ord(":"):
            raise self.fail("after object key")
        self.at += 1
        return True

    def string(self) -> None:
        self.at += 1
        while self.at < len(self.data):
            char = self.data[self.at]
            if char == ord('"'):
                self.at += 1
                return
            if char < 32:
                raise self.fail("in string literal")
            self.at += 1
            if char == ord("\\"):
                self.escape()
        raise self.fail("")

    def escape(self) -> None:
        if self.at >= len(self.data) or self.data[self.at] not in b'bfnrt\\/"u':
            raise self.fail("in string escape code")
        unicode = self.data[self.at] == ord("u")
        self.at += 1
        for _ in range(4 if unicode else 0):
            if self.at >= len(self.data) or self.data[self.at] not in b"0123456789abcdefABCDEF":
                raise self.fail("in \\u hexadecimal character escape")
            self.at += 1

    def literal(self, word: bytes) -> None:
        for i, expected in enumerate(word):
            if self.at >= len(self.data) or self.data[self.at] != expected:
                raise self.fail(f"in literal {word.decode()} (expecting {_quoted(word[i])})")
            self.at += 1

    def number(self) -> None:
        if found := _NUMBER.match(self.data, self.at):
            self.at = found.end()
            rest = self.data[self.at : self.at + 1]
            if rest == b".":
                self.at += 1
                raise self.fail("after decimal point in numeric literal")
            if rest in (b"e", b"E"):
                self.at += 1
                if self.data[self.at : self.at + 1] in (b"+", b"-"):
                    self.at += 1
                raise self.fail("in exponent of numeric literal")
        else:
            self.at += 1
            raise self.fail("in numeric literal")
