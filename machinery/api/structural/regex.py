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
_REPEAT = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
_NESTED = re.compile(r"(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})")
_SET_FLAGS = re.compile(r"\(\?([ims]+)\)")
_MOST_REPEATS: Final = 1000
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
    except re.error as exc:
        raise PatternError(f"error parsing regexp: {_told(text, exc)}") from None
    except (OverflowError, RecursionError) as exc:
        raise PatternError(f"error parsing regexp: {exc}: `{pattern}`") from None


def _told(pattern: str, exc: re.error) -> str:
    """What Go says of a mistake that Python's compiler has found. Source: Go's regexp/syntax (ErrorCode)."""
    at = exc.pos or 0
    if exc.msg.startswith("missing ), unterminated"):
        return f"missing closing ): `{pattern}`"
    if exc.msg.startswith("unbalanced parenthesis"):
        return f"unexpected ): `{pattern}`"
    if exc.msg.startswith("unterminated character set"):
        return f"missing closing ]: `{pattern[at:]}`"
    if exc.msg.startswith("nothing to repeat"):
        return f"missing argument to repetition operator: `{pattern[at : at + 1]}`"
    if exc.msg.startswith("multiple repeat"):
        found = _NESTED.search(pattern)
        return f"invalid nested repetition operator: `{found[0] if found else pattern[at - 1 : at + 1]}`"
    if exc.msg.startswith("bad character range"):
        return f"invalid character class range: `{exc.msg.removeprefix('bad character range ')}`"
    if exc.msg.startswith("bad escape (end of pattern)"):
        return "trailing backslash at end of expression: ``"
    return f"{exc.msg}: `{pattern}`"


def _translated(pattern: str, *, multiline: bool) -> str:
    out: list[str] = []
    flagged = [0]  # for each open group, how many groups its flags have opened in it
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
        elif char == "(":
            piece, i = _opened(pattern, i, flagged)
            out.append(piece)
            continue
        elif char == ")":
            out.append(")" * (1 + (flagged.pop() if len(flagged) > 1 else 0)))
        elif char == "{":
            repeat = _REPEAT.match(pattern, i)
            if repeat is None:
                char = "\\{"  # which stands for itself in Go
            else:
                least, most = int(repeat[1]), int(repeat[3] or repeat[1])
                if max(least, most) > _MOST_REPEATS or most < least:
                    raise PatternError(f"error parsing regexp: invalid repeat count: `{repeat[0]}`")
            out.append(char)
        elif char == "$":
            out.append("$" if multiline else r"\Z")
        else:
            out.append(char)
        i += 1
    return "".join(out) + ")" * flagged[0]


def _opened(pattern: str, i: int, flagged: list[int]) -> tuple[str, int]:
    """What the beginning of a group becomes, and where the rest begins."""
    if flags := _SET_FLAGS.match(pattern, i):
        flagged[-1] += 1  # they hold until the group around them ends
        return f"(?{flags[1]}:", flags.end()
    flagged.append(0)
    if pattern.startswith("(?<", i):
        return "(?P<", i + 3
    return "(", i + 1


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
