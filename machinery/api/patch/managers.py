"""metadata.managedFields: who set which fields, when and how.

Source: k8s.io/apimachinery/pkg/util/managedfields/internal (managedfields.go, buildmanagerinfo.go, capmanagers.go,
stripmeta.go, conflict.go); meta/v1 ManagedFieldsEntry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from machinery.api import fielderror
from machinery.api.fielderror import FieldError, show
from machinery.api.patch import fieldset
from machinery.api.patch.fieldset import LEAF, FieldSet
from machinery.errors import Conflict

APPLY: Final = "Apply"
UPDATE: Final = "Update"

MAX_UPDATERS: Final = 10
"""Entries of Update managers that are kept apart; the oldest beyond them become one."""

_ANCIENT: Final = "ancient-changes"
_MAX_NAME: Final = 128

STRIPPED: Final[FieldSet] = {
    "f:apiVersion": LEAF,
    "f:kind": LEAF,
    "f:metadata": {
        ".": LEAF,
        **dict.fromkeys(
            (
                "f:clusterName",
                "f:creationTimestamp",
                "f:generation",
                "f:managedFields",
                "f:name",
                "f:namespace",
                "f:resourceVersion",
                "f:selfLink",
                "f:uid",
            ),
            LEAF,
        ),
    },
}


class ManagerId(NamedTuple):
    """What makes two writes one manager's; an applier's version does not matter."""

    name: str
    operation: str
    version: str  # of an Update; empty for Apply
    subresource: str

    def __str__(self) -> str:
        text = show(self.name)
        if self.subresource:
            text += f" with subresource {show(self.subresource)}"
        return text if self.operation == APPLY else f"{text} using {self.version}"


@dataclass(frozen=True, slots=True)
class Owned:
    """The fields of one manager."""

    fields: FieldSet
    version: str
    time: str | None = None


Managers = dict[ManagerId, Owned]


class MalformedError(ValueError):
    """These managedFields can't be read; upstream then looks at those of the live object."""


def manager_id(name: str, operation: str, version: str, subresource: str) -> ManagerId:
    """The identity under which a write is counted."""
    return ManagerId(name or "unknown", operation, "" if operation == APPLY else version, subresource)


def decode(entries: Iterable[Any] | None) -> Managers:
    """Managers of metadata.managedFields. Raises MalformedError."""
    managers: Managers = {}
    for entry in entries or ():
        operation = entry.get("operation")
        version = entry.get("apiVersion") or ""
        fields = entry.get("fieldsV1")
        if operation not in (APPLY, UPDATE) or not version or entry.get("fieldsType") != "FieldsV1":
            raise MalformedError
        if not isinstance(fields, dict) and fields is not None:
            raise MalformedError
        name = ManagerId(
            entry.get("manager", ""), operation, "" if operation == APPLY else version, entry.get("subresource", "")
        )
        managers[name] = Owned(fields or {}, version, entry.get("time"))
    return managers


def first(name: ManagerId, fields: FieldSet, version: str, time: str) -> Managers:
    """The managers of an object that only one has ever written."""
    fields = fieldset.difference(fields, STRIPPED)
    return {name: Owned(fields, version, time)} if fields else {}


def encode(managers: Managers) -> list[dict[str, Any]]:
    """metadata.managedFields of these managers, in upstream's order."""
    entries = []
    for name, owned in sorted(managers.items(), key=_order):
        entry: dict[str, Any] = {"manager": name.name, "operation": name.operation, "apiVersion": owned.version}
        if owned.time:
            entry["time"] = owned.time
        entry |= {"fieldsType": "FieldsV1", "fieldsV1": owned.fields}
        if name.subresource:
            entry["subresource"] = name.subresource
        entries.append(entry)
    return entries


def _order(item: tuple[ManagerId, Owned]) -> tuple[str, str, str, str, str]:
    name, owned = item
    return (name.operation, owned.time or "", name.name, owned.version, name.subresource)


def is_reset(entries: Any) -> bool:
    """Whether a client asks to forget all managers: an empty list, or one empty entry."""
    return isinstance(entries, list) and (not entries or entries == [{}])


def stripped(managers: Managers, name: ManagerId) -> Managers:
    """Without what nobody owns (apiVersion, kind, identity in metadata) in the entry of one manager."""
    owned = managers.get(name)
    if owned is None:
        return managers
    fields = fieldset.difference(owned.fields, STRIPPED)
    if fields:
        return managers | {name: replace(owned, fields=fields)}
    return {k: v for k, v in managers.items() if k != name}


def capped(managers: Managers) -> Managers:
    """With at most MAX_UPDATERS entries of Update managers, where some of them are of one version: the oldest of those
    become one."""
    updaters = sorted((k for k in managers if k.operation == UPDATE), key=lambda k: (managers[k].time or "", k))
    made = dict(managers)
    first: dict[str, ManagerId] = {}
    count = len(updaters)
    for name in updaters:
        if count <= MAX_UPDATERS:
            break
        if name.version not in first:
            first[name.version] = name
            continue
        ancient = ManagerId(_ANCIENT, UPDATE, name.version, "")
        if ancient not in made:
            made[ancient] = made.pop(first[name.version])
        owned = made.pop(name)
        made[ancient] = replace(owned, fields=fieldset.union(owned.fields, made[ancient].fields))
        count -= 1
    return made


def conflict(found: dict[ManagerId, FieldSet]) -> Conflict:
    """The 409 of an apply that would change fields of others."""
    listed = [(name, path) for name, fields in sorted(found.items()) for path in fieldset.paths(fields)]
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {name}", "field": path} for name, path in listed
    ]
    if len(listed) == 1:
        name, path = listed[0]
        message = f"Apply failed with 1 conflict: conflict with {name}: {path}"
    else:
        lines: list[str] = []
        for manager in sorted(found):
            lines.append(f"conflicts with {manager}:")
            lines += [f"- {path}" for name, path in listed if name == manager]
        message = f"Apply failed with {len(listed)} conflicts: " + "\n".join(lines)
    return Conflict(message, details={"causes": causes})


def name_from_user_agent(user_agent: str) -> str:
    """The manager's name when the request does not give one: what stands before the first slash."""
    kept, size = "", 0
    for char in user_agent.partition("/")[0]:
        if not char.isprintable():
            continue
        size += len(char.encode("utf-8", "replace"))
        if size > _MAX_NAME:
            break
        kept += char
    return kept


def name_errors(name: str, field: str = "fieldManager") -> list[FieldError]:
    """What is wrong with the fieldManager option of a request.

    Source: k8s.io/apimachinery/pkg/apis/meta/v1/validation (ValidateFieldManager).
    """
    errors = []
    if len(name.encode("utf-8", "replace")) > _MAX_NAME:
        errors.append(fielderror.too_long(field, _MAX_NAME))
    for at, char in enumerate(name):
        if not char.isprintable():
            errors.append(fielderror.invalid(field, name, f"invalid character U+{ord(char):04X} (at position {at})"))
            break
    return errors
