import re

import pytest

from machinery.api import fields, labels

LABEL_PATTERN = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("", ""),
        ("!tier,golden", "golden,!tier"),
        ("env in (prod, dev)", "env in (dev,prod)"),
        ("env in (),a", "a,env in ()"),
        ("env notin (,x)", "env notin (,x)"),
        ("golden=1 , env = dev", "env=dev,golden=1"),
        ("a==b,c!=d", "a==b,c!=d"),
        ("only=", "only="),
        ("in in (in,notin),notin=in", "in in (in,notin),notin=in"),
        ("n>1,n<5", "n>1,n<5"),
    ],
)
def test_a_label_selector_prints_sorted_by_key(written: str, printed: str) -> None:
    assert str(labels.parse(written)) == printed


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("=x", "found '=', expected: !, identifier, or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a=b,", "found '', expected: identifier after ','"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a=!", "unable to parse requirement: found '!', expected: identifier"),
        (
            "e/n/v=x",
            f'unable to parse requirement: <nil>: Invalid value: "e/n/v": a valid label key {LABEL_PATTERN} '
            "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        ),
        (
            "a=" + "v" * 64,
            f'unable to parse requirement: values[0][a]: Invalid value: "{"v" * 64}": must be no more than 63 bytes',
        ),
        (
            "a>x",
            'unable to parse requirement: values[0]: Invalid value: "x": '
            "for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ],
)
def test_a_wrong_label_selector_is_refused_in_upstreams_words(written: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        labels.parse(written)


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("", {"a", "b", "none"}),
        ("x=1", {"a"}),
        ("x", {"a", "b"}),
        ("!x", {"none"}),
        ("x!=1", {"b", "none"}),
        ("x in (1,2)", {"a", "b"}),
        ("x notin (1)", {"b", "none"}),
        ("x>1", {"b"}),
        ("x<2,y=1", {"a"}),
    ],
)
def test_a_label_selector_selects(selector: str, selected: set[str]) -> None:
    objects = {"a": {"x": "1", "y": "1"}, "b": {"x": "2"}, "none": {}}
    chosen = labels.parse(selector)
    assert {name for name, held in objects.items() if chosen.matches(held)} == selected


def test_an_absent_selector_object_selects_nothing_and_an_empty_one_everything() -> None:
    assert not labels.from_selector(None).matches({})
    assert labels.from_selector({}).matches({"a": "b"})
    assert str(labels.from_map({"b": "2", "a": "1"})) == "a=1,b=2"


def test_a_selector_object_means_all_of_its_parts() -> None:
    selector = labels.from_selector(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }
    )
    assert selector.matches({"app": "web", "tier": "b"})
    assert not selector.matches({"app": "web", "tier": "b", "old": ""})
    assert selector.exact("app") == "web"
    with pytest.raises(ValueError, match='"Near" is not a valid label selector operator'):
        labels.from_selector({"matchExpressions": [{"key": "a", "operator": "Near"}]})


def test_a_field_selector_is_read_matched_and_printed() -> None:
    selector = fields.parse(r"b!=2,a==x\,y")
    assert selector.requirements == (("a", "=", "x,y"), ("b", "!=", "2"))
    assert selector.matches({"a": "x,y", "b": ""}.__getitem__)
    assert not selector.matches({"a": "x,y", "b": "2"}.__getitem__)
    assert str(selector) == r"a=x\,y,b!=2"
    assert selector.exact("a") == "x,y"
    assert selector.exact("b") is None
    assert fields.parse("=") == fields.EVERYTHING


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("nonsense", "invalid selector: 'nonsense'; can't understand 'nonsense'"),
        ("a=b,name in (x)", "invalid selector: 'a=b,name in (x)'; can't understand 'name in (x)'"),
        (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
    ],
)
def test_a_wrong_field_selector_is_refused_in_upstreams_words(written: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fields.parse(written)
