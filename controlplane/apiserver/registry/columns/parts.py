"""Columns that many kinds have, and what their cells are made of."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from controlplane.apiserver.registry.objects import items, strings, sub, text
from controlplane.apiserver.registry.printing import NONE, Age
from controlplane.apiserver.registry.strategy import Column
from machinery.api import labels
from machinery.api.meta import Object, name_of
from machinery.api.schema_types import definitions

Cell = Callable[[Object], Any]


@functools.cache
def _by_short_name() -> dict[str, str]:
    return {".".join(name.split(".")[-3:]): name for name in definitions()}


def described(path: str) -> str:
    """What the published schema says about a field: `core.v1.PodStatus.podIP`."""
    owner, _, key = path.rpartition(".")
    properties = definitions()[_by_short_name()[owner]]["properties"]
    return str(properties[key].get("description", ""))


def column(name: str, cell: Cell, described_by: str = "", *, kind: str = "string", wide: bool = False) -> Column:
    """A column; `described_by` is a field of the schema (with dots and no spaces) or a text."""
    is_field = "." in described_by and " " not in described_by
    description = described(described_by) if is_field else described_by
    return Column(name, kind, cell, description=description, priority=int(wide))


def age(obj: Object) -> Age:
    """Time since the object was created."""
    return Age(sub(obj, "metadata").get("creationTimestamp"))


def named(*annotations: str) -> Column:
    """The name, and whether one of these annotations makes it the default of its kind."""

    def cell(obj: Object) -> str:
        found = strings(obj, "metadata", "annotations")
        return name_of(obj) + (" (default)" if any(found.get(a) == "true" for a in annotations) else "")

    return dataclasses.replace(NAME, cell=cell)


NAME = Column("Name", "string", name_of, format="name", description=described("meta.v1.ObjectMeta.name"))
AGE = column("Age", age, "meta.v1.ObjectMeta.creationTimestamp")
CREATED_AT = column(
    "Created At",
    lambda obj: sub(obj, "metadata").get("creationTimestamp"),
    "meta.v1.ObjectMeta.creationTimestamp",
    kind="date",
)

NAME_AND_AGE = (NAME, AGE)
NAME_AND_CREATION = (NAME, CREATED_AT)
"""Kinds for which upstream has no printer, custom resources among them."""


def containers(*path: str) -> tuple[Column, Column]:
    """Names and images of the containers of the pod template at this path."""

    def joined(key: str) -> Cell:
        return lambda obj: ",".join(text(c, key) for c in items(obj, *path, "spec", "containers"))

    return (
        column("Containers", joined("name"), "Names of each container in the template.", wide=True),
        column("Images", joined("image"), "Images referenced by each container in the template.", wide=True),
    )


def format_labels(values: dict[str, str]) -> str:
    """`a=b,c=d`, or `<none>`."""
    return ",".join(f"{k}={v}" for k, v in sorted(values.items())) or NONE


def format_selector(selector: Any, *, invalid: str = "<error>", nothing: str = NONE) -> str:
    """A LabelSelector as kubectl takes it."""
    try:
        return str(labels.from_selector(selector if isinstance(selector, dict) else None)) or nothing
    except (ValueError, TypeError, AttributeError):
        return invalid


def selector_cell(*path: str) -> Cell:
    """The LabelSelector at this path."""
    return lambda obj: format_selector(sub(obj, *path[:-1]).get(path[-1]))


def labels_cell(*path: str) -> Cell:
    """The map of labels at this path."""
    return lambda obj: format_labels(strings(obj, *path))


def text_or(default: str, *path: str) -> Cell:
    """The string at this path, or `default` when it is empty."""
    return lambda obj: text(obj, *path) or default


def text_if_set(default: str, *path: str) -> Cell:
    """The string at this path, which may be empty, or `default` when it is absent."""

    def cell(obj: Object) -> str:
        found = sub(obj, *path[:-1]).get(path[-1])
        return found if isinstance(found, str) else default

    return cell
