"""Ownership of `replicas` seen through the scale subresource: a Scale's managedFields are cut out of its parent's.

To change an object through /scale: make the Scale as it is, with `scale_entries` as its managedFields; update or apply
that Scale as any object (kind Scale, subresource "scale"); put `parent_entries` of the outcome into the parent.

Source: k8s.io/apimachinery/pkg/util/managedfields/scalehandler.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from machinery.api.meta import Object
from machinery.api.patch import fieldset, managers
from machinery.api.patch.fieldset import LEAF, FieldSet
from machinery.api.patch.managers import MalformedError, Managers, Owned

SCALE_VERSION: Final = "autoscaling/v1"
_REPLICAS: Final = ("spec", "replicas")


def _path(names: Sequence[str]) -> FieldSet:
    made: FieldSet = LEAF
    for name in reversed(names):
        made = {f"f:{name}": made}
    return made


def _decoded(entries: Any) -> Managers:
    try:
        return managers.decode(entries)
    except MalformedError:
        return {}


def scale_entries(parent: Object, path: Sequence[str] = _REPLICAS) -> list[dict[str, Any]]:
    """managedFields of the Scale of an object: who owns the number of replicas, found at `path` in the parent."""
    wanted = _path(path)
    found = {
        name: Owned(_path(_REPLICAS), SCALE_VERSION, owned.time)
        for name, owned in _decoded(parent.get("metadata", {}).get("managedFields")).items()
        if fieldset.contains_all(owned.fields, wanted)
    }
    return managers.encode(found)


def parent_entries(
    parent: Object, entries: list[dict[str, Any]], *, api_version: str, path: Sequence[str] = _REPLICAS
) -> list[dict[str, Any]]:
    """managedFields of the parent after its Scale came to have `entries`; `api_version` is the parent's."""
    wanted = _path(path)
    of_scale = _decoded(entries)
    made: Managers = {}
    for name, owned in _decoded(parent.get("metadata", {}).get("managedFields")).items():
        if name in of_scale or not fieldset.contains_all(owned.fields, wanted):
            made[name] = owned
        elif fields := fieldset.difference(owned.fields, wanted):
            made[name] = replace(owned, fields=fields)
    for name, owned in of_scale.items():
        # An updater's identity has the Scale's version in it; in the parent it has the parent's.
        there = name if name.operation == managers.APPLY else name._replace(version=api_version)
        if there not in made and name not in made and fieldset.contains_all(owned.fields, _path(_REPLICAS)):
            made[there] = Owned(wanted, api_version, owned.time)
    return managers.encode(made)
