"""Which fields a new object has.

What was seen lately is remembered: all the pods of a workload have the same spec.

Source: sigs.k8s.io/structured-merge-diff/v6/typed (compare.go).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import orjson

from machinery.api.meta import Object
from machinery.api.patch import fieldset, typed
from machinery.api.patch.fieldset import FieldSet
from machinery.api.schema import KindSchema

_REMEMBERED: Final = 256
_LONGEST_BYTES: Final = 16 << 10  # of a value's JSON: what is longer is not worth its place
_UNIQUE: Final = "metadata"  # has a name that no other has

_seen: OrderedDict[tuple[int, str, bytes], tuple[KindSchema, FieldSet]] = OrderedDict()


def fields_of_new(schema: KindSchema, new: Object) -> FieldSet:
    """What an object has that one of which nothing was set has not, in the order of managedFields.

    Raises ElementError.
    """
    found: FieldSet = {}
    for name in sorted(new):
        found |= _field(schema, name, new[name])
    return found


def _field(schema: KindSchema, name: str, value: Any) -> FieldSet:
    if name == _UNIQUE or not isinstance(value, (dict, list)):
        return _compared(schema, name, value)
    text = orjson.dumps(value)
    key = (id(schema), name, text)
    known = _seen.get(key)
    if known is not None:
        _seen.move_to_end(key)
        return known[1]
    made = _compared(schema, name, value)
    if len(text) <= _LONGEST_BYTES:
        _seen[key] = (schema, made)  # with the schema, so that its id stays its own
        if len(_seen) > _REMEMBERED:
            _seen.popitem(last=False)
    return made


def _compared(schema: KindSchema, name: str, value: Any) -> FieldSet:
    before = {name: schema.empty[name]} if name in schema.empty else {}
    found = typed.compare(schema.type, before, {name: value})
    return fieldset.sort(fieldset.union(found.modified, found.added))
