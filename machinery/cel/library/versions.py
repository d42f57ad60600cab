"""Versions as semver.org has them, refused in the words of the library that upstream reads them with.

Source: k8s.io/apiserver/pkg/cel/library/semverlib.go; github.com/blang/semver/v4 (Parse).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Any, ClassVar, Final

from machinery.api.fielderror import show
from machinery.cel.errors import EvaluationError

SEMVER: Final = "kubernetes.Semver"
_UINT_MAX: Final = 2**64 - 1


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Semver:
    """kubernetes.Semver."""

    type_name: ClassVar[str] = SEMVER
    numbers: tuple[int, ...]
    prerelease: tuple[str, ...]

    def _rank(self) -> tuple[Any, ...]:
        parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in self.prerelease)
        return self.numbers, not self.prerelease, parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and self._rank() == other._rank()

    def __lt__(self, other: Semver) -> bool:
        return self._rank() < other._rank()

    def __hash__(self) -> int:
        return hash(self._rank())


def semver(text: str, normalize: bool = False) -> Semver:
    """The version that a text spells. Raises EvaluationError."""
    given = _normalized(text) if normalize else text
    if not given:
        raise EvaluationError("Version string empty")
    parts = given.split(".", 2)
    if len(parts) != 3:
        raise EvaluationError("No Major.Minor.Patch elements found")
    rest, built, build = parts[2].partition("+")
    patch, before, prerelease = rest.partition("-")
    numbers = [_number(n, part) for n, part in (("Major", parts[0]), ("Minor", parts[1]), ("Patch", patch))]
    found = _identifiers(prerelease, "prerelease", "Prerelease is empty") if before else ()
    for part in found:
        if part.isdigit() and len(part) > 1 and part[0] == "0":
            raise EvaluationError(f"Numeric PreRelease version must not contain leading zeroes {show(part)}")
    if built:
        _identifiers(build, "build meta data", "Build meta data is empty")
    return Semver(tuple(numbers), found)


def _number(name: str, text: str) -> int:
    if re.search(r"[^0-9]", text):
        raise EvaluationError(f"Invalid character(s) found in {name.lower()} number {show(text)}")
    if len(text) > 1 and text[0] == "0":
        raise EvaluationError(f"{name} number must not contain leading zeroes {show(text)}")
    if not text:
        raise EvaluationError('strconv.ParseUint: parsing "": invalid syntax')
    if len(text) > 20 or int(text) > _UINT_MAX:
        raise EvaluationError(f"strconv.ParseUint: parsing {show(text)}: value out of range")
    return int(text)


def _identifiers(text: str, name: str, empty: str) -> tuple[str, ...]:
    parts = tuple(text.split("."))
    for part in parts:
        if not part:
            raise EvaluationError(empty)
        if re.search(r"[^0-9A-Za-z-]", part):
            raise EvaluationError(f"Invalid character(s) found in {name} {show(part)}")
    return parts


def _normalized(text: str) -> str:
    """Without a leading v, leading zeroes, and with all three numbers."""
    parts = text.removeprefix("v").split(".", 2)
    for i, part in enumerate(parts):
        if len(part) > 1:
            bare = part.lstrip("0")
            parts[i] = bare if re.match(r"[0-9]", bare) else f"0{bare}"
    if len(parts) < 3 and re.search(r"[+-]", parts[-1]):
        raise EvaluationError("short version cannot contain PreRelease/Build meta data")
    return ".".join([*parts, *["0"] * (3 - len(parts))])
