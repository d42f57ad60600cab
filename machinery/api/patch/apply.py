"""Server-side apply, and the ownership of fields that every write keeps up to date.

    made = apply(live, applied, "kubectl", pods, force=False, subresource="", api_version="v1", now=now)
    metadata["managedFields"] = update_managers(old, new, "kubelet", kind_schema=pods, …)

Source: KEP-555; sigs.k8s.io/structured-merge-diff/v6/merge (update.go);
k8s.io/apimachinery/pkg/util/managedfields (fieldmanager.go and internal/*).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import orjson

from machinery.api import jsontext
from machinery.api.meta import Object, annotations_of, name_of, namespace_of, uid_of
from machinery.api.patch import errors, fieldset, managers, newness, reset, typed
from machinery.api.patch.fieldset import FieldSet
from machinery.api.patch.managers import APPLY, UPDATE, ManagerId, Managers, Owned
from machinery.api.patch.typed import Difference, ElementError
from machinery.api.patch.typed_check import errors_of
from machinery.api.schema import KindSchema
from machinery.errors import BadRequest

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_BEFORE_FIRST_APPLY: Final = "before-first-apply"
_KUBECTL: Final = "kubectl"


def update_managers(
    old: Object | None,
    new: Object,
    manager: str,
    *,
    subresource: str = "",
    kind_schema: KindSchema,
    api_version: str,
    now: str,
    reset_fields: FieldSet | None = None,
) -> list[dict[str, Any]]:
    """metadata.managedFields of an object that an ordinary write (create, update, patch) turns from `old` into `new`.

    Call it with `new` defaulted and before admission; `old` is None for a create.  What `new` itself carries in
    metadata.managedFields is honoured as upstream does: a reset, a change by hand, or else what `old` has.
    `reset_fields` are those that this endpoint resets; None stands for what built-in kinds do.
    """
    known = _live_or_new(old, new, subresource)
    if not known and old is not None and uid_of(old):
        return []  # not tracked until the first apply
    if reset_fields is None:
        reset_fields = _reset_fields(kind_schema, subresource)
    name = managers.manager_id(manager, UPDATE, api_version, subresource)
    try:
        if old is None and not known:
            fields = fieldset.recursive_difference(
                newness.fields_of_new(kind_schema, _without_managers(new)), reset_fields
            )
            return managers.encode(managers.first(name, fields, api_version, now))
        changed = _ignoring(_compare(kind_schema, old, new), reset_fields)
    except ElementError:
        return []
    if not changed:
        return managers.encode(known)
    taken = fieldset.union(changed.modified, changed.added)
    after = _lost(known, changed, taken)
    after = _taken(after, name, taken, api_version, now, known.get(name))
    return managers.encode(managers.capped(after))


def apply(
    live: Object | None,
    applied: Object,
    manager: str,
    kind_schema: KindSchema,
    *,
    force: bool = False,
    subresource: str = "",
    api_version: str,
    now: str,
    reset_fields: FieldSet | None = None,
) -> Object:
    """The object after applying a configuration to it, with metadata.managedFields; `live` is None to create one.

    Where nothing but ownership changes, all else in the result equals `live`.  The result is pruned and canonical; its
    defaults are the caller's to fill in.

    Raises:
        BadRequest: the configuration is of another kind or version, or carries managedFields.
        Conflict: others own fields that it would change, and `force` is not set.
        StatusError: 500, as upstream answers, where the configuration does not fit the schema.
    """
    _check_kind(applied, kind_schema, api_version)
    if applied.get("metadata", {}).get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")
    wrong = errors_of(kind_schema.type, applied)
    if wrong:
        raise errors.plain(f"failed to create typed patch object ({_identity(applied, kind_schema)}): {wrong}")
    if reset_fields is None:
        reset_fields = _reset_fields(kind_schema, subresource)
    work = _Apply(live, applied, kind_schema, api_version, reset_fields, now)
    name = managers.manager_id(manager, APPLY, api_version, subresource)
    try:
        return work.run(name, force=force)
    except ElementError as exc:
        raise errors.plain(str(exc)) from None


class _Apply:
    """One apply: what is laid over what, by whose rules."""

    def __init__(
        self, live: Object | None, applied: Object, schema: KindSchema, version: str, reset_fields: FieldSet, now: str
    ) -> None:
        self.live = _without_managers(live) if live is not None else schema.empty
        self.created = live is None
        self.applied = applied
        self.kind = schema.type
        self.schema = schema
        self.version = version
        self.reset_fields = reset_fields
        self.now = now
        self.known = _decoded(live)

    def upgraded(self, manager: str) -> FieldSet:
        """What kubectl may take over from its own client-side apply: what that last applied, and is as it was applied.

        Source: managedfields/internal/lastappliedmanager.go.
        """
        text = annotations_of(self.live).get(LAST_APPLIED)
        if manager != _KUBECTL or not text:
            return {}
        try:
            last, _ = jsontext.loads(text.encode())
            if not isinstance(last, dict) or last.get("apiVersion") != self.version or errors_of(self.kind, last):
                return {}
            changed = typed.compare(self.kind, last, self.live)
            fields = typed.fields_of(self.kind, last)
        except ValueError:
            return {}
        for others in (changed.modified, changed.added, changed.removed):
            fields = fieldset.difference(fields, others)
        return fields

    def run(self, name: ManagerId, *, force: bool) -> Object:
        before = self.known
        if not before and not self.created:
            # Whoever wrote the object so far is not known: all of them together own what there is.
            first = managers.manager_id(_BEFORE_FIRST_APPLY, UPDATE, self.version, "")
            start = typed.compare(self.kind, self.schema.empty, self.live)
            owned = fieldset.recursive_difference(fieldset.union(start.added, start.modified), self.reset_fields)
            before = self.known = _taken({}, first, owned, self.version, self.now, None)
        made, found = self.merged(name)
        if found and not force:
            allowed = self.upgraded(name.name)
            found = {k: left for k, fields in found.items() if (left := fieldset.difference(fields, allowed))}
            if found:
                raise managers.conflict(found)
        after = {k: v for k, v in before.items() if k != name}
        changed = _ignoring(typed.compare(self.kind, self.live, made), self.reset_fields)
        after = _lost(after, changed, fieldset.union(changed.modified, changed.added))
        claimed = self.claimed()
        same = made == self.live
        if claimed:
            last = self.known.get(name)
            after[name] = Owned(claimed, self.version, (last.time if last else None) if same else self.now)
        after = managers.stripped(after, name)
        result = dict(self.live) if same and not self.created else self.finished(made)
        if not same and name.name == _KUBECTL and LAST_APPLIED in annotations_of(result):
            result = _with_last_applied(result, self.applied)
        entries = managers.encode(after)
        metadata = {k: v for k, v in result.get("metadata", {}).items() if k != "managedFields"}
        return result | {"metadata": metadata | ({"managedFields": entries} if entries else {})}

    def finished(self, made: Object) -> Object:
        decoded = self.schema.decode(made)
        if decoded.errors:
            raise errors.plain(decoded.errors[0])
        return decoded.object

    def claimed(self) -> FieldSet:
        return fieldset.recursive_difference(typed.fields_of(self.kind, self.applied), self.reset_fields)

    def merged(self, name: ManagerId) -> tuple[Object, dict[ManagerId, FieldSet]]:
        """(the object, which fields of which other managers that changes)."""
        made = typed.merge(self.kind, self.live, self.applied)
        last = self.known.get(name)
        others = {k: v for k, v in self.known.items() if k != name}
        if last is not None and last.fields:
            made = self.pruned(made, last.fields, [v.fields for v in others.values()])
        changed = _ignoring(typed.compare(self.kind, self.live, made), self.reset_fields)
        taken = fieldset.union(changed.modified, changed.added)
        found = {k: both for k, v in others.items() if (both := fieldset.intersection(v.fields, taken))}
        return made, found

    def pruned(self, merged: Object, last: FieldSet, others: list[FieldSet]) -> Object:
        """Without what the manager applied last time and does not any more, unless others own it."""
        kind = self.kind

        def named(fields: FieldSet) -> FieldSet:
            return fieldset.with_named_fields(fields, kind)

        def all_of(value: Object) -> FieldSet:
            return named(typed.fields_of(kind, value))

        left = typed.without(kind, merged, named(last))
        owned = self.claimed()
        for fields in others:
            owned = fieldset.union(owned, fields)
        everything = all_of(merged)
        gone = fieldset.difference(everything, fieldset.union(all_of(left), named(owned)))
        left = typed.without(kind, merged, gone)
        # What nobody applied, below something that went, stays.
        gone = fieldset.intersection(fieldset.difference(everything, all_of(left)), named(last))
        kept: Object = typed.without(kind, merged, gone)
        return kept


def _check_kind(applied: Object, schema: KindSchema, api_version: str) -> None:
    version, kind = applied.get("apiVersion") or "", applied.get("kind") or ""
    if kind == schema.kind and version == api_version:
        return
    group, _, short = version.rpartition("/")
    if kind != schema.kind or group != schema.group or not version:
        raise BadRequest(f"invalid object type: {group}/{short}, Kind={kind}")
    raise BadRequest(
        f"Incorrect version specified in apply patch. Specified patch version: {version}, expected: {api_version}"
    )


def _identity(obj: Object, schema: KindSchema) -> str:
    return f"{namespace_of(obj)}/{name_of(obj)}; {schema.group}/{schema.version}, Kind={schema.kind}"


def _without_managers(obj: Object) -> Object:
    metadata = obj.get("metadata")
    if not metadata or "managedFields" not in metadata:
        return obj
    return obj | {"metadata": {k: v for k, v in metadata.items() if k != "managedFields"}}


def _decoded(obj: Object | None) -> Managers:
    try:
        return managers.decode((obj or {}).get("metadata", {}).get("managedFields"))
    except managers.MalformedError:
        return {}


def _live_or_new(old: Object | None, new: Object, subresource: str) -> Managers:
    """The managers to start from: those that the request brings along, or else those of the object as it is."""
    if subresource:
        return _decoded(old)
    given = new.get("metadata", {}).get("managedFields")
    if managers.is_reset(given):
        return {}
    return (_decoded(new) if given else {}) or _decoded(old)


def _reset_fields(schema: KindSchema, subresource: str) -> FieldSet:
    if schema.custom and subresource == "status":
        return reset.CUSTOM_STATUS
    return reset.fields(schema.group, schema.kind, subresource, has_status="status" in schema.type.fields)


def _compare(schema: KindSchema, old: Object | None, new: Object) -> Difference:
    before = schema.empty if old is None else old
    if before.get("metadata", {}).get("managedFields") or new.get("metadata", {}).get("managedFields"):
        before, new = _without_managers(before), _without_managers(new)
    return typed.compare(schema.type, before, new)


def _ignoring(changed: Difference, ignored: FieldSet) -> Difference:
    if not ignored:
        return changed
    return Difference(
        fieldset.recursive_difference(changed.added, ignored),
        fieldset.recursive_difference(changed.modified, ignored),
        fieldset.recursive_difference(changed.removed, ignored),
    )


def _lost(known: Managers, changed: Difference, taken: FieldSet) -> Managers:
    """Everybody's fields without those that somebody else now sets, and those that are gone."""
    after = {}
    for name, owned in known.items():
        fields = fieldset.difference(fieldset.difference(owned.fields, taken), changed.removed)
        if fields:
            after[name] = owned if fields is owned.fields else replace(owned, fields=fields)
    return after


def _taken(known: Managers, name: ManagerId, fields: FieldSet, version: str, now: str, was: Owned | None) -> Managers:
    """With these fields added to a manager's, and the time of that; `was` is its entry before the write."""
    fields = fieldset.difference(fields, managers.STRIPPED)
    if not fields:
        return known
    before = known.get(name)
    joined = fieldset.union(before.fields, fields) if before else fields
    in_order = was is not None and was.fields == joined
    return known | {name: Owned(was.fields if was and in_order else fieldset.sort(joined), version, now)}


def _with_last_applied(obj: Object, applied: Object) -> Object:
    """Keep the annotation of client-side apply true, for users who go back to it.

    Source: managedfields/internal/lastappliedupdater.go.
    """
    shown = {k: v for k, v in applied.items() if k != "metadata"}
    metadata = {k: v for k, v in applied.get("metadata", {}).items() if k != "managedFields"}
    if LAST_APPLIED in (metadata.get("annotations") or {}):
        metadata["annotations"] = {k: v for k, v in metadata["annotations"].items() if k != LAST_APPLIED}
    text = orjson.dumps(shown | {"metadata": metadata}, option=orjson.OPT_SORT_KEYS).decode()
    annotations = annotations_of(obj) | {LAST_APPLIED: text}
    return obj | {"metadata": obj["metadata"] | {"annotations": annotations}}
