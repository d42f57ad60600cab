"""Reading a Corefile: CoreDNS' language, as far as words, quotes, comments and blocks go.

    cluster.example:53 other:53 {
        forward . 192.0.2.1 {
            max_concurrent 1000
        }
    }

Source: https://coredns.io/manual/configuration/ (Corefile).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from machinery.errors import SettingsError

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"#][^\s]*|#[^\n]*|\n')
_ENVIRONMENT = re.compile(r"\{(\$\w+|%\w+%)\}")


@dataclass(frozen=True, slots=True)
class Directive:
    """One line of a block, with the block that it opens."""

    name: str
    arguments: tuple[str, ...]
    line: int
    block: tuple[Directive, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerBlock:
    """A block of the outermost level: the zones it is for (with ports) and its directives."""

    keys: tuple[str, ...]
    line: int
    directives: tuple[Directive, ...]


@dataclass(slots=True)
class _Line:
    number: int
    words: list[str] = field(default_factory=list)


def parse(text: str) -> list[ServerBlock]:
    """The server blocks of a Corefile. Raises SettingsError that names the line."""
    lines = _lines(text)
    blocks = []
    for line in lines:
        if line.words[-1] != "{":
            raise SettingsError(f"Corefile:{line.number}: expected {{ at the end of the line")
        keys = [key for word in line.words[:-1] for key in word.split(",") if key]
        if not keys or "}" in keys:
            raise SettingsError(f"Corefile:{line.number}: a block needs the zones that it is for")
        blocks.append(ServerBlock(tuple(keys), line.number, _block(lines, line.number)))
    return blocks


def _block(lines: Iterator[_Line], opened: int) -> tuple[Directive, ...]:
    found: list[Directive] = []
    for line in lines:
        if line.words == ["}"]:
            return tuple(found)
        if "}" in line.words:
            raise SettingsError(f"Corefile:{line.number}: }} must be alone on its line")
        name, *arguments = line.words
        block: tuple[Directive, ...] = ()
        if arguments and arguments[-1] == "{":
            arguments.pop()
            block = _block(lines, line.number)
        if "{" in arguments or name == "{":
            raise SettingsError(f"Corefile:{line.number}: {{ must be at the end of the line")
        found.append(Directive(name, tuple(arguments), line.number, block))
    raise SettingsError(f"Corefile:{opened}: the block that begins here does not end")


def _lines(text: str) -> Iterator[_Line]:
    line = _Line(1)
    number = 1
    for word in _WORD.findall(text + "\n"):
        if word == "\n":
            if line.words:
                yield line
            number += 1
            line = _Line(number)
        elif word.startswith('"'):
            line.words.append(re.sub(r"\\(.)", r"\1", word[1:-1]))
            number += word.count("\n")
        elif _ENVIRONMENT.search(word):
            raise SettingsError(f"Corefile:{number}: {word}: environment variables are not supported")
        elif not word.startswith("#"):
            line.words.append(word)
