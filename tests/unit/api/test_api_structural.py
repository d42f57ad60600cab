from typing import Any

import pytest

from machinery.api.patch import apply as ssa
from machinery.api.patch import fieldset
from machinery.api.structural import custom, definition, formats, regex, validation
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


@pytest.mark.parametrize(
    ("pattern", "matches", "refuses"),
    [
        (r"^[[:alpha:]_]\d+$", "a12", "a12\n"),
        (r"(?i)^abc", "ABCD", "xabc"),
        (r"\Aa\z", "a", "ab"),
        (r"^\Qa.b\E$", "a.b", "axb"),
        (r"^\x{41}[]x]$", "A]", "A["),
        (r"^\pL+$", "ab", "a1"),
        (r"(?m)^b$", "a\nb\nc", "a\nbb"),
    ],
)
def test_patterns_mean_what_they_mean_in_go(pattern: str, matches: str, refuses: str) -> None:
    compiled = regex.compile_go(pattern)
    assert compiled.search(matches)
    assert not compiled.search(refuses)


@pytest.mark.parametrize("pattern", ["(", r"(a)\1", "(?=a)", "a++", r"\y", r"\C", "[[:odd:]]", "(?P=x)"])
def test_what_go_can_not_compile_is_refused(pattern: str) -> None:
    with pytest.raises(regex.PatternError):
        regex.compile_go(pattern)


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("date-time", "2020-01-01T00:00:00Z", "2020-13-01T00:00:00Z"),
        ("date", "2020-02-29", "2021-02-29"),
        ("duration", "1h30m", "soon"),
        ("ipv6", "::1", "1.2.3.4"),
        ("cidr", "10.0.0.0/8", "10.0.0.0"),
        ("mac", "01:23:45:67:89:ab", "01:23"),
        ("uuid", "4b0c3d6a-0000-4000-8000-000000000001", "x"),
        ("uuid3", "4b0c3d6a-0000-3000-8000-000000000001", "4b0c3d6a-0000-4000-8000-000000000001"),
        ("hostname", "a.b-c", "-a"),
        ("email", "a@b.c", "a"),
        ("byte", "YQ==", "Y"),
        ("isbn", "978-3-16-148410-0", "978-3-16-148410-1"),
        ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
        ("hexcolor", "#fff", "#ff"),
        ("rgbcolor", "rgb(1, 2, 255)", "rgb(1,2,256)"),
        ("uri", "https://x/y", "x y"),
        ("k8s-short-name", "a-1", "a.b"),
        ("k8s-long-name", "a.b-1", "A"),
    ],
)
def test_formats(form: str, good: str, bad: str) -> None:
    check = formats.CHECKS[form.replace("-", "")]
    assert check(good)
    assert not check(bad)


@pytest.mark.parametrize(
    ("kind", "form", "good", "bad"),
    [
        ("integer", "int32", -(2**31), 2**31),
        ("integer", "int64", 2**63 - 1, None),
        ("number", "float", 3.4028234663852886e38, 3.5e38),
        ("number", "double", 1e308, None),
        ("number", "int32", 1e12, None),
    ],
)
def test_formats_of_numbers(kind: str, form: str, good: float, bad: float | None) -> None:
    schema = {"type": "object", "properties": {"n": {"type": kind, "format": form}}}
    assert validation.validate(schema, {"n": good}) == []
    if bad is None:
        return
    (error,) = validation.validate(schema, {"n": bad})
    told = f"Checked value must be of type {kind} with format {form} in n"
    assert str(error) == f'<nil>: Invalid value: "": {told}'
    assert validation.validate(schema, {"n": bad}, {"n": bad}) == []


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


def test_a_null_takes_a_value_and_is_in_conflict_with_its_owner() -> None:
    story = _Story()
    story.apply("a", one={"a": None})
    story.update("b", one={"a": 2})
    with pytest.raises(Conflict, match=r"\.spec\.one\.a"):
        story.apply("a", one={"a": None})
    story.apply("a", force=True, one={"a": None}, maps=None)
    assert story.live["spec"]["one"] == {"a": None}
    story.update("b", maps={"k": {}})
    story.apply("a", force=True, maps=None)
    assert story.live["spec"]["maps"] == {"k": {}}  # what has parts is not taken as a whole


def test_the_status_endpoint_owns_nothing_but_the_status() -> None:
    new = _thing() | {"metadata": {"name": "t", "labels": {"a": "b"}}, "status": {"ready": True}}
    (entry,) = ssa.update_managers(
        _thing(), new, "m", subresource="status", kind_schema=THINGS, api_version="x.io/v1", now="T"
    )
    assert entry["fieldsV1"].keys() == {"f:status"}


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(", "missing closing ): `(`"),
        ("a)", "unexpected ): `a)`"),
        ("x[a", "missing closing ]: `[a`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{3,1}", "invalid repeat count: `{3,1}`"),
    ],
)
def test_mistakes_in_patterns_are_told_in_gos_words(pattern: str, told: str) -> None:
    with pytest.raises(regex.PatternError) as caught:
        regex.compile_go(pattern)
    assert str(caught.value) == f"error parsing regexp: {told}"


@pytest.mark.parametrize(
    ("pattern", "matches", "refuses"),
    [
        ("^a{,5}$", "a{,5}", "aaa"),
        ("^a{$", "a{", "a"),
        ("^x(?i)a$", "xA", "Xa"),
        ("^(x(?i)a)b$", "xAb", "xAB"),
        ("^(?<name>a)$", "a", "b"),
    ],
)
def test_what_only_go_writes_so(pattern: str, matches: str, refuses: str) -> None:
    compiled = regex.compile_go(pattern)
    assert compiled.search(matches)
    assert not compiled.search(refuses)
