"""Records as answers, in whatever representation was asked for.

Whatever can be made once is made once: in the stored version an object's JSON is the record's own bytes, and other
representations are kept with the record.

Source: k8s.io/apiserver/pkg/endpoints/handlers/response.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from controlplane.apiserver import yamltext
from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.handlers import table
from controlplane.apiserver.handlers.exchange import JSON, PROTOBUF, YAML, Answer
from controlplane.apiserver.handlers.forms import (
    json_of,
    message_of,
    metadata_message_of,
    metadata_of,
    protobuf_of,
)
from controlplane.apiserver.http.pieces import Joined
from controlplane.apiserver.negotiation import Form, not_acceptable
from controlplane.apiserver.resources import Served
from machinery.api.protobuf import envelope


def encode(data: bytes, form: Form, status: int = 200) -> Answer:
    """An answer from JSON, in the media type asked for."""
    if form.media == YAML:
        return Answer(yamltext.dumps(orjson.loads(data)), YAML, status)
    if form.media == PROTOBUF:
        try:
            return Answer(envelope.encode(orjson.loads(data)), PROTOBUF, status)
        except envelope.UnsupportedKindError as exc:
            raise not_acceptable() from exc
    if form.pretty:
        return Answer(orjson.dumps(orjson.loads(data), option=orjson.OPT_INDENT_2) + b"\n", JSON, status)
    return Answer(data, JSON, status)


def one(record: Record, served: Served, form: Form, include: str = "", status: int = 200) -> Answer:
    """The answer that is one object. `include` is the Table's includeObject."""
    if not form.shape:
        if form.media == JSON and not form.pretty:
            return Answer(json_of(record, served), JSON, status)
        if form.media == PROTOBUF:
            return Answer(protobuf_of(record, served), PROTOBUF, status)
        return encode(json_of(record, served), form, status)
    if form.shape == "PartialObjectMetadata":
        return encode(metadata_of(record, served, form.shape_version), form, status)
    if form.shape == "Table":
        revision = str(record.revision) if record.revision else ""
        rendered = table.render([record], served, form.shape_version, include, {"resourceVersion": revision})
        return encode(rendered, form, status)
    raise not_acceptable()


def many(records: Sequence[Record], served: Served, form: Form, metadata: dict[str, Any], include: str = "") -> Answer:
    """The answer that is a list; `metadata` is the list's."""
    if form.media == PROTOBUF and form.shape != "Table":
        return Answer(_protobuf_list(records, served, form, metadata), PROTOBUF)
    if not form.shape:
        data = _list(records, served, metadata)
        return Answer(data) if form.media == JSON and not form.pretty else encode(bytes(data), form)
    if form.shape == "Table":
        return encode(table.render(records, served, form.shape_version, include, metadata), form)
    if form.shape == "PartialObjectMetadataList":
        items = b",".join([metadata_of(record, served, form.shape_version) for record in records])
        head = b'{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/%b","metadata":%b,"items":[' % (
            form.shape_version.encode(),
            orjson.dumps(metadata),
        )
        return encode(head + items + b"]}", form)
    raise not_acceptable()


def _protobuf_list(records: Sequence[Record], served: Served, form: Form, metadata: dict[str, Any]) -> bytes:
    if form.shape:
        api_version = f"meta.k8s.io/{form.shape_version}"
        items = [metadata_message_of(record, served, form.shape_version) for record in records]
        return envelope.encode_list(api_version, "PartialObjectMetadataList", metadata, items)
    kind = served.type
    messages = [message_of(record, served) for record in records]
    return envelope.encode_list(kind.api_version, kind.list_kind, metadata, messages)


def _list(records: Sequence[Record], served: Served, metadata: dict[str, Any]) -> bytes | Joined:
    resource = served.type
    if served.custom:
        return _custom_list(records, served, metadata)
    head = b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
        resource.list_kind.encode(),
        resource.api_version.encode(),
        orjson.dumps(metadata),
    )
    if not records:
        return head + b"]}"
    # items of built-in kinds are told without kind and apiVersion, which come first in the bytes
    lead = b'{"kind":"%b","apiVersion":"%b",' % (resource.kind.encode(), resource.api_version.encode())
    if served.view is None:
        values = [record.value for record in records]
    else:
        values = [json_of(record, served) for record in records]
    if served.schema is None or not all(value.startswith(lead) for value in values):
        return head + b",".join([_bare(value, served) for value in values]) + b"]}"
    return Joined(head + b"{", values, b",{", b"]}", len(lead))


def _custom_list(records: Sequence[Record], served: Served, metadata: dict[str, Any]) -> bytes:
    """As upstream tells lists of custom resources: items are whole, and continue is never left out."""
    resource = served.type
    return b'{"apiVersion":"%b","items":[%b],"kind":"%b","metadata":%b}' % (
        resource.api_version.encode(),
        b",".join([json_of(record, served) for record in records]),
        resource.list_kind.encode(),
        orjson.dumps({"continue": "", **metadata}),
    )


def _bare(value: bytes, served: Served) -> bytes:
    if served.schema is None:
        return value
    obj = orjson.loads(value)
    obj.pop("kind", None)
    obj.pop("apiVersion", None)
    return orjson.dumps(obj)
