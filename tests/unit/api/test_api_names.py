from collections.abc import Callable

import pytest

from machinery.api import intstr, names

Check = Callable[[str], list[str]]


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (names.dns1123_label, "1-a"),
        (names.dns1123_subdomain, "a.b-c.1"),
        (names.dns1035_label, "a-1"),
        (names.wildcard_dns1123_subdomain, "*.example.com"),
        (names.qualified_name, "example.com/My_Name.x"),
        (names.label_value, ""),
        (names.path_segment, "system:node:x"),
        (names.c_identifier, "_a1"),
        (names.env_var_name, "my.env-NAME"),
        (names.relaxed_env_var_name, "1 odd?name"),
        (names.config_map_key, "..a"[1:]),
        (names.http_header, "X-Any"),
        (names.port_name, "http-2"),
        (names.percent, "100%"),
        (names.domain_prefixed_path, "acme.io/a/b"),
        (names.fully_qualified_name, "a.b.c"),
        (names.fully_qualified_domain_name, "a.b."),
    ],
)
def test_a_good_value_has_no_errors(check: Check, good: str) -> None:
    assert check(good) == []


@pytest.mark.parametrize(
    ("check", "bad", "messages"),
    [
        (names.dns1123_label, "a.b", ["must not contain dots"]),
        (names.dns1123_label, "a" * 64, ["must be no more than 63 characters"]),
        (names.label_value, "a" * 64, ["must be no more than 63 bytes"]),
        (names.qualified_name, "x" * 64, ["name part must be no more than 63 bytes"]),
        (names.path_segment, "a/b%", ["may not contain '/'", "may not contain '%'"]),
        (names.path_segment, "..", ["may not be '..'"]),
        (names.config_map_key, "..a", ["must not start with '..'"]),
        (names.port_name, "-", ["must contain at least one letter (a-z)", "must not begin or end with a hyphen"]),
        (names.relaxed_env_var_name, "", ["environment variable name must be non-empty"]),
        (names.fully_qualified_domain_name, "a", ["should be a domain with at least two segments separated by dots"]),
        (
            names.dns1123_subdomain,
            "Bad_Name",
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and "
                "must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
                r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ],
        ),
        (
            names.dns1035_label,
            "1a",
            [
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
                "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
                "validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            ],
        ),
    ],
)
def test_a_bad_value_is_refused_in_upstreams_words(check: Check, bad: str, messages: list[str]) -> None:
    assert check(bad) == messages


def test_a_newline_at_the_end_is_not_overlooked() -> None:
    assert names.dns1123_label("a\n")


def test_a_percentage_is_rounded_as_asked() -> None:
    assert intstr.scaled("25%", 10, round_up=True) == 3
    assert intstr.scaled("25%", 10, round_up=False) == 2
    assert intstr.scaled(7, 10, round_up=False) == 7
    assert intstr.is_percent("1%")
    with pytest.raises(ValueError, match="string is not a percentage"):
        intstr.scaled("7", 10, round_up=True)
    with pytest.raises(ValueError, match=r'invalid value "x%": strconv\.Atoi: parsing "x": invalid syntax'):
        intstr.scaled("x%", 10, round_up=True)
