"""Checkpoint files in upstream's form: JSON with a checksum over the value as Go's spew prints it.

A node that changes from upstream's kubelet to this one, or back, keeps what its containers have. The checksum is
FNV-1a over the text of `spew.Sprintf("%#v")`, so each value is shown here with the Go types that upstream gives it.

Source: kubelet's checkpointmanager (checksum.New), k8s.io/apimachinery/pkg/util/dump, davecgh/go-spew format.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from agent.kubelet.jsonfile import JsonFile
from machinery.errors import SettingsError


def fnv32a(text: str) -> int:
    """FNV-1a, 32 bits."""
    found = 0x811C9DC5
    for byte in text.encode():
        found = ((found ^ byte) * 0x01000193) & 0xFFFFFFFF
    return found


def show_map(values: Mapping[Any, str]) -> str:
    """A map whose values are shown already; Go sorts it by key."""
    return f"map[{' '.join(f'{key}:{values[key]}' for key in sorted(values))}]"


def show_list(values: Iterable[str | int]) -> str:
    """A slice whose elements are shown already."""
    return f"[{' '.join(str(value) for value in values)}]"


def show_struct(fields: Sequence[tuple[str, str, str | int]]) -> str:
    """A struct: (name, Go type, value as shown) of each field; fields without a type are pointers and the like."""
    return "{" + " ".join(f"{name}:({kind}){value}" for name, kind, value in fields) + "}"


class Checkpoint(JsonFile):
    """One file of state. Its contents are checked by whoever knows them."""

    options = orjson.OPT_NON_STR_KEYS

    def read(self) -> Any:
        """The document; None if there is no file. Raises SettingsError for what is no JSON."""
        try:
            return self.load()
        except (OSError, ValueError) as error:
            raise SettingsError(str(error)) from error


def corrupt(actual: int, expected: int) -> SettingsError:
    """What upstream says of a checksum that is wrong."""
    return SettingsError(f"checkpoint is corrupted: expected checksum {expected}, actual {actual}")
