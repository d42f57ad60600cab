"""Strict field validation: unknown and repeated fields of built-in kinds and of custom ones."""

from __future__ import annotations

import orjson
import pytest
from cluster import Cluster, shows
from connections import send
from definitions import ANYTHING, definition, served

from machinery.api.catalogue import DEPLOYMENTS
from machinery.api.meta import Object
from machinery.client.rest import APPLY

pytest_plugins = ["cluster_fixture"]

_STRICT = {"fieldManager": "field_validation_mgr", "fieldValidation": "Strict"}
_TEXT: Object = {"type": "string"}
_NUMBER: Object = {"type": "integer", "format": "int32"}
_PORT: Object = {
    "type": "object",
    "required": ["containerPort", "protocol"],
    "properties": {
        "containerPort": _NUMBER,
        "hostIP": _TEXT,
        "hostPort": _NUMBER,
        "name": _TEXT,
        "protocol": _TEXT,
    },
}
_PORTS: Object = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
    "items": _PORT,
}
_CRON: Object = {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"}
_FIELDS: Object = {"foo": _TEXT, "cronSpec": _CRON, "ports": _PORTS}
_PRESERVED: Object = {"x-kubernetes-preserve-unknown-fields": True}
_TEMPLATE: Object = {
    "type": "object",
    "x-kubernetes-embedded-resource": True,
    "properties": {"metadata": {"type": "object", "properties": {"name": _TEXT}}, "spec": {"type": "object"}},
}


def _schema(fields: Object, **more: bool) -> Object:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": fields} | more}}


_CLOSED = _schema(_FIELDS)
_OPEN = _schema(_FIELDS, **_PRESERVED)
_EMBEDDED = _schema(_FIELDS | {"template": _TEMPLATE}, **_PRESERVED)
_EMBEDS = """template:
    apiversion: foo/v1
    kind: Sub
    metadata:
        unknownSubMeta: unknown
        name: subobject
        namespace: default
  foo: foo1"""


def _document(head: str, metadata: str, top: str, fields: str) -> str:
    return f"""
{head}
metadata:
  name: mytest{metadata}
  finalizers:
  - test-finalizer
{top}spec:
  {fields}
  cronSpec: "* * * * */5"
  ports:
  - name: x
    containerPort: 80
    protocol: TCP"""


@pytest.mark.parametrize(
    ("schema", "metadata", "top", "fields", "told"),
    [
        shows(
            _CLOSED,
            "",
            "",
            "foo: foo1",
            (),
            name="[sig-api-machinery] FieldValidation should create/apply a valid CR for CRD with validation schema [Conformance]",
        ),
        shows(
            ANYTHING,
            "",
            "",
            "unknown: uk1",
            (),
            name="[sig-api-machinery] FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema [Conformance]",
        ),
        shows(
            _CLOSED,
            "",
            "unknownField: unknown\n",
            "foo: foo1",
            (".unknownField: field not declared in schema",),
            name="[sig-api-machinery] FieldValidation should create/apply an invalid CR with extra properties for CRD with validation schema [Conformance]",
        ),
        shows(
            _EMBEDDED,
            "\n  unknownMeta: unknown",
            "",
            _EMBEDS,
            (
                ".spec.template.metadata.unknownSubMeta: field not declared in schema",
                ".metadata.unknownMeta: field not declared in schema",
            ),
            name="[sig-api-machinery] FieldValidation should detect unknown metadata fields in both the root and embedded object of a CR [Conformance]",
        ),
        shows(
            _OPEN,
            "",
            "",
            "unknown: uk1\n  foo: foo1\n  foo: foo2",
            ('line 11: key "foo" already set in map',),
            name="[sig-api-machinery] FieldValidation should detect duplicates in a CR when preserving unknown fields [Conformance]",
        ),
    ],
)
async def test_custom_resource(
    cluster: Cluster, schema: Object, metadata: str, top: str, fields: str, told: tuple[str, ...]
) -> None:
    async with served(cluster, definition("v1beta1", "v1beta2", schema=schema, scope="Cluster")) as resource:
        text = _document(f"apiVersion: {resource.api_version}\nkind: {resource.kind}", metadata, top, fields)
        path = resource.path(name="mytest")
        status, said = await send(cluster, "PATCH", path, query=_STRICT, body=text, content_type=APPLY)
        if told:
            assert status >= 400
            assert all(each in said["message"] for each in told), said["message"]
        else:
            assert status == 201, said["message"]
            await cluster.patch(resource, "mytest", {"metadata": {"finalizers": None}})


_BODY: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "my-dep", "labels": {"app": "nginx"}},
    "spec": {
        "selector": {"matchLabels": {"app": "nginx"}},
        "template": {
            "metadata": {"labels": {"app": "nginx"}},
            "spec": {"containers": [{"name": "nginx", "image": "nginx:latest"}]},
        },
    },
}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        shows(
            '"spec":{"selector"',
            '"spec":{"unknownField":"foo","replicas":2,"replicas":3,"selector"',
            'strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas"',
            name="[sig-api-machinery] FieldValidation should detect unknown and duplicate fields of a typed object [Conformance]",
        ),
        shows(
            '"name":"my-dep",',
            '"name":"my-dep","unknownMeta":"foo",',
            'strict decoding error: unknown field "metadata.unknownMeta"',
            name="[sig-api-machinery] FieldValidation should detect unknown metadata fields of a typed object [Conformance]",
        ),
    ],
)
async def test_typed_object(cluster: Cluster, before: str, after: str, told: str) -> None:
    text = orjson.dumps(_BODY).decode().replace(before, after)
    status, said = await send(cluster, "POST", DEPLOYMENTS.path(cluster.namespace), query=_STRICT, body=text)
    assert status == 400
    assert told in said["message"]
