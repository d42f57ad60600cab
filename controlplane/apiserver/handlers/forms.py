"""The forms of one object, each made once and kept with its record.

In the stored version an object's JSON is the record's own bytes; other versions and partial metadata are made on first
use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.resources import Served
from machinery.api.meta import Object
from machinery.api.protobuf import envelope


def kept(record: Record, key: Any, make: Callable[[], Any]) -> Any:
    """What `make` gave the first time it was asked for under this key."""
    forms = record.forms
    if forms is None:
        forms = record.forms = {}
    found = forms.get(key)
    if found is None:
        found = forms[key] = make()
    return found


def known(record: Record, key: Any) -> Any:
    """What is kept under this key, if anything."""
    return record.forms.get(key) if record.forms is not None else None


async def present(records: Sequence[Record], served: Served) -> None:
    """Make sure that records can be shown in the served version: a webhook may have to convert them."""
    if served.conversion is not None:
        await served.conversion.present(records)


async def storable(obj: Object, served: Served) -> Object:
    """What to store for an object of the served version."""
    return obj if served.conversion is None else await served.conversion.to_stored(obj)


def viewed(record: Record, served: Served) -> Object:
    """The object in the served version; shared, not to be changed."""
    if served.conversion is not None:
        return served.conversion.of(record)
    if served.view is None:
        return record.object
    view = served.view
    found: Object = kept(record, ("object", served.type), lambda: view.from_stored(record.object))
    return found


def json_of(record: Record, served: Served) -> bytes:
    """The object's JSON in the served version."""
    if served.view is None and served.conversion is None:
        return record.value
    found: bytes = kept(
        record, ("json", served.conversion or served.type), lambda: orjson.dumps(viewed(record, served))
    )
    return found


def message_of(record: Record, served: Served) -> bytes:
    """The object's protobuf message in the served version, as it stands in a list. Raises UnsupportedKindError."""
    found: bytes = kept(record, ("message", served.type), lambda: envelope.encode_message(viewed(record, served)))
    return found


def protobuf_of(record: Record, served: Served) -> bytes:
    """The object as a protobuf document in the served version. Raises UnsupportedKindError."""
    kind = served.type

    def make() -> bytes:
        return envelope.envelope(kind.api_version, kind.kind, message_of(record, served))

    found: bytes = kept(record, ("protobuf", kind), make)
    return found


def metadata_message_of(record: Record, served: Served, version: str) -> bytes:
    """The protobuf message of the object's PartialObjectMetadata."""

    def make() -> bytes:
        return envelope.encode_message(orjson.loads(metadata_of(record, served, version)))

    found: bytes = kept(record, ("metadata message", version), make)
    return found


def metadata_of(record: Record, served: Served, version: str) -> bytes:
    """The object as PartialObjectMetadata."""

    def make() -> bytes:
        metadata = record.object["metadata"]
        hidden = served.strategy.hidden_annotation
        if hidden and hidden in metadata.get("annotations", ()):
            left = {k: v for k, v in metadata["annotations"].items() if k != hidden}
            metadata = {k: v for k, v in metadata.items() if k != "annotations"} | (
                {"annotations": left} if left else {}
            )
        return orjson.dumps(
            {
                "kind": "PartialObjectMetadata",
                "apiVersion": f"meta.k8s.io/{version}",
                "metadata": metadata,
            }
        )

    found: bytes = kept(record, ("metadata", version), make)
    return found
