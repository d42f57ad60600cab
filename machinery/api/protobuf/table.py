"""The table of messages: fields.txt.

A line is `package.version.Message name:type name:type …`.  A number before a name (`7=name`) is the field's, else it is
one more than that of the field before.  Types: s string, b bool, i int32, l int64, d double, y bytes, a message of the
same package, `.package.version.Message` of another; `*` after it: repeated; `{` before it: a map from string; `^` after
a message: its fields stand in the JSON object itself.

Source: the generated.proto files of k8s.io/api, apimachinery, apiextensions-apiserver and kube-aggregator, v1.36.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

SCALARS: Final = frozenset("sbildy")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message; `type` is a letter of SCALARS or a message's name."""

    number: int
    name: str
    type: str
    repeated: bool = False
    map: bool = False
    inline: bool = False


@cache
def _lines() -> dict[str, str]:
    text = (resources.files(__package__) / "fields.txt").read_text("ascii")
    return {name: rest for name, _, rest in (line.partition(" ") for line in text.splitlines())}


def message_of(definition: str) -> str:
    """The name in the table of a definition (io.k8s.api.core.v1.Pod) or message: its last three parts."""
    return ".".join(definition.split(".")[-3:])


def has(message: str) -> bool:
    """Whether there is such a message."""
    return message in _lines()


def fields(message: str) -> list[Field]:
    """The fields of a message, in the order of their numbers. Raises KeyError."""
    package = message.rpartition(".")[0]
    found, number = [], 0
    for part in _lines()[message].split():
        head, _, kind = part.rpartition(":")
        explicit, equals, name = head.rpartition("=")
        number = int(explicit) if equals else number + 1
        inline, repeated, is_map = kind.endswith("^"), kind.endswith("*"), kind.startswith("{")
        kind = kind.rstrip("^*").lstrip("{")
        if kind.startswith("."):
            kind = kind[1:]
        elif kind not in SCALARS:
            kind = f"{package}.{kind}"
        found.append(Field(number, name, kind, repeated, is_map, inline))
    return found
