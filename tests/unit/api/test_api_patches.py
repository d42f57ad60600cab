import copy
import re
from typing import Any

import pytest

from machinery.api import schema
from machinery.api.patch import errors, goformat, merge, strategic
from machinery.api.patch import json as json_patch
from machinery.errors import BadRequest, Invalid, StatusError, TooLarge

FOUND = schema.load().of("apps", "v1", "Deployment")
assert FOUND is not None
DEPLOYMENTS = FOUND


@pytest.mark.parametrize(
    ("operations", "after"),
    [
        ([], {"a": {"x/y": 1}, "l": [1, 2]}),
        ([{"op": "add", "path": "/a/b", "value": None}], {"a": {"x/y": 1, "b": None}, "l": [1, 2]}),
        ([{"op": "add", "path": "/l/1", "value": 9}], {"a": {"x/y": 1}, "l": [1, 9, 2]}),
        ([{"op": "add", "path": "/l/-", "value": 9}], {"a": {"x/y": 1}, "l": [1, 2, 9]}),
        ([{"op": "replace", "path": "/l/-1", "value": 9}], {"a": {"x/y": 1}, "l": [1, 9]}),
        ([{"op": "replace", "path": "/a/x~1y", "value": 2}], {"a": {"x/y": 2}, "l": [1, 2]}),
        ([{"op": "replace", "path": "/new", "value": 2}], {"a": {"x/y": 1}, "l": [1, 2], "new": 2}),
        ([{"op": "remove", "path": "/l/0"}], {"a": {"x/y": 1}, "l": [2]}),
        ([{"op": "move", "from": "/a/x~1y", "path": "/b"}], {"a": {}, "l": [1, 2], "b": 1}),
        (
            [{"op": "copy", "from": "/l", "path": "/m"}, {"op": "add", "path": "/m/0", "value": 0}],
            {"a": {"x/y": 1}, "l": [1, 2], "m": [0, 1, 2]},
        ),
        ([{"op": "test", "path": "/l", "value": [1, 2]}], {"a": {"x/y": 1}, "l": [1, 2]}),
        ([{"op": "test", "path": "/none", "value": None}], {"a": {"x/y": 1}, "l": [1, 2]}),
    ],
)
def test_a_json_patch_changes_a_copy(operations: Any, after: Any) -> None:
    before = {"a": {"x/y": 1}, "l": [1, 2]}
    kept = copy.deepcopy(before)
    assert json_patch.apply(before, operations) == after
    assert before == kept


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "merge", "path": "/a"},
        {"op": "remove", "path": "/none"},
        {"op": "add", "path": "/none/x", "value": 1},
        {"op": "add", "path": "", "value": 1},
        {"op": "add", "path": "/l/3", "value": 1},
        {"op": "add", "path": "/l/x", "value": 1},
        {"op": "add", "path": "/a/x/y", "value": 1},
        {"op": "test", "path": "/a/x", "value": True},
        {"op": "move", "path": "/b"},
        {"op": "add"},
    ],
)
def test_an_operation_that_does_not_apply_is_rejected_without_details(operation: Any) -> None:
    with pytest.raises(Invalid, match="the server rejected our request due to an error in our request"):
        json_patch.apply({"a": {"x": 1}, "l": [1, 2]}, [operation])


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        ({"op": "add"}, "object into Go value of type []handlers.jsonPatchOp"),
        (["x"], "string into Go value of type handlers.jsonPatchOp"),
        ([{"op": 5}], "number into Go struct field jsonPatchOp.op of type string"),
    ],
)
def test_what_is_no_json_patch_is_refused(operations: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(f"error decoding patch: json: cannot unmarshal {message}")):
        json_patch.apply({}, operations)


def test_patches_that_are_null() -> None:
    doc = {"a": 1}
    assert json_patch.apply(doc, None) == doc
    assert strategic.apply(DEPLOYMENTS, doc, None) == doc
    with pytest.raises(BadRequest, match="Invalid JSON Patch"):
        merge.apply(doc, None)
    with pytest.raises(StatusError) as caught:
        json_patch.apply(doc, [None])
    assert caught.value.code == 422


def test_keys_of_lists_that_are_no_words() -> None:
    doc = {"spec": {"template": {"spec": {"containers": [{"name": [1]}, {"name": "a"}]}}}}
    changed = {"name": "a", "image": "i"}
    made = strategic.apply(DEPLOYMENTS, doc, {"spec": {"template": {"spec": {"containers": [changed]}}}})
    assert made["spec"]["template"]["spec"]["containers"] == [{"name": [1]}, changed]


def test_a_json_patch_may_not_be_endless() -> None:
    with pytest.raises(TooLarge, match="maximum operations in a JSON patch is 10000, got 10001"):
        json_patch.apply({}, [{"op": "add", "path": "/a", "value": 1}] * 10_001)


def test_unknown_members_of_operations_are_named() -> None:
    assert json_patch.strict_errors([None, 1, {"op": "add"}]) == []
    assert json_patch.strict_errors([{"op": "add"}, {"op": "add", "extra": 1}]) == [
        'json patch unknown field "[1].extra"'
    ]


def test_a_merge_patch_merges_maps_and_replaces_the_rest() -> None:
    before = {"a": {"b": 1, "c": 2}, "l": [1], "s": "x"}
    patch = {"a": {"b": None, "d": {"e": None, "f": 1}}, "l": [{"g": None}], "n": None, "s": {"t": None}}
    assert merge.apply(before, patch) == {"a": {"c": 2, "d": {"f": 1}}, "l": [{}], "s": {}}
    assert before == {"a": {"b": 1, "c": 2}, "l": [1], "s": "x"}
    with pytest.raises(BadRequest, match=r"cannot unmarshal array into Go value of type map\[string\]interface \{\}$"):
        merge.apply({}, [1])


def deployment(**pod_spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "d"}, "spec": {"template": {"spec": pod_spec}}}


CONTAINERS: list[dict[str, Any]] = [
    {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
    {"name": "b", "image": "b:1", "args": ["1"]},
]


@pytest.mark.parametrize(
    ("patch", "after"),
    [
        ({"containers": [{"name": "b", "image": "b:2"}]}, [CONTAINERS[0], CONTAINERS[1] | {"image": "b:2"}]),
        ({"containers": [{"name": "c", "image": None}]}, [{"name": "c"}, *CONTAINERS]),
        ({"containers": [{"name": "a", "$patch": "delete"}]}, [CONTAINERS[1]]),
        ({"containers": [{"$patch": "replace"}, {"name": "z"}]}, [{"name": "z"}]),
        ({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}, [CONTAINERS[1], CONTAINERS[0]]),
        (
            {
                "$setElementOrder/containers": [{"name": "b"}, {"name": "n"}, {"name": "a"}],
                "containers": [{"name": "n"}],
            },
            [CONTAINERS[1], {"name": "n"}, CONTAINERS[0]],
        ),
        (
            {"containers": [{"name": "a", "env": [{"name": "Y", "value": "20"}, {"name": "Z", "value": "3"}]}]},
            [
                {
                    "name": "a",
                    "image": "a:1",
                    "env": [
                        {"name": "X", "value": "1"},
                        {"name": "Y", "value": "20"},
                        {"name": "Z", "value": "3"},
                    ],
                },
                CONTAINERS[1],
            ],
        ),
        ({"containers": [{"name": "b", "args": ["2", "3"]}]}, [CONTAINERS[0], CONTAINERS[1] | {"args": ["2", "3"]}]),
    ],
)
def test_a_strategic_patch_merges_lists_by_their_key(patch: Any, after: Any) -> None:
    before = deployment(containers=CONTAINERS)
    kept = copy.deepcopy(before)
    made = strategic.apply(DEPLOYMENTS, before, {"spec": {"template": {"spec": patch}}})
    assert made["spec"]["template"]["spec"]["containers"] == after
    assert before == kept


def test_directives_for_maps_and_lists_of_scalars() -> None:
    before = {
        "metadata": {"labels": {"a": "1"}, "annotations": {"b": "2"}, "finalizers": ["x/1", "x/2"]},
        "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}},
    }
    patch = {
        "metadata": {
            "labels": {"$patch": "replace", "only": "this"},
            "annotations": {"$patch": "delete"},
            "$deleteFromPrimitiveList/finalizers": ["x/1"],
            "ownerReferences": [{"uid": "u", "$patch": "delete"}],
        },
        "spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}},
    }
    assert strategic.apply(DEPLOYMENTS, before, patch) == {
        "metadata": {"labels": {"only": "this"}, "annotations": {}, "finalizers": ["x/2"], "ownerReferences": []},
        "spec": {"strategy": {"type": "Recreate"}},
    }
    added = strategic.apply(DEPLOYMENTS, before, {"metadata": {"finalizers": ["x/3", "x/2"]}})
    assert added["metadata"]["finalizers"] == ["x/3", "x/1", "x/2"]


@pytest.mark.parametrize(
    ("patch", "code", "message"),
    [
        ({"metadata": {"labels": {"$patch": "odd"}}}, 500, "unknown patch type: odd in map: map[$patch:odd]"),
        (
            {"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}},
            500,
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            {
                "spec": {
                    "template": {
                        "spec": {
                            "$setElementOrder/containers": [{"name": "b"}],
                            "containers": [{"name": "a", "image": "a:9"}],
                        }
                    }
                }
            },
            500,
            "The order in patch list:\n[map[image:a:9 name:a]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n",
        ),
        ({"metadata": {"labels": {"$retainKeys": ["a"], "b": "c"}}}, 400, "invalid patch format of retainKeys"),
        (
            {"metadata": {"$deleteFromPrimitiveList": ["a"]}},
            400,
            "invalid patch format of primitive list",
        ),
        (
            {"spec": {"template": {"spec": {"containers": [{"$patch": "merge", "name": "a"}]}}}},
            500,
            "merging lists cannot yet be specified in the patch",
        ),
        (
            [],
            400,
            "json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
    ],
)
def test_a_strategic_patch_that_can_not_be_merged(patch: Any, code: int, message: str) -> None:
    before = deployment(containers=CONTAINERS) | {"metadata": {"labels": {"l": "m"}}}
    with pytest.raises(StatusError) as caught:
        strategic.apply(DEPLOYMENTS, before, patch)
    assert (caught.value.code, caught.value.message) == (code, message)
    assert caught.value.reason == ("BadRequest" if code == 400 else "")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"b": [1, None, True], "a": "x y"}, "map[a:x y b:[1 <nil> true]]"),
        (1.0, "1"),
        (1.5, "1.5"),
        (0.00001, "1e-05"),
        (1e21, "1e+21"),
        (1e5, "100000"),
        (-0.5, "-0.5"),
        (123456789.5, "1.234567895e+08"),
        ({}, "map[]"),
    ],
)
def test_values_are_shown_as_go_shows_them(value: Any, shown: str) -> None:
    assert goformat.show(value) == shown


def test_an_object_that_a_patch_made_unreadable_is_shown() -> None:
    error = errors.unreadable('{"a":1}', "why")
    assert error.message == ' "" is invalid: patch: Invalid value: "{\\"a\\":1}": why'
