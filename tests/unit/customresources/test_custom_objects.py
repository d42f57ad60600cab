"""What writes of custom resources are refused for, and what their writers are warned of."""

import copy
from typing import Any

import pytest

from controlplane.apiserver.customresources.conversion import checked
from controlplane.apiserver.customresources.openapi import published_part
from controlplane.apiserver.customresources.printing import columns_of
from controlplane.apiserver.customresources.serving import served_of
from controlplane.apiserver.registry.strategy import Strategy
from machinery.api.resource import ResourceType
from machinery.api.structural.validation import NOT_CHECKED
from machinery.errors import NavarchError

NUMBER = {"type": "integer"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "replicas": NUMBER,
                "mode": {"type": "string", "enum": ["a", "b"]},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "byName": {
                    "type": "object",
                    "additionalProperties": {"type": "array", "x-kubernetes-list-type": "set", "items": NUMBER},
                },
                "part": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "x-kubernetes-preserve-unknown-fields": True,
                },
            },
        },
        "status": {
            "type": "object",
            "properties": {"replicas": NUMBER, "selector": {"x-kubernetes-preserve-unknown-fields": True}},
        },
    },
    "x-kubernetes-validations": [
        {"rule": "!has(self.status) || !has(self.status.replicas) || self.status.replicas <= self.spec.replicas"}
    ],
}
PART = {"apiVersion": "v1", "kind": "Pod"}


def strategy() -> Strategy:
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": SCHEMA},
        "subresources": {"status": {}, "scale": scale},
    }
    names = {"plural": "ships", "kind": "Ship"}
    definition = {
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
        "status": {"acceptedNames": names},
    }
    unused: Any = None
    return served_of(definition, unused)[0].strategy


SHIPS = strategy()


def ship(status: Any = None, **spec: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"replicas": 3, **spec}}
    return made if status is None else {**made, "status": status}


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (ship(part=PART), ""),
        (ship(part={"kind": "Pod"}), "spec.part.apiVersion: Required value"),
        (ship(part={**PART, "kind": ""}), "spec.part.kind: Required value"),
        (ship(part={**PART, "apiVersion": "a/b/c"}), "unexpected GroupVersion string: a/b/c"),
        (ship(part={**PART, "kind": "a b"}), "may have mixed case, but should otherwise match: a DNS-1035 label must"),
        (
            ship(part={**PART, "metadata": {"labels": {"a b": "x"}}}),
            'spec.part.metadata.labels: Invalid value: "a b": name part must consist of',
        ),
        (ship(part={**PART, "metadata": {"name": "a/b"}}), "spec.part.metadata.name: Invalid value"),
        (ship(byName={"x": [1, 1]}), "spec.byName[x][1]: Duplicate value: 1"),
        (ship(replicas=-1), ".spec.replicas: Invalid value: -1: should be a non-negative integer"),
        (ship({"replicas": -(2**31)}), ".status.replicas: Invalid value: -2147483648: should be a"),
        (
            ship({"selector": 1}),
            '.status.selector: Invalid value: "": .status.selector accessor error: 1 is of the type int64, expected '
            "string",
        ),
        (ship({"replicas": 4}), 'Invalid value: "object": failed rule: !has(self.status)'),
    ],
)
def test_what_is_wrong_with_a_new_one(obj: dict[str, Any], message: str) -> None:
    found = [str(e) for e in SHIPS.validate(obj) if e != NOT_CHECKED]
    assert len(found) == bool(message), found
    assert not found or message in found[0]


def test_rules_wait_for_values_that_are_allowed() -> None:
    found = [str(error) for error in SHIPS.validate(ship({"replicas": 4}, mode="c"))]
    assert found[0].startswith('spec.mode: Unsupported value: "c"')
    assert "some validation rules were not checked because the object was invalid" in found[1]
    assert len(found) == 2


def test_rules_of_the_whole_hold_for_its_status() -> None:
    old = ship({"replicas": 1}, mode="c", part={})
    new = copy.deepcopy(old)
    new["status"]["replicas"] = 4
    found = [str(error) for error in SHIPS.validate_status_update(new, old)]
    assert len(found) == 1
    assert found[0].startswith('<nil>: Invalid value: "object": failed rule: !has(self.status)')
    new["status"]["replicas"] = 2
    assert SHIPS.validate_status_update(new, old) == []


def test_what_was_there_twice_may_be() -> None:
    old, new = ship(tags=["a", "a"]), ship(tags=["a", "a", "b", "b"])
    assert SHIPS.validate_update(new, old) == []
    assert [str(e) for e in SHIPS.validate_update(new, ship())] == [
        'spec.tags[1]: Duplicate value: "a"',
        'spec.tags[3]: Duplicate value: "b"',
    ]


def test_finalizers_are_best_named_after_a_domain() -> None:
    new = ship()
    new["metadata"]["finalizers"] = ["mine", "example.com/ours", "orphan", "a b"]
    told = SHIPS.warnings(new, None)
    assert [t for t in told if "prefer" in t] == [
        f'metadata.finalizers: "{name}": prefer a domain-qualified finalizer name to avoid accidental conflicts with '
        "other finalizer writers"
        for name in ("a b", "mine")
    ]
    assert any(t.startswith('metadata.finalizers: "a b": name part must consist of') for t in told)
    assert SHIPS.warnings(new, new) == []


def test_columns_end_before_a_path_that_can_not_be_read() -> None:
    columns = [
        {"name": "A", "type": "string", "jsonPath": ".spec.a"},
        {"name": "B", "type": "string", "jsonPath": ".spec.b["},
        {"name": "C", "type": "string", "jsonPath": ".spec.c"},
    ]
    made = columns_of({"additionalPrinterColumns": columns})
    assert [column.name for column in made] == ["Name", "A"]


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "<no value>"), (True, "true"), (2.5e6, "2.5e+06"), ({"b": [1]}, '{"b":[1]}'), (3, "3")]
)
def test_anything_can_be_shown_as_text(value: Any, shown: str) -> None:
    column = columns_of({"additionalPrinterColumns": [{"name": "A", "type": "string", "jsonPath": ".a"}]})[1]
    assert column.cell({"a": value}) == shown


def test_what_is_published_of_int_or_strings_and_embedded_resources() -> None:
    either, other = [{"type": "integer"}, {"type": "string"}], [{"minimum": 1}, {"maximum": 3}]
    number = {"x-kubernetes-int-or-string": True}
    part = published_part(
        {
            "type": "object",
            "properties": {
                "a": number,
                "b": {**number, "anyOf": either},
                "c": {**number, "anyOf": other},
                "d": {"type": "array", "items": {"type": "object", "x-kubernetes-embedded-resource": True}},
            },
            "externalDocs": {"url": "x"},
        }
    )
    fields = part["properties"]
    assert "externalDocs" not in part
    assert fields["a"] == fields["b"] == {**number, "anyOf": either}
    assert fields["c"] == {**number, "anyOf": other, "allOf": [{"anyOf": either}]}
    assert set(fields["d"]["items"]["properties"]) == {"apiVersion", "kind", "metadata"}
    assert fields["d"]["items"]["required"] == ["kind", "apiVersion"]


STORED: dict[str, Any] = {
    "apiVersion": "example.com/v1",
    "kind": "Ship",
    "metadata": {"name": "a", "uid": "u", "labels": {"l": "1"}, "generation": 2},
}
WANTED = ResourceType("example.com", "v2", "ships", "Ship")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            {"apiVersion": "example.com/v3"},
            "object at index 0: invalid groupVersion (expected example.com/v2, received",
        ),
        ({"kind": "Boat"}, "object at index 0: invalid kind (expected Ship, received Boat)"),
        ({"metadata": {"name": "b", "uid": "u"}}, "object: must have the same name: a != b"),
        ({"metadata": {"name": "a", "uid": "v"}}, "object: must have the same UID: u != v"),
        (
            {"metadata": {"name": "a", "uid": "u", "labels": {"l": 1}}},
            "metadata: metadata.labels[l] must be a string, but is int64 in converted object",
        ),
        (
            {"metadata": {"name": "a", "uid": "u", "annotations": [1]}},
            "metadata: invalid metadata.annotations of type []interface {} in converted object",
        ),
        (
            {"metadata": {"name": "a", "uid": "u", "labels": {"a b": ""}}},
            'metadata: metadata.labels: Invalid value: "a b": name part must consist of',
        ),
    ],
)
def test_what_a_conversion_webhook_may_not_do(made: dict[str, Any], message: str) -> None:
    with pytest.raises(NavarchError) as caught:
        checked({**STORED, "apiVersion": "example.com/v2", **made}, STORED, WANTED)
    assert str(caught.value).startswith(message)


def test_metadata_is_restored_after_a_conversion() -> None:
    made = {**STORED, "apiVersion": "example.com/v2", "metadata": {"name": "a", "uid": "u", "annotations": {"x": "y"}}}
    assert checked(made, STORED, WANTED)["metadata"] == {
        "name": "a", "uid": "u", "generation": 2, "annotations": {"x": "y"},
    }  # fmt: skip
