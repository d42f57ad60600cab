"""Bodies as upstream reads them: YAML's duplicate keys, kinds that are known and served no more."""

import pytest

from controlplane.apiserver.handlers import decoding, registered, yamlbody
from controlplane.apiserver.handlers.decoding import Expected, WrongKind
from machinery.errors import BadRequest

EXPECTED = Expected("apps", "v1", "Deployment", None)


@pytest.mark.parametrize(
    ("text", "value", "complaint"),
    [
        ("a: 1", {"a": 1}, ""),
        ("", None, ""),
        ('a: "1"\na: "2"', {"a": "2"}, 'yaml: unmarshal errors:\n  line 2: key "a" already set in map'),
        (
            "m:\n  a: x\n  a: y\nm2:\n  a: z",
            {"m": {"a": "y"}, "m2": {"a": "z"}},
            'yaml: unmarshal errors:\n  line 3: key "a" already set in map',
        ),
        ('{"a": 1, "a": 2}', {"a": 2}, 'yaml: unmarshal errors:\n  line 1: key "a" already set in map'),
    ],
)
def test_the_later_of_two_keys_counts_and_is_told_of(text: str, value: object, complaint: str) -> None:
    assert yamlbody.loads(text.encode()) == (value, complaint)


def test_what_is_no_yaml() -> None:
    with pytest.raises(yamlbody.YamlError, match="yaml: line 2: did not find expected node content"):
        yamlbody.loads(b"{\n tabs:\t[\n}\n")
    with pytest.raises(yamlbody.YamlError, match="invalid leading UTF-8 octet"):
        yamlbody.loads(b"\xff")


@pytest.mark.parametrize(
    ("complaint", "warnings"),
    [
        ('unknown field "a"', ['unknown field "a"']),
        ("yaml: unmarshal errors:\n  line 1: x\n  line 2: y", ["line 1: x", "line 2: y"]),
        ("error converting YAML to JSON: yaml: unmarshal errors:\n  line 1: x", ["line 1: x"]),
    ],
)
def test_a_parsers_complaint_is_a_warning_for_each_line(complaint: str, warnings: list[str]) -> None:
    assert yamlbody.warnings_of(complaint) == warnings


@pytest.mark.parametrize(
    ("group", "version", "name", "known"),
    [
        ("", "v1", "Pod", True),
        ("", "v1", "PodList", True),
        ("", "v1", "List", True),
        ("apps", "v1", "List", False),
        ("apps", "v1beta2", "DaemonSet", True),
        ("apps", "v1beta1", "DaemonSet", False),
        ("extensions", "v1beta1", "IngressList", True),
        ("nope.example.com", "v1", "Pod", False),
    ],
)
def test_kinds_that_upstreams_decoder_knows(group: str, version: str, name: str, known: bool) -> None:
    assert registered.known(group, version, name) is known


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("apps", "v1", "Deployment"), ""),
        (
            ("", "v1", "Pod"),
            "converting (v1.Pod) to (apps.Deployment): unknown conversion",
        ),
        (
            ("apps", "v9", "Deployment"),
            'no kind "Deployment" is registered for version "apps/v9" in scheme "pkg/api/legacyscheme/scheme.go:30"',
        ),
        (("", "apps", "X"), 'no kind "X" is registered for version "apps" in scheme'),
    ],
)
def test_a_body_of_another_kind(given: tuple[str, str, str], told: str) -> None:
    if not told:
        decoding.check_kind(*given, EXPECTED)
        return
    with pytest.raises(WrongKind) as caught:
        decoding.check_kind(*given, EXPECTED)
    assert str(caught.value).startswith(told)


def test_a_body_of_another_version() -> None:
    with pytest.raises(BadRequest, match=r"\(apps/v1beta1\) does not match the expected API version \(apps/v1\)"):
        decoding.check_version("apps", "v1beta1", EXPECTED)
    decoding.check_version("apps", "v1", EXPECTED)
