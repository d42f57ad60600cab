"""Custom resources against their structural schemas: pruning, defaults, validation, ownership of fields."""

from __future__ import annotations

from typing import Any

import pytest

from machinery.api.patch import apply as ssa
from machinery.api.patch import fieldset
from machinery.api.structural import custom, definition, validation
from machinery.errors import Conflict

SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 10, "exclusiveMaximum": True},
        "mode": {"type": "string", "enum": ["fast", "slow"], "default": "slow"},
        "name": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 5},
        "ratio": {"type": "number", "multipleOf": 0.5},
        "port": {"x-kubernetes-int-or-string": True},
        "tags": {"type": "array", "maxItems": 2, "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "opts": {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "integer"}},
        "ip": {"type": "string", "format": "ipv4"},
        "nil": {"type": "string", "nullable": True},
        "inner": {"type": "object", "properties": {"deep": {"type": "integer", "default": 7}}},
        "free": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "properties": {"known": {"type": "object", "properties": {"x": {"type": "integer"}}}},
        },
        "emb": {
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "x-kubernetes-preserve-unknown-fields": True,
        },
        "rows": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name", "proto"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "proto": {"type": "string", "default": "TCP"},
                    "v": {"type": "integer", "maximum": 5},
                },
            },
        },
        "one": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
    },
}
DEFINITION = {"type": "object", "properties": {"spec": SPEC}}
WIDGETS = custom.compile_schema("x.example.com", "v1", "Widget", DEFINITION)


def widget(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "x.example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1, **spec}}


def test_unknown_fields_go_except_where_they_are_to_stay() -> None:
    sent = widget(b=2, free={"z": [1, {"y": None}], "known": {"x": 1, "y": 2}}) | {"top": 1}
    sent["metadata"] |= {"zap": 1, "labels": {}}
    decoded = WIDGETS.decode(sent)
    assert decoded.object == {
        "apiVersion": "x.example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": {"size": 1, "free": {"z": [1, {"y": None}], "known": {"x": 1}}},
    }
    assert decoded.unknown == (
        'unknown field "metadata.zap"',
        'unknown field "spec.b"',
        'unknown field "spec.free.known.y"',
        'unknown field "top"',
    )


def test_an_embedded_resource_keeps_its_own_fields_and_has_its_metadata_read() -> None:
    sent = widget(emb={"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "odd": 1}, "foo": "bar"})
    decoded = WIDGETS.decode(sent)
    assert decoded.object["spec"]["emb"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x"},
        "foo": "bar",
    }
    assert decoded.unknown == ('unknown field "spec.emb.metadata.odd"',)


def test_metadata_of_the_wrong_type_makes_the_object_unreadable() -> None:
    errors = WIDGETS.decode(widget() | {"metadata": {"labels": {"a": 1}}}).errors
    assert errors == ("json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string",)


def test_duplicates_are_found_everywhere_in_a_custom_resource() -> None:
    text = b'{"metadata":{"zap":1},"spec":{"a":1,"free":{"q":{"w":1,"w":2}},"size":1,"size":2}}'
    assert WIDGETS.strict_errors(text) == [
        'unknown field "metadata.zap"',
        'unknown field "spec.a"',
        'duplicate field "spec.free.q.w"',
        'duplicate field "spec.size"',
    ]


def test_defaults_come_where_their_parent_is() -> None:
    obj = widget(inner={}, mode=None, rows=[{"name": "a"}], nil=None)
    WIDGETS.default(obj)
    assert obj["spec"] == {
        "size": 1,
        "mode": "slow",
        "inner": {"deep": 7},
        "rows": [{"name": "a", "proto": "TCP"}],
        "nil": None,
    }
    bare = widget()
    WIDGETS.default(bare)
    assert "inner" not in bare["spec"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"size": 10}, "spec.size: Invalid value: 10: spec.size in body should be less than 10"),
        ({"size": 0}, "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        ({"size": "3"}, 'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"'),
        ({"size": None}, 'spec.size: Invalid value: "null": spec.size in body must be of type integer: "null"'),
        ({"mode": "odd"}, 'spec.mode: Unsupported value: "odd": supported values: "fast", "slow"'),
        ({"name": "ABC"}, "spec.name: Invalid value: \"ABC\": spec.name in body should match '^[a-z]+$'"),
        ({"name": "a"}, 'spec.name: Invalid value: "a": spec.name in body should be at least 2 chars long'),
        ({"name": "abcdef"}, "spec.name: Too long: may not be more than 5 bytes"),
        ({"ratio": 0.3}, "spec.ratio: Invalid value: 0.3: spec.ratio in body should be a multiple of 0.5"),
        (
            {"port": 1.5},
            'spec.port: Invalid value: "number": spec.port in body must be of type integer,string: "number"',
        ),
        ({"tags": ["a", "b", "c"]}, "spec.tags: Too many: 3: must have at most 2 items"),
        ({"tags": ["a", "a"]}, 'spec.tags[1]: Duplicate value: "a"'),
        (
            {"opts": {"x": "1"}},
            'spec.opts.x: Invalid value: "string": spec.opts.x in body must be of type integer: "string"',
        ),
        ({"ip": "1.2.3"}, 'spec.ip: Invalid value: "1.2.3": spec.ip in body must be of type ipv4: "1.2.3"'),
        (
            {"rows": [{"name": "a", "proto": "TCP"}] * 3},
            'spec.rows[1]: Duplicate value: {"name":"a","proto":"TCP"}',
        ),
        ({"rows": [{"name": "a"}, {"name": "a"}]}, 'spec.rows[1]: Duplicate value: {"name":"a"}'),
        ({"tags": ["a", "a"], "rows": [{"name": "a"}]}, 'spec.tags[1]: Duplicate value: "a"'),
        (
            {"one": {"a": 1, "b": 2}},
            'spec.one: Invalid value: "": "spec.one" must validate one and only one schema (oneOf). '
            "Found 2 valid alternatives",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_upstreams_words(spec: Any, message: str) -> None:
    assert [str(e) for e in WIDGETS.validate(widget(**spec))] == [message]


def test_what_was_wrong_before_and_did_not_change_is_borne() -> None:
    old = widget(name="TOO-LONG", rows=[{"name": "a", "proto": "TCP", "v": 9}])
    new = widget(name="TOO-LONG", mode="fast", rows=[{"name": "b"}, {"name": "a", "proto": "TCP", "v": 9}])
    assert WIDGETS.validate(new, old) == []
    assert len(WIDGETS.validate(new)) == 3


def test_rules_can_not_run_on_an_object_of_the_wrong_shape() -> None:
    assert validation.blocks_rules(WIDGETS.validate(widget(size="x")))
    assert not validation.blocks_rules(WIDGETS.validate(widget(size=99)))


def test_apply_merges_custom_lists_by_their_keys() -> None:
    def apply(live: Any, manager: str, **spec: Any) -> Any:
        applied = {
            "apiVersion": "x.example.com/v1",
            "kind": "Widget",
            "metadata": {"name": "w"},
            "spec": spec,
        }
        return ssa.apply(live, applied, manager, WIDGETS, api_version="x.example.com/v1", now="T")

    live = apply(None, "a", rows=[{"name": "x", "v": 1}], free={"k": {"l": 1}})
    made = apply(live, "b", rows=[{"name": "y"}], free={"k": {"m": 2}})
    assert made["spec"] == {"rows": [{"name": "x", "v": 1}, {"name": "y"}], "free": {"k": {"l": 1, "m": 2}}}
    fields = made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
    assert fields["f:rows"] == {'k:{"name":"x","proto":"TCP"}': {".": {}, "f:name": {}, "f:v": {}}}
    assert fields["f:free"] == {"f:k": {".": {}, "f:l": {}}}


def test_without_a_schema_everything_stays() -> None:
    free = custom.compile_schema("x.example.com", "v1", "Free", None)
    assert free.decode(widget(a={"b": [None]})).object == widget(a={"b": [None]})
    assert free.validate(widget()) == []


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "string"}, 's.type: Invalid value: "string": must be object at the root'),
        ({}, "s.type: Required value: must not be empty at the root"),
        (
            {"type": "object", "properties": {"a": {}}},
            "s.properties[a].type: Required value: must not be empty for specified object fields",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "array"}}},
            "s.properties[a].items: Required value: must be specified",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "odd"}}},
            's.properties[a].type: Unsupported value: "odd": supported values: "array", "boolean", "integer", '
            '"number", "object", "string"',
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string", "uniqueItems": True}}},
            "s.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity "
            "becomes quadratic",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string", "default": 5}}},
            's.properties[a].default: Invalid value: "integer": must be of type string: "integer"',
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string", "anyOf": [{"type": "string"}]}}},
            "s.properties[a].anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            {
                "type": "object",
                "properties": {
                    "a": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["k"],
                        "items": {"type": "object", "properties": {"k": {"type": "string"}}},
                    }
                },
            },
            "s.properties[a].items.properties[k].default: Required value: this property is in "
            "x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?<x>a)(?=b)"}}},
            's.properties[a].pattern: Invalid value: "(?<x>a)(?=b)": must be a valid regular expression, but isn\'t: '
            "error parsing regexp: invalid or unsupported Perl syntax: `(?<x>a)(?=b)`",
        ),
    ],
)
def test_a_schema_that_is_not_structural_is_refused(schema: Any, message: str) -> None:
    assert [str(e) for e in definition.errors(schema, "s")] == [message]


def test_a_good_schema_has_no_errors() -> None:
    assert definition.errors(DEFINITION, "s") == []


def _things(**properties: Any) -> custom.CustomSchema:
    spec = {"type": "object", "properties": properties}
    return custom.compile_schema("x.io", "v1", "Thing", {"type": "object", "properties": {"spec": spec, "status": {}}})


def _thing(**spec: Any) -> Any:
    return {"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec}


_NAMED = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": {"type": "object", "properties": {"name": {"type": "string"}, "v": {"type": "integer"}}},
}
THINGS = _things(
    rows=_NAMED,
    one={"type": "object", "properties": {"a": {"type": "integer"}}},
    maps={"type": "object", "additionalProperties": {"type": "object", "additionalProperties": {"type": "string"}}},
)


class _Story:
    """One object, and who owns what of it."""

    def __init__(self) -> None:
        self.live: Any = None

    def update(self, manager: str, **spec: Any) -> None:
        new = _thing(**spec)
        if self.live is not None:
            new["metadata"] = self.live["metadata"]
        entries = ssa.update_managers(self.live, new, manager, kind_schema=THINGS, api_version="x.io/v1", now="T")
        self.live = new | {"metadata": new["metadata"] | {"managedFields": entries}}

    def apply(self, manager: str, *, force: bool = False, **spec: Any) -> None:
        applied = _thing(**spec)
        self.live = ssa.apply(self.live, applied, manager, THINGS, force=force, api_version="x.io/v1", now="T")

    def owned(self, manager: str) -> list[str]:
        entries = [e for e in self.live["metadata"]["managedFields"] if e["manager"] == manager]
        return [
            path.removeprefix(".spec") for e in entries for path in fieldset.paths(e["fieldsV1"]) if path != ".spec"
        ]


def test_an_item_that_comes_to_be_there_twice_is_owned_as_a_whole_and_back() -> None:
    story, a, b = _Story(), {"name": "a", "v": 1}, {"name": "b", "v": 3}
    story.update("one", rows=[a, b])
    story.update("two", rows=[a, {"name": "a"}, b])
    assert story.owned("one") == [".rows", '.rows[name="b"]', '.rows[name="b"].name', '.rows[name="b"].v']
    assert story.owned("two") == ['.rows[name="a"]']
    story.update("three", rows=[a, b])
    assert story.owned("three") == ['.rows[name="a"]', '.rows[name="a"].name', '.rows[name="a"].v']


def test_what_is_there_twice_can_be_applied_around() -> None:
    story, a, b = _Story(), {"name": "a", "v": 1}, {"name": "b", "v": 3}
    story.apply("applier", rows=[a, b])
    story.update("updater", rows=[a, a | {"v": 2}, b])
    story.apply("applier", rows=[b])
    assert story.live["spec"] == {"rows": [a, a | {"v": 2}, b]}
    assert story.owned("updater") == ['.rows[name="a"]']


def test_what_loses_all_that_was_applied_in_it_stays_empty() -> None:
    story = _Story()
    story.apply("a", maps={"k": {"l": "1"}}, one={"a": 1})
    story.apply("a", maps={"k": {}}, one={})
    assert story.live["spec"] == {"maps": {"k": {}}, "one": {}}


def test_nulls_that_must_not_be_are_left_out() -> None:
    text: Any = {"type": "string"}
    deep: Any = {"type": "object", "properties": {"q": text}}
    properties = {
        "a": text,
        "nullable": text | {"nullable": True},
        "defaulted": text | {"default": "x"},
        "map": {"type": "object", "additionalProperties": text},
        "deep": deep,
        "list": {"type": "array", "items": text},
        "deeper": {"type": "array", "items": deep},
    }
    spec = {"type": "object", "properties": properties}
    schema = custom.compile_schema("x.io", "v1", "Null", {"type": "object", "properties": {"spec": spec}})
    given = dict.fromkeys(properties) | {"map": {"k": None}, "list": [None], "deeper": [{"q": None}, None]}
    obj = schema.decode({"apiVersion": "x.io/v1", "kind": "Null", "metadata": {}, "spec": given}).object
    schema.default(obj)
    assert obj["spec"] == {
        "nullable": None,
        "defaulted": "x",
        "map": {},
        "list": [None],
        "deeper": [{}, None],
    }


def test_objects_below_additional_properties_of_no_kind_are_emptied() -> None:
    spec = {"type": "object", "additionalProperties": True}
    schema = custom.compile_schema("x.io", "v1", "Any", {"type": "object", "properties": {"spec": spec}})
    given = {"a": 1, "b": {"c": 2}, "d": [{"e": 3}, 4, [{"f": 5}]]}
    decoded = schema.decode({"apiVersion": "x.io/v1", "kind": "Any", "metadata": {}, "spec": given})
    assert decoded.object["spec"] == {"a": 1, "b": {}, "d": [{}, 4, [{}]]}
    assert decoded.unknown == (
        'unknown field "spec.b.c"',
        'unknown field "spec.d[0].e"',
        'unknown field "spec.d[2][0].f"',
    )


def test_a_null_takes_a_value_and_is_in_conflict_with_its_owner() -> None:
    story = _Story()
    story.apply("a", one={"a": None})
    story.update("b", one={"a": 2})
    with pytest.raises(Conflict, match=r"\.spec\.one\.a"):
        story.apply("a", one={"a": None})
    story.apply("a", force=True, one={"a": None}, maps=None)
    assert story.live["spec"]["one"] == {}  # pruned, as it must not be null
    story.update("b", maps={"k": {}})
    story.apply("a", force=True, maps=None)
    assert story.live["spec"]["maps"] == {"k": {}}  # what has parts is not taken as a whole


def test_the_status_endpoint_owns_nothing_but_the_status() -> None:
    new = _thing() | {"metadata": {"name": "t", "labels": {"a": "b"}}, "status": {"ready": True}}
    (entry,) = ssa.update_managers(
        _thing(), new, "m", subresource="status", kind_schema=THINGS, api_version="x.io/v1", now="T"
    )
    assert entry["fieldsV1"].keys() == {"f:status"}
