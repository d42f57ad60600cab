import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machinery.api import jsontext, rawtext


def test_big_integers_stay_exact() -> None:
    assert jsontext.loads(b'{"a":18446744073709551616,"b":[9007199254740993]}')[0] == {
        "a": 18446744073709551616,
        "b": [9007199254740993],
    }


def test_what_go_replaces_is_replaced() -> None:
    assert jsontext.loads(b'{"a\\ud800":["\\ud83d\\ude00\\ud800"]}')[0] == {"a\ufffd": ["\U0001f600\ufffd"]}
    assert jsontext.loads(b'{"a":"\xff"}')[0] == {"a": "\ufffd"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'{"a":1,"a":2}', True),
        (b'{"a":[{"b":1,"b":1}]}', True),
        (b'{ "a" : "\\u003c" }', False),
        (b'{"a":{"b":1},"b":1}', False),
        (b'{"a":18446744073709551616,"a":1}', True),
    ],
)
def test_a_key_that_comes_twice_is_noticed(text: bytes, found: bool) -> None:
    assert jsontext.loads(text, duplicates=True)[1] is found
    assert jsontext.loads(text)[1] is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "unexpected end of JSON input"),
        (b'{"a":1', "unexpected end of JSON input"),
        (b"nonsense", "invalid character 'o' in literal null (expecting 'u')"),
        (b"{} x", "invalid character 'x' after top-level value"),
        (b'{"a":NaN}', "invalid character 'N' looking for beginning of value"),
        (b"{a:1}", "invalid character 'a' looking for beginning of object key string"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 2}', "invalid character '2' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b'"a\nb"', "invalid character '\\n' in string literal"),
        (b'"\\x"', "invalid character 'x' in string escape code"),
        (b'"\\u12g"', "invalid character 'g' in \\u hexadecimal character escape"),
        (b"-x", "invalid character 'x' in numeric literal"),
        (b"1.x", "invalid character 'x' after decimal point in numeric literal"),
        (b"01", "invalid character '1' after top-level value"),
        (b"[" * 300, "exceeded max depth"),
    ],
)
def test_what_is_no_json_is_refused_in_gos_words(text: bytes, message: str) -> None:
    with pytest.raises(jsontext.JSONError, match=f"^{re.escape(message)}$"):
        jsontext.loads(text)


def test_depth_is_bounded_for_good_json_too() -> None:
    with pytest.raises(jsontext.JSONError, match="exceeded max depth"):
        jsontext.loads(b"[" * 260 + b"]" * 260)


@given(st.binary(max_size=30) | st.text('{}[],:"\\u0123eE.-+ truefalsn', max_size=30).map(str.encode))
def test_any_text_is_read_or_refused(text: bytes) -> None:
    refused = jsontext.syntax_error(text)
    if refused:
        with pytest.raises(jsontext.JSONError):
            jsontext.loads(text, duplicates=True)
    else:
        jsontext.loads(text, duplicates=True)


BIG = 123456789012345678901234567890


def test_integers_over_64_bits_are_read_looked_through_and_written_as_floats() -> None:
    once, twice = b'{"a":%d}' % BIG, b'{"a":%d,"a":1}' % BIG
    assert jsontext.loads(once, duplicates=True) == ({"a": BIG}, False)
    assert jsontext.loads(twice, duplicates=True) == ({"a": 1}, True)
    assert not jsontext.repeats(once, {"a": BIG})
    assert orjson.loads(rawtext.dumps({"a": [BIG, 1, 2**64 - 1]})) == {"a": [float(BIG), 1, 2**64 - 1]}
    with pytest.raises(jsontext.JSONError, match=r"cannot unmarshal number 1+ into Go value of type float64"):
        jsontext.loads(b"[" + b"1" * 400 + b"]")
