"""The fields of new objects are those that a comparison with nothing finds, whether their values were seen or not."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest

from machinery.api import schema
from machinery.api.patch import fieldset, newness, typed

SCHEMAS = schema.load()
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "labels": {"b": "1", "a": "2"}, "finalizers": ["x/y"]},
    "spec": {
        "terminationGracePeriodSeconds": 30,
        "containers": [
            {"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {}},
            {"name": "b", "image": "i", "env": [{"name": "A", "value": ""}], "args": ["x"]},
        ],
        "tolerations": [{"operator": "Exists"}],
    },
}
OBJECTS: list[tuple[str, str, dict[str, Any]]] = [
    ("", "Pod", POD),
    ("", "Pod", {"metadata": {"name": "bare"}}),
    ("", "ConfigMap", {"metadata": {"name": "c"}, "data": {"z": "1", "a": "2"}}),
    ("apps", "Deployment", {"metadata": {"name": "d"}, "spec": {"template": {"spec": POD["spec"]}, "replicas": 1}}),
    ("", "Service", {"spec": {"ports": [{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP"}]}}),
]


@pytest.mark.parametrize(
    ("group", "kind", "new"), OBJECTS, ids=[f"{kind}-{n}" for n, (_, kind, _) in enumerate(OBJECTS)]
)
def test_a_new_object_has_what_a_comparison_finds(group: str, kind: str, new: dict[str, Any]) -> None:
    which = SCHEMAS.of(group, "v1", kind)
    assert which is not None
    expected = typed.compare(which.type, which.empty, new)
    printed = orjson.dumps(fieldset.sort(fieldset.union(expected.modified, expected.added)))
    for _ in range(2):
        assert orjson.dumps(newness.fields_of_new(which, copy.deepcopy(new))) == printed


def test_another_value_is_not_taken_for_one_that_was_seen() -> None:
    which = SCHEMAS.of("", "v1", "ConfigMap")
    assert which is not None
    for key in ("a", "b", "a"):
        assert newness.fields_of_new(which, {"data": {key: "1"}}) == {"f:data": {".": {}, f"f:{key}": {}}}
