"""Sets of fields, in the form in which managedFields hold them (FieldsV1).

A set is a dict from path elements to nodes; a node is a dict like it, with "." for the field itself.
A node without children, `{}`, is the field itself:

    {"f:data": {".": {}, "f:a": {}}}        data, data.a
    {"f:data": {"f:a": {}}}                 data.a

Path elements: `f:NAME` a field, `k:{JSON}` the item of a list with these keys, `v:JSON` an item of a set, `i:N` an
index.
Sets are values: nothing here changes one, and results share what they can.

Source: sigs.k8s.io/structured-merge-diff/v6/fieldpath; meta/v1 FieldsV1.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from machinery.api.fielderror import show as quote
from machinery.api.schema_types import ANY, Type

FieldSet = dict[str, Any]

SELF: Final = "."
LEAF: Final[FieldSet] = {}


def has(node: FieldSet) -> bool:
    """Whether a node stands for its field itself, and not only for what is below."""
    return not node or SELF in node


def node_of(children: FieldSet, *, member: bool) -> FieldSet | None:
    """A node with these children; None if there is nothing in it."""
    if not children:
        return LEAF if member else None
    return {SELF: LEAF, **children} if member else children


def below(node: FieldSet) -> FieldSet:
    """The children of a node, as a set of their own."""
    return {k: v for k, v in node.items() if k != SELF} if SELF in node else node


def union(one: FieldSet, other: FieldSet) -> FieldSet:
    """What is in either."""
    if not one or not other:
        return one or other
    made = dict(one)
    for key, node in other.items():
        mine = made.get(key)
        if mine is None:
            made[key] = node
        elif key != SELF and mine is not node:
            made[key] = node_of(union(below(mine), below(node)), member=has(mine) or has(node))
    return made


def difference(one: FieldSet, other: FieldSet) -> FieldSet:
    """What is in `one` and not in `other`; removing a field does not remove what is below it."""
    if not one or not other:
        return one
    made = one
    for key, node in other.items():
        mine = one.get(key)
        if mine is None or key == SELF:
            continue
        left = node_of(difference(below(mine), below(node)), member=has(mine) and not has(node))
        if left is not mine:
            made = dict(made) if made is one else made
            if left is None:
                del made[key]
            else:
                made[key] = left
    return made


def recursive_difference(one: FieldSet, other: FieldSet) -> FieldSet:
    """What is in `one` and neither in `other` nor below a field of it."""
    made = {}
    for key, node in one.items():
        theirs = other.get(key)
        if theirs is None:
            made[key] = node
        elif not has(theirs):
            left = node_of(recursive_difference(below(node), theirs), member=has(node))
            if left is not None:
                made[key] = left
    return made


def intersection(one: FieldSet, other: FieldSet) -> FieldSet:
    """What is in both."""
    made = {}
    for key, node in one.items():
        theirs = other.get(key)
        if theirs is not None and key != SELF:
            both = node_of(intersection(below(node), below(theirs)), member=has(node) and has(theirs))
            if both is not None:
                made[key] = both
    return made


def with_named_fields(fields: FieldSet, kind: Type) -> FieldSet:
    """The set, and every field of a structure that it has something below of."""
    made: FieldSet = {}
    for key, node in fields.items():
        if key == SELF:
            continue
        named, inner = False, ANY
        if key.startswith("f:"):
            named = key[2:] in kind.fields
            inner = kind.child(key[2:]) or ANY
        elif key.startswith("k:") and kind.sort == "list" and kind.element is not None:
            inner = kind.element
        filled = node_of(with_named_fields(below(node), inner), member=named or has(node))
        if filled is not None:
            made[key] = filled
    return made


def sort(fields: FieldSet) -> FieldSet:
    """The same set with its elements in the order in which upstream prints them."""
    # As texts, all but the indexes are in their order already.
    keys = sorted(fields) if not any(k.startswith("i:") for k in fields) else sorted(fields, key=_rank)
    return {k: sort(node) if (node := fields[k]) else node for k in keys}


def _rank(element: str) -> tuple[int, Any]:
    sort_of = ".fkvi".find(element[:1])
    return (sort_of, int(element[2:])) if element.startswith("i:") else (sort_of, element)


def paths(fields: FieldSet) -> list[str]:
    """Every field as messages print it, fields of one level before what is below them: `.spec.ports[port=80].name`."""
    ordered = sorted((k for k in fields if k != SELF), key=_rank)
    found = [_shown(k) for k in ordered if has(fields[k])]
    for key in ordered:
        found += [_shown(key) + path for path in paths(below(fields[key]))]
    return found


def _shown(element: str) -> str:
    head, rest = element[:2], element[2:]
    if head == "f:":
        return "." + rest
    if head == "k:":
        return shown_key(orjson.loads(rest))
    return f"[={rest}]" if head == "v:" else f"[{rest}]"


def shown_key(keys: dict[str, Any]) -> str:
    """The keys of a list's item as messages print them: `[name="a"]`."""
    return "[" + ",".join(f"{k}={quote(v)}" for k, v in sorted(keys.items())) + "]"


def contains_all(fields: FieldSet, other: FieldSet) -> bool:
    """Whether everything of `other` is in `fields`."""
    return not difference(other, fields)
