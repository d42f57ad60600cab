"""Rules of structural schemas: what they see, what they may cost, what they say."""

from typing import Any

import pytest

from machinery.api.structural import definition, rulerun
from machinery.api.structural.rules import compile_rules, rule_tree

NUMBER = {"type": "integer"}


def schema(rule: str, sort: str = "string", **more: Any) -> dict[str, Any]:
    limits = {
        k: v
        for k, v in more.items()
        if k not in ("message", "messageExpression", "reason", "fieldPath", "optionalOldSelf")
    }
    given = {k: v for k, v in more.items() if k not in limits}
    return {"type": sort, **limits, "x-kubernetes-validations": [{"rule": rule, **given}]}


def root(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}


def told(whole: dict[str, Any], obj: Any, old: Any = None) -> list[str]:
    """The errors; those that are borne begin with a tilde."""
    found = rulerun.validate(rule_tree(whole, resource=True), obj, old)
    return [f"{'~' if e.borne else ''}{e}" for e in found]


def errors(whole: dict[str, Any]) -> list[str]:
    return [str(e) for e in definition.errors(whole, "s")]


@pytest.mark.parametrize(
    ("rule", "value", "holds"),
    [
        (schema("self.size() < 3"), "ab", True),
        (schema("self < timestamp('2024-01-01T00:00:00Z')", format="date-time"), "2023-05-05T00:00:00Z", True),
        (schema("self > duration('1h')", format="duration"), "30m", False),
        (schema("self == b'ab'", format="byte"), "YWI=", True),
        (schema("self * 2.0 == 3.0", "number"), 1.5, True),
        (schema("self + 1.0 == 2.0", "number"), 1, True),
        (schema("self == [2, 1]", "array", items=NUMBER, **{"x-kubernetes-list-type": "set"}), [1, 2], True),
        (
            schema("self.__namespace__ == self.a__dash__b", "object", properties={
                "namespace": {"type": "string"}, "a-b": {"type": "string"}, "9": {"type": "string"},
            }),
            {"namespace": "x", "a-b": "x"},
            True,
        ),
        (schema("type(self) == int ? self > 1 : self == 'x'", "", **{"x-kubernetes-int-or-string": True}), "x", True),
        (schema("self.all(k, self[k] > 0)", "object", additionalProperties={"type": "integer"}), {"a": 0}, False),
    ],
)  # fmt: skip
def test_rules_see_values_as_the_schema_types_them(rule: dict[str, Any], value: Any, holds: bool) -> None:
    assert [r.error for r in compile_rules(rule)] == [""]
    assert (told(root(x=rule), {"spec": {"x": value}}) == []) is holds


def test_failures_say_where_why_and_what() -> None:
    field = {"type": "integer"}
    rule = schema(
        "self.a <= self.b", "object", properties={"a": field, "b": field}, message="a above b", fieldPath=".a"
    )
    assert told(root(x=rule), {"spec": {"x": {"a": 2, "b": 1}}}) == ['spec.x.a: Invalid value: "object": a above b']
    assert told(root(x=rule), {"spec": {"x": {"a": 2}}}) == [
        'spec.x: Invalid value: "object": no such key: b evaluating rule: a above b'
    ]
    said = schema("self == ''", messageExpression="'not ' + self", reason="FieldValueForbidden")
    assert told(root(x=said), {"spec": {"x": "this"}}) == ["spec.x: Forbidden: not this"]
    plain = schema("self == 'a'", reason="FieldValueRequired")
    assert told(root(x=plain), {"spec": {"x": "b"}}) == ["spec.x: Required value: failed rule: self == 'a'"]
    twice = schema("self == 'a'", reason="FieldValueDuplicate", message="again")
    assert told(root(x=twice), {"spec": {"x": "b"}}) == ['spec.x: Duplicate value: "string"']


def test_transition_rules_need_something_to_compare_with() -> None:
    fixed = root(x=schema("self == oldSelf", message="immutable"))
    assert told(fixed, {"spec": {"x": "b"}}) == []
    assert told(fixed, {"spec": {"x": "b"}}, {"spec": {}}) == []
    assert told(fixed, {"spec": {"x": "b"}}, {"spec": {"x": "a"}}) == ['spec.x: Invalid value: "string": immutable']
    once = root(x=schema("!oldSelf.hasValue() || oldSelf.value() == self", optionalOldSelf=True))
    assert told(once, {"spec": {"x": "b"}}) == []
    assert len(told(once, {"spec": {"x": "b"}}, {"spec": {"x": "a"}})) == 1
    item = {"type": "object", "properties": {"k": {"type": "string"}, "v": schema("self >= oldSelf", "integer")}}
    keyed = {"type": "array", "items": {**item, "required": ["k"]}, "x-kubernetes-list-type": "map"}
    listed = root(x={**keyed, "x-kubernetes-list-map-keys": ["k"]})
    old = {"spec": {"x": [{"k": "a", "v": 2}, {"k": "b", "v": 1}]}}
    new = {"spec": {"x": [{"k": "b", "v": 1}, {"k": "a", "v": 1}]}}
    assert told(listed, new, old) == ['spec.x[1].v: Invalid value: "integer": failed rule: self >= oldSelf']


def test_what_was_stored_and_does_not_change_is_told_but_borne() -> None:
    strict = root(x=schema("self == 'good'"), y={"type": "string"})
    old = {"spec": {"x": "bad", "y": "1"}}
    words = """spec.x: Invalid value: "string": failed rule: self == 'good'"""
    assert told(strict, {"spec": {"x": "bad", "y": "2"}}, old) == [f"~{words}"]
    assert told(strict, {"spec": {"x": "worse", "y": "2"}}, old) == [words]
    assert told(strict, {"spec": {"x": "bad", "y": "2"}}) == [words]


ITEM = schema("self == 'good'")


@pytest.mark.parametrize(
    ("kind", "old", "new", "borne"),
    [
        (None, ["good", "bad"], ["new", "bad"], [False, True]),  # what stands at the same place
        (None, ["bad"], ["good", "bad"], [False]),
        ("atomic", ["good", "bad"], ["good", "bad"], [True]),  # nothing, unless all is as it was
        ("atomic", ["good", "bad"], ["good", "bad", "good"], [False]),
        ("set", ["bad", "good"], ["good", "bad"], [False]),
    ],
)
def test_which_items_of_a_list_have_not_changed(kind: Any, old: Any, new: Any, borne: list[bool]) -> None:
    listed = root(x={"type": "array", "items": ITEM, **({"x-kubernetes-list-type": kind} if kind else {})})
    found = rulerun.validate(rule_tree(listed, resource=True), {"spec": {"x": new}}, {"spec": {"x": old}})
    assert [error.borne for error in found] == borne


def test_rules_that_cost_too_much_end_the_look_at_rules() -> None:
    dear = schema("self.all(a, self.all(b, self.all(c, true)))", "array", items=NUMBER)
    whole = root(a=dear, b=schema("false", "integer"))
    found = told(whole, {"spec": {"a": [1] * 300, "b": 1}})
    assert found == [
        "spec.a: Invalid value: \"array\": 'operation cancelled: actual cost limit exceeded': no further validation "
        "rules will be run due to call cost exceeds limit for rule: self.all(a, self.all(b, self.all(c, true)))"
    ]
    several = root(**{f"x{i:02}": schema("self.all(a, self.all(b, true))", "array", items=NUMBER) for i in range(99)})
    found = told(several, {"spec": {f"x{i:02}": [1] * 300 for i in range(99)}})
    told_of_budget = "validation failed due to running out of cost budget, no further validation rules will be run"
    assert len(found) == 1
    assert found[0].endswith(f': Invalid value: "array": {told_of_budget}')


def test_values_without_a_type_may_not_suit_a_rule() -> None:
    odd = root(x=schema("self > 1", "", **{"x-kubernetes-int-or-string": True}))
    assert told(odd, {"spec": {"x": "a"}}) == [
        "spec.x: Invalid value: \"\": 'no such overload': call arguments did not match a supported operator, function "
        "or macro signature for rule: self > 1"
    ]


def test_fields_that_are_told_to_be_wrong_are_named_as_paths_are() -> None:
    deep = {"a-b": {"type": "object", "additionalProperties": {"type": "string"}}}
    whole = root(x=schema("false", "object", properties=deep, fieldPath="['a-b'].c", message="no"))
    assert errors(whole) == []
    assert told(whole, {"spec": {"x": {}}}) == ['spec.x.a-b[c]: Invalid value: "object": no']


def test_a_field_that_is_null_is_none_that_there_is() -> None:
    fields = {"a": {"type": "string", "nullable": True}, "b": {"type": "array", "items": {**NUMBER, "nullable": True}}}
    whole = root(
        x=schema("!has(self.a) && !self.?a.hasValue() && type(self.b[0]) == null_type", "object", properties=fields)
    )
    assert told(whole, {"spec": {"x": {"a": None, "b": [None]}}}) == []


def test_rules_of_a_broken_part_wait_and_the_others_do_not() -> None:
    whole = root(a={**schema("self.z", "object"), "uniqueItems": True}, b=schema("self.size()"))
    found = errors(whole)
    assert len(found) == 2
    assert "properties[a].uniqueItems: Forbidden" in found[0]
    assert "properties[b].x-kubernetes-validations[0].rule" in found[1]


def test_defaults_obey_rules() -> None:
    whole = root(a=schema("self > 3", "integer", default=2), b={"type": "object", "additionalProperties": {
        "type": "integer", "default": "not looked at",
    }})  # fmt: skip
    assert errors(whole) == [
        's.properties[spec].properties[a].default: Invalid value: "integer": failed rule: self > 3'
    ]


def test_rules_can_look_at_name_and_kind_of_resources() -> None:
    whole = {**root(), "x-kubernetes-validations": [{"rule": "self.metadata.name.startsWith('a') && self.kind != ''"}]}
    assert errors(whole) == []
    assert told(whole, {"kind": "K", "apiVersion": "g/v", "metadata": {"name": "abc"}}) == []
    assert len(told(whole, {"kind": "K", "apiVersion": "g/v", "metadata": {"name": "xyz"}})) == 1


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            schema("self.z == 1", "object", properties={"a": {"type": "string"}}),
            'Invalid value: {"Rule":"self.z == 1","Message":"","MessageExpression":"","Reason":null,"FieldPath":"",'
            "\"OptionalOldSelf\":null}: compilation failed: ERROR: <input>:1:5: undefined field 'z'\n | self.z == 1\n"
            " | ....^",
        ),
        (schema("self.size()"), "cel expression must evaluate to a bool"),
        (schema("self.find(')') == ''"), "program instantiation failed: error parsing regexp: unexpected ): `)`"),
        (schema("true", messageExpression="1"), "messageExpression must evaluate to a string"),
        (
            schema("self.all(a, self.all(b, a == b))", "array", items={"type": "string"}),
            "Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or "
            "adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
        ),
        (
            schema("self.size() < 10", messageExpression="'has ' + string(self.size())"),
            "Forbidden: estimated messageExpression cost exceeds budget by factor of more than 100x",
        ),
        (
            {"type": "array", "items": schema("self == oldSelf")},
            "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[spec].properties",
        ),
        (schema("self == 'a'", optionalOldSelf=True), "may not be set if oldSelf is not used in rule"),
        (schema(" "), "rule: Required value: rule is not specified"),
        (schema("true", message="a\nb"), "must not contain line breaks"),
        (schema("true\n&& true"), "message must be specified if rule contains line breaks"),
        (schema("true", reason="Bad"), 'supported values: "FieldValueDuplicate", "FieldValueForbidden"'),
        (schema("true", fieldPath=".none"), "must be a valid path"),
    ],
)
def test_rules_that_a_definition_may_not_have(field: dict[str, Any], message: str) -> None:
    found = errors(root(x=field))
    assert [error for error in found if message in error]
    assert all("cost" in error for error in found if message not in error)


def test_all_rules_together_have_a_limit() -> None:
    dear = schema(
        "self.all(a, self.exists(b, a == b))", "array", maxItems=60, items={"type": "string", "maxLength": 400}
    )
    found = errors(root(**{f"x{i}": dear for i in range(400)}))
    assert [e for e in found if "estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor" in e]
    assert sum("contributed to estimated rule cost total" in e for e in found) == 4
