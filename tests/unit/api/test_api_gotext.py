"""Objects as Go prints them, what Go says of values that don't fit, and parts that are text."""

from typing import Any

import orjson
import pytest

from machinery.api import goconvert, goorder, rawtext, schema
from machinery.api.patch import json as json_patch
from machinery.api.patch import merge
from machinery.api.schema import KindSchema


def kind(group: str, version: str, name: str) -> KindSchema:
    found = schema.load().of(group, version, name)
    assert found is not None
    return found


CONFIG_MAP = kind("", "v1", "ConfigMap")
DEPLOYMENT = kind("apps", "v1", "Deployment")
REVISION = kind("apps", "v1", "ControllerRevision")
CLASS = kind("resource.k8s.io", "v1", "DeviceClass")


@pytest.mark.parametrize(
    ("message", "first"),
    [
        ("meta.v1.ObjectMeta", ("name", "generateName", "namespace")),
        ("core.v1.ConfigMap", ("metadata", "immutable", "data", "binaryData")),
        ("core.v1.PodSpec", ("volumes", "initContainers", "containers", "ephemeralContainers", "restartPolicy")),
        ("core.v1.NodeSpec", ("podCIDR", "podCIDRs", "providerID", "unschedulable", "taints")),
        ("core.v1.EphemeralContainer", ("name", "image", "command")),
        ("no.v1.Such", ()),
    ],
)
def test_fields_stand_as_go_declares_them(message: str, first: tuple[str, ...]) -> None:
    assert goorder.fields(message)[: len(first)] == first


def test_only_what_a_patch_went_through_is_sorted() -> None:
    before = {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"labels": {"b": "1", "a": "2"}, "uid": "u", "name": "n"},
        "data": {"z": "1"},
    }
    after = merge.apply(before, {"data": {"a": "2"}})
    shown = goorder.dumps(CONFIG_MAP.type, after, goorder.taken_apart(before, after))
    assert shown == (
        '{"apiVersion":"v1","data":{"a":"2","z":"1"},"kind":"ConfigMap",'
        '"metadata":{"name":"n","uid":"u","labels":{"a":"2","b":"1"}}}'
    )
    after = json_patch.apply(before, [{"op": "add", "path": "/metadata/name", "value": "m"}])
    shown = goorder.dumps(CONFIG_MAP.type, after, goorder.taken_apart(before, after))
    assert '"metadata":{"labels":{"a":"2","b":"1"},"name":"m","uid":"u"}' in shown


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"spec": {"replicas": 1}}, ""),
        ({"spec": {"replicas": "x"}}, "unrecognized type: int32"),
        ({"spec": {"replicas": 1.5}}, "cannot convert float64 to int32"),
        ({"spec": 3}, "cannot restore struct from: int64"),
        ({"spec": {"template": {"spec": {"containers": "x"}}}}, "cannot restore slice from string"),
        ({"metadata": {"labels": []}}, "cannot restore map from slice"),
        ({"metadata": {"labels": {"a": 1}}}, "cannot convert int64 to string"),
        ({"metadata": {"labels": {"a": True}}}, "unrecognized type: string"),
        ({"metadata": {"name": {}}}, "unrecognized type: string"),
        ({"spec": {"paused": "yes"}, "metadata": {"name": 1}}, "cannot convert int64 to string"),
        (
            {"spec": {"strategy": {"rollingUpdate": {"maxSurge": True}}}},
            "json: cannot unmarshal bool into Go value of type int32",
        ),
    ],
)
def test_what_does_not_fit_into_a_struct(value: Any, told: str) -> None:
    assert goconvert.mismatch(DEPLOYMENT.type, value) == told


def test_bytes_must_be_base64() -> None:
    secret = kind("", "v1", "Secret")
    told = goconvert.mismatch(secret.type, {"data": {"a": "?"}})
    assert told == "error decoding from json: illegal base64 data at input byte 0"


@pytest.mark.parametrize(
    ("text", "spaced"),
    [
        (b'{"data":{"a":1}}', False),
        (b'{"data": {"a":1} }', False),
        (b'{"data":{"a": 1}}', True),
        (b'{"x":["]",{"data":{}}],"data":{"a":\n1}}', True),
        (b'{"data":null}', False),
    ],
)
def test_a_part_remembers_that_it_was_sent_with_white_space(text: bytes, spaced: bool) -> None:
    obj = rawtext.marked(REVISION.type, orjson.loads(text), text)
    assert isinstance(obj["data"], rawtext.Spaced) is spaced
    assert orjson.loads(rawtext.dumps(obj)) == orjson.loads(text)


def test_a_spaced_part_equals_only_its_like_and_keeps_that_in_storage() -> None:
    sent = b'{"spec":{"config":[{"opaque":{"driver":"d","parameters":{"a": 1}}}]}}'
    obj = rawtext.marked(CLASS.type, orjson.loads(sent), sent)
    plain = orjson.loads(sent)
    assert obj != plain
    stored = rawtext.dumps(obj)
    assert b'"parameters":{ "a":1}' in stored
    again = rawtext.marked(CLASS.type, orjson.loads(stored), stored)
    assert again == obj
    assert rawtext.marked(CLASS.type, plain, orjson.dumps(plain)) == plain


def test_most_kinds_have_no_opaque_parts() -> None:
    assert rawtext.paths(DEPLOYMENT.type) == {}
    assert rawtext.paths(REVISION.type) == {"data": {}}
