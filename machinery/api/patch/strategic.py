"""Strategic merge patch: a merge patch that knows which lists are merged by key, with directives.

    $patch: replace | delete | merge          in a map, or in an item of a list
    $retainKeys: [k, …]                       of a map: drop all others
    $setElementOrder/FIELD: [{key: v}, …]     the order of the list after merging
    $deleteFromPrimitiveList/FIELD: [v, …]    remove these from a list of scalars

Order of a merged list: as $setElementOrder says, else as the patch has it, with the items that only the object has
put where they stood before.

Source: k8s.io/apimachinery/pkg/util/strategicpatch; sig-api-machinery "strategic merge patch"; mergepatch/errors.go.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from machinery.api.patch import errors, goformat
from machinery.api.schema import KindSchema
from machinery.api.schema_decode import go_value
from machinery.api.schema_types import ANY, Type
from machinery.errors import BadRequest, StatusError

_PATCH: Final = "$patch"
_RETAIN: Final = "$retainKeys"
_ORDER: Final = "$setElementOrder"
_DELETE_FROM: Final = "$deleteFromPrimitiveList"

_NO_STRATEGIES: Final[frozenset[str]] = frozenset()


def apply(kind_schema: KindSchema, doc: Any, patch: Any) -> Any:
    """The object with the patch merged into it; neither is changed.

    Raises:
        BadRequest: the patch is no object, or has a malformed directive.
        StatusError: it can't be merged into this object; upstream answers 500 to most of these.
    """
    if patch is None:  # an empty map for Go
        patch = {}
    if not isinstance(patch, dict):
        what = go_value(patch).split(" ", maxsplit=1)[0]
        raise BadRequest(f"json: cannot unmarshal {what} into Go value of type map[string]interface {{}}")
    return _merge_map(doc, patch, kind_schema.type)


def _bad_format(what: str) -> StatusError:
    return BadRequest(f"invalid patch format of {what}")


def _lookup(kind: Type, key: str) -> tuple[Type, frozenset[str]]:
    """The type of a field and how it is patched."""
    if kind.sort == "any" and kind.element is None:
        return ANY, _NO_STRATEGIES
    inner = kind.child(key)
    if inner is None:
        struct = kind.go.rpartition(".")[2]
        raise errors.plain(f'unable to find api field in struct {struct} for the json field "{key}"')
    return inner, kind.field_strategies.get(key, inner.strategies)


def _merge_map(original: Any, patch: dict[str, Any], kind: Type) -> Any:
    if _PATCH in patch:
        return _directive(patch)
    merged = dict(original) if isinstance(original, dict) else {}
    patch = dict(patch)
    _retain_keys(merged, patch)
    _ordered_lists(merged, patch, kind)
    for key, value in patch.items():
        name, delete_list = key, False
        if key.startswith(_DELETE_FROM):
            name, delete_list = _directive_field(key, _DELETE_FROM, "primitive list"), True
        if value is None:
            merged.pop(name, None)
        elif name not in merged or _sort(merged[name]) is not _sort(value):
            if not delete_list:
                merged[name] = _as_given(value)
        elif isinstance(value, dict):
            inner, strategies = _lookup(kind, name)
            merged[name] = value if "replace" in strategies else _merge_map(merged[name], value, inner)
        elif isinstance(value, list):
            merged[name] = _merge_list(merged[name], value, kind, name, delete_list=delete_list)
        else:
            merged[name] = value
    return merged


def _sort(value: Any) -> type:
    """The Go type of a JSON value, as far as merging tells them apart."""
    cls: type = value.__class__
    return cls


def _directive(patch: dict[str, Any]) -> Any:
    if patch[_PATCH] == "replace":
        return {k: v for k, v in patch.items() if k != _PATCH}
    if patch[_PATCH] == "delete":
        return {}
    raise errors.plain(f"unknown patch type: {goformat.show(patch[_PATCH])} in map: {goformat.show(patch)}")


def _as_given(value: Any) -> Any:
    """A part of a patch that meets nothing to be merged with: without directives and nulls."""
    if isinstance(value, dict):
        return {
            k: _as_given(v)
            for k, v in value.items()
            if v is not None and k not in (_PATCH, _RETAIN) and not k.startswith((_ORDER, _DELETE_FROM))
        }
    if isinstance(value, list):
        return [_as_given(v) for v in value if not (isinstance(v, dict) and _PATCH in v)]
    return value


def _directive_field(key: str, prefix: str, what: str) -> str:
    head, slash, field = key.partition("/")
    if head != prefix or not slash:
        raise _bad_format(what)
    return field


def _retain_keys(merged: dict[str, Any], patch: dict[str, Any]) -> None:
    if _RETAIN not in patch:
        return
    kept = patch.pop(_RETAIN)
    if not isinstance(kept, list):
        raise _bad_format("retainKeys")
    for key, value in patch.items():
        if value is not None and not key.startswith((_DELETE_FROM, _ORDER)) and key not in kept:
            raise _bad_format("retainKeys")
    for key in [k for k in merged if k not in kept]:
        del merged[key]


def _ordered_lists(merged: dict[str, Any], patch: dict[str, Any], kind: Type) -> None:
    """Merge the lists for which the patch gives an order, and take them out of it."""
    for key in [k for k in patch if k.startswith(_ORDER)]:
        order = patch.pop(key)
        if not isinstance(order, list):
            raise errors.plain(f"expected a []interface {{}}, but received a {_go_type(order)}")
        name = _directive_field(key, _ORDER, "setElementOrder list")
        before, given = merged.get(name), patch.get(name)
        for found in (before, given):
            if found is not None and not isinstance(found, list):
                raise errors.plain(f"expected a []interface {{}}, but received a {_go_type(found)}")
        inner, _ = _lookup(kind, name)
        _check_order(given or [], order, inner.merge_key)
        if before is None and given is None:
            continue
        if given is None:
            result = before or []
        elif before is None:
            result = _as_given(given)
        else:
            result = _merge_list(before, given, kind, name, delete_list=False)
        merged[name] = _arranged(result, order, before or [], inner.merge_key)
        patch.pop(name, None)


def _go_type(value: Any) -> str:
    names = {dict: "map[string]interface {}", list: "[]interface {}", str: "string", bool: "bool", int: "int64"}
    return names.get(value.__class__, "float64" if isinstance(value, float) else "<nil>")


def _check_order(given: list[Any], order: list[Any], merge_key: str) -> None:
    """What the patch adds or changes must come in the order that it prescribes."""
    if not order or not given:
        return
    waiting = [v for v in given if not (isinstance(v, dict) and _PATCH in v)]
    at = 0
    for item in order:
        if at < len(waiting) and _key_of(waiting[at], merge_key) == _key_of(item, merge_key):
            at += 1
    if at < len(waiting):
        raise errors.plain(
            f"The order in patch list:\n{goformat.show(given)}\n doesn't match {_ORDER} list:\n{goformat.show(order)}\n"
        )


def _key_of(item: Any, merge_key: str) -> Any:
    if not merge_key:
        return _comparable(item)
    if not isinstance(item, dict):
        raise errors.plain(f"expected a map[string]interface {{}}, but received a {_go_type(item)}")
    if merge_key not in item:
        raise errors.plain(f"map: {goformat.show(item)} does not contain declared merge key: {merge_key}")
    return _comparable(item[merge_key])


def _comparable(key: Any) -> Any:
    """The key itself, or how it is printed if it is a list or map, which no valid object has for a key."""
    return goformat.show(key) if isinstance(key, list | dict) else key


def _merge_list(before: list[Any], patch: list[Any], kind: Type, name: str, *, delete_list: bool) -> list[Any]:
    inner, strategies = _lookup(kind, name)
    if "merge" not in strategies:
        return patch
    if not before and not patch:
        return before
    if not _are_maps([before, patch]):
        if delete_list:
            return [v for v in before if v not in patch]
        return _arranged(list(dict.fromkeys([*before, *patch])), patch, before, "")
    element, merge_key = inner.element or ANY, inner.merge_key
    if not merge_key:
        raise errors.plain(f"cannot merge lists without merge key for {element.go.rpartition('.')[2]}")
    kept, added = _without_directives(before, patch, merge_key)
    merged = list(kept)
    for item in added:
        wanted = _key_of(item, merge_key)
        at = next(
            (i for i, v in enumerate(merged) if isinstance(v, dict) and _comparable(v.get(merge_key)) == wanted), None
        )
        if at is None:
            merged.append(_as_given(item))
        else:
            merged[at] = _merge_map(merged[at], item, element)
    return _arranged(merged, added, kept, merge_key)


def _are_maps(lists: list[list[Any]]) -> bool:
    """Whether the items are maps; they must all be of one type."""
    found = {item.__class__ for items in lists for item in items}
    if list in found:
        raise errors.rejected()
    if len(found) > 1:
        raise errors.plain(f"list element types are not identical: {goformat.show(lists)}")
    return dict in found


def _without_directives(before: list[Any], patch: list[Any], merge_key: str) -> tuple[list[Any], list[Any]]:
    """What is left of the list, and what the patch has for it, once items with $patch have had their effect."""
    ordinary, replace = [], False
    for item in patch:
        match item.get(_PATCH, _PATCH):
            case "$patch":
                ordinary.append(item)
            case "delete":
                gone = _key_of(item, merge_key)
                before = [v for v in before if _comparable(v.get(merge_key)) != gone]
            case "replace":
                replace = True
            case "merge":
                raise errors.plain("merging lists cannot yet be specified in the patch")
            case other:
                raise errors.plain(f"unknown patch type: {goformat.show(other)} in map: {goformat.show(item)}")
    return ([_as_given(v) for v in ordinary], []) if replace else (before, ordinary)


def _arranged(merged: list[Any], wanted: list[Any], before: list[Any], merge_key: str) -> list[Any]:
    """`merged` with its items in the order of `wanted`, and those not in it where `before` had them."""
    place_wanted = _places(wanted, merge_key)
    place_before = _places(before, merge_key)
    key_of = functools.partial(_key_of, merge_key=merge_key)
    from_patch = sorted((v for v in merged if key_of(v) in place_wanted), key=lambda v: place_wanted[key_of(v)])
    server_only = [v for v in merged if key_of(v) not in place_wanted]
    server_only.sort(key=lambda v: place_before.get(key_of(v), len(place_before)))
    out: list[Any] = []
    i = j = 0
    while i < len(server_only) and j < len(from_patch):
        left, right = place_before.get(key_of(server_only[i])), place_before.get(key_of(from_patch[j]))
        if left is not None and right is not None and left < right:
            out.append(server_only[i])
            i += 1
        else:
            out.append(from_patch[j])
            j += 1
    return out + server_only[i:] + from_patch[j:]


def _places(items: list[Any], merge_key: str) -> dict[Any, int]:
    places: dict[Any, int] = {}
    for i, item in enumerate(items):
        places.setdefault(_key_of(item, merge_key), i)
    return places
