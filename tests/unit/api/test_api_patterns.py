"""Patterns and formats of custom schemas: what they mean is what they mean in Go."""

from __future__ import annotations

import pytest

from machinery.api.structural import formats, regex, validation


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
