"""Regular expressions of Go (RE2 syntax) in Python's engine.

Python's `re` can take exponential time where RE2 can't; patterns come from CustomResourceDefinitions, whose authors
administer the cluster.  What RE2 does not have (backreferences, lookaround) is refused, what is written differently is
rewritten.

Source: https://github.com/google/re2/wiki/Syntax.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_CLASSES: Final = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7F", "blank": r"\t ", "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\t\n\v\f\r ",
    "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_FLAGS: Final = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL}
_POSIX = re.compile(r"\[:(\^?)(\w+):\]")
_REFUSED = re.compile(r"\(\?(?:[=!#(]|<[=!]|P=|P>)|\\[1-9]|\\k|\\Z|\(\?>|[*+?}]\+")


class PatternError(ValueError):
    """The pattern is not of RE2's syntax."""


@lru_cache(maxsize=2048)
def compile_go(pattern: str) -> re.Pattern[str]:
    """The compiled pattern; use `.search`. Raises PatternError."""
    flags = re.ASCII
    text = pattern
    while leading := re.match(r"\(\?([ims]+)\)", text):
        for flag in leading[1]:
            flags |= _FLAGS[flag]
        text = text[leading.end() :]
    if _REFUSED.search(re.sub(r"\\\\", "", text)):
        raise PatternError(f"error parsing regexp: invalid or unsupported Perl syntax: `{pattern}`")
    try:
        return re.compile(_translated(text, multiline=bool(flags & re.MULTILINE)), flags)
    except (re.error, OverflowError, RecursionError) as exc:
        raise PatternError(f"error parsing regexp: {exc}: `{pattern}`") from None


def _translated(pattern: str, *, multiline: bool) -> str:
    out: list[str] = []
    i, in_class = 0, False
    while i < len(pattern):
        char = pattern[i]
        if char == "\\" and i + 1 < len(pattern):
            piece, i = _escape(pattern, i, in_class=in_class)
            out.append(piece)
            continue
        if in_class:
            if posix := _POSIX.match(pattern, i):
                if posix[2] not in _CLASSES or posix[1]:
                    raise PatternError(f"error parsing regexp: invalid character class range: `{posix[0]}`")
                out.append(_CLASSES[posix[2]])
                i = posix.end()
                continue
            in_class = char != "]"
            out.append("\\[" if char == "[" else char)
        elif char == "[":
            in_class = True
            out.append(char)
            i += 1
            if pattern[i : i + 1] == "^":
                out.append("^")
                i += 1
            if pattern[i : i + 1] == "]":
                out.append("\\]")
                i += 1
            continue
        elif char == "$":
            out.append("$" if multiline else r"\Z")
        else:
            out.append(char)
        i += 1
    return "".join(out)


def _escape(pattern: str, i: int, *, in_class: bool) -> tuple[str, int]:
    """What a backslash and the character after it become, and where the rest begins."""
    char = pattern[i + 1]
    if char == "z":
        return r"\Z", i + 2
    if char == "Q":
        end = pattern.find("\\E", i + 2)
        quoted = pattern[i + 2 :] if end < 0 else pattern[i + 2 : end]
        return re.escape(quoted), len(pattern) if end < 0 else end + 2
    if char == "x" and pattern[i + 2 : i + 3] == "{":
        end = pattern.find("}", i)
        if end < 0:
            raise PatternError(f"error parsing regexp: invalid escape sequence: `{pattern[i:]}`")
        try:
            return re.escape(chr(int(pattern[i + 3 : end], 16))), end + 1
        except (ValueError, OverflowError):
            raise PatternError(f"error parsing regexp: invalid escape sequence: `{pattern[i : end + 1]}`") from None
    if char in "pP":
        return _unicode_class(pattern, i, in_class=in_class)
    if char == "C":
        raise PatternError("error parsing regexp: invalid escape sequence: `\\C`")
    if char.isalpha() and char.isascii() and char not in "dDwWsSbBAafnrtvx":
        raise PatternError(f"error parsing regexp: invalid escape sequence: `\\{char}`")
    return pattern[i : i + 2], i + 2


_UNICODE: Final = {"L": r"^\W\d_", "Lu": "A-ZÀ-ÖØ-Þ", "Ll": "a-zß-öø-ÿ", "N": r"\d", "Nd": r"\d"}


def _unicode_class(pattern: str, i: int, *, in_class: bool) -> tuple[str, int]:
    found = re.match(r"\\[pP](?:\{(\w+)\}|(\w))", pattern[i:])
    if found is None or (found[1] or found[2]) not in _UNICODE or pattern[i + 1] == "P":
        raise PatternError(f"error parsing regexp: invalid character class range: `{pattern[i:]}`")
    ranges = _UNICODE[found[1] or found[2]]
    if in_class:
        if ranges.startswith("^"):
            ranges = r"a-zA-ZÀ-ÖØ-öø-\u02ff\u0370-\u1fff"
        return ranges, i + found.end()
    return f"(?u:[{ranges}])", i + found.end()
