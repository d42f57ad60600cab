"""Ownership of `replicas` seen through the scale subresource: a Scale's managedFields are cut out of its parent's.

To change an object through /scale: make the Scale as it is, with `scale_entries` as its managedFields; update or apply
that Scale as any object (kind Scale, subresource "scale"); put `parent_entries` of the outcome into the parent.

Source: k8s.io/apimachinery/pkg/util/managedfields/scalehandler.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


Paths = Mapping[str, Sequence[str] | None]
"""Where the number of replicas is in each version of the parent; None: the version has no scale."""

APPS: Final[Paths] = {f"apps/{version}": _REPLICAS for version in ("v1beta1", "v1beta2", "v1")}


def scale_entries(parent: Object, paths: Paths = APPS) -> list[dict[str, Any]]:
    """managedFields of the Scale of an object: who owns the number of replicas."""
    found = {
        name: Owned(_path(_REPLICAS), SCALE_VERSION, owned.time)
        for name, owned in _decoded(parent.get("metadata", {}).get("managedFields")).items()
        if _has(owned, paths)
    }
    return managers.encode(found)


def parent_entries(
    parent: Object, entries: list[dict[str, Any]], *, api_version: str, paths: Paths = APPS
) -> list[dict[str, Any]]:
    """managedFields of the parent after its Scale came to have `entries`; `api_version` is the parent's.

    As upstream's, an entry that comes of the Scale has no time of its own, and one of an unknown version is dropped.
    """
    of_scale = _decoded(entries)
    before = _decoded(parent.get("metadata", {}).get("managedFields"))
    made: Managers = {}
    for name, owned in before.items():
        if owned.version not in paths:
            continue
        # An updater's identity has the version in it: the Scale's there, the parent's here.
        there = name if name.operation == managers.APPLY else name._replace(version=SCALE_VERSION)
        path = paths[owned.version]
        if path is None or not _has(owned, paths) or of_scale.pop(there, None) is not None:
            made[name] = owned
        elif fields := fieldset.difference(owned.fields, _path(path)):
            made[name] = replace(owned, fields=fields)
    wanted = paths.get(api_version) or _REPLICAS
    for name, owned in of_scale.items():
        if fieldset.contains_all(owned.fields, _path(_REPLICAS)):
            here = name if name.operation == managers.APPLY else name._replace(version=api_version)
            made[here] = Owned(_path(wanted), api_version, before[name].time if name in before else None)
    return managers.encode(made)


def _has(owned: Owned, paths: Paths) -> bool:
    path = paths.get(owned.version)
    return path is not None and fieldset.contains_all(owned.fields, _path(path))
