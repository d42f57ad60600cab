"""What names, keys and other short strings of the API may look like, in upstream's words.

Every function takes a value and returns what is wrong with it: a list of messages, empty when nothing is.

Source: k8s.io/apimachinery/pkg/util/validation, pkg/api/validate/content, pkg/api/validation/path.
"""

from __future__ import annotations

import re
from typing import Final

_DNS1123_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS1123_SUBDOMAIN: Final = _DNS1123_LABEL + r"(\." + _DNS1123_LABEL + ")*"
_UNDERSCORE_LABEL: Final = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_UNDERSCORE_SUBDOMAIN: Final = _UNDERSCORE_LABEL + r"(\." + _UNDERSCORE_LABEL + ")*"
_DNS1035_LABEL: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_WILDCARD_SUBDOMAIN: Final = r"\*\." + _DNS1123_SUBDOMAIN
_QUALIFIED: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE: Final = f"({_QUALIFIED})?"
_C_IDENTIFIER: Final = "[A-Za-z_][A-Za-z0-9_]*"
_ENV_VAR: Final = "[-._a-zA-Z][-._a-zA-Z0-9]*"
_CONFIG_KEY: Final = "[-._a-zA-Z0-9]+"
_HTTP_HEADER: Final = "[-A-Za-z0-9]+"
_HTTP_PATH: Final = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_PERCENT: Final = "[0-9]+%"

_PATTERNS: Final = {
    pattern: re.compile(pattern)
    for pattern in (
        _DNS1123_LABEL,
        _DNS1123_SUBDOMAIN,
        _UNDERSCORE_SUBDOMAIN,
        _DNS1035_LABEL,
        _WILDCARD_SUBDOMAIN,
        _QUALIFIED,
        _LABEL_VALUE,
        _C_IDENTIFIER,
        _ENV_VAR,
        _CONFIG_KEY,
        _HTTP_HEADER,
        _HTTP_PATH,
        _PERCENT,
    )
}

EMPTY: Final = "must be non-empty"

_ALNUM_ENDS: Final = "must start and end with an alphanumeric character"
_SUBDOMAIN_TEXT: Final = (
    f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and {_ALNUM_ENDS}"
)
_UNDERSCORE_TEXT: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', "
    f"and {_ALNUM_ENDS}"
)
_LABEL_TEXT: Final = (
    f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and {_ALNUM_ENDS}"
)
_DNS1035_TEXT: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character"
)
_WILDCARD_TEXT: Final = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
)
_QUALIFIED_TEXT: Final = f"must consist of alphanumeric characters, '-', '_' or '.', and {_ALNUM_ENDS}"
_LABEL_VALUE_TEXT: Final = (
    f"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and {_ALNUM_ENDS}"
)
_C_IDENTIFIER_TEXT: Final = (
    "a valid C identifier must start with alphabetic character or '_', "
    "followed by a string of alphanumeric characters or '_'"
)
_ENV_VAR_TEXT: Final = (
    "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', "
    "and must not start with a digit"
)
_RELAXED_ENV_VAR_TEXT: Final = (
    "a valid environment variable name must consist only of printable ASCII characters other than '='"
)


def regex_error(text: str, pattern: str, *examples: str) -> str:
    """The message of a value that does not match `pattern`."""
    used = f"regex used for validation is '{pattern}')"
    if not examples:
        return f"{text} ({used}"
    return f"{text} (e.g. " + " or ".join(f"'{e}', " for e in examples) + used


def max_length_error(limit: int, unit: str = "characters") -> str:
    """The message of a value that is too long."""
    return f"must be no more than {limit} {unit}"


def range_error(low: int, high: int) -> str:
    """The message of a number outside its range, both ends allowed."""
    return f"must be between {low} and {high}, inclusive"


def _size(value: str) -> int:
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))


def _check(value: str, pattern: str, text: str, *examples: str, limit: int = 0, unit: str = "characters") -> list[str]:
    errors = [max_length_error(limit, unit)] if limit and _size(value) > limit else []
    if not _PATTERNS[pattern].fullmatch(value):
        errors.append(regex_error(text, pattern, *examples))
    return errors


def _upward(value: str) -> list[str]:
    if value == ".":
        return ["must not be '.'"]
    if value == "..":
        return ["must not be '..'"]
    return ["must not start with '..'"] if value.startswith("..") else []


def dns1123_label(value: str, *, unit: str = "characters") -> list[str]:
    """A name without dots, of at most 63 characters."""
    errors = [max_length_error(63, unit)] if _size(value) > 63 else []
    if not _PATTERNS[_DNS1123_LABEL].fullmatch(value):
        dotted = _PATTERNS[_DNS1123_SUBDOMAIN].fullmatch(value)
        errors.append(
            "must not contain dots" if dotted else regex_error(_LABEL_TEXT, _DNS1123_LABEL, "my-name", "123-abc")
        )
    return errors


def dns1123_subdomain(value: str, *, unit: str = "characters") -> list[str]:
    """A name such as most objects have: labels with dots between, at most 253 characters."""
    return _check(value, _DNS1123_SUBDOMAIN, _SUBDOMAIN_TEXT, "example.com", limit=253, unit=unit)


def dns1123_subdomain_with_underscore(value: str) -> list[str]:
    """A subdomain whose labels may have underscores."""
    return _check(value, _UNDERSCORE_SUBDOMAIN, _UNDERSCORE_TEXT, "example.com", limit=253)


def wildcard_dns1123_subdomain(value: str) -> list[str]:
    """`*.` and a subdomain."""
    return _check(value, _WILDCARD_SUBDOMAIN, _WILDCARD_TEXT, "*.example.com", limit=253)


def dns1035_label(value: str) -> list[str]:
    """A name such as Services have: a label that starts with a letter."""
    return _check(value, _DNS1035_LABEL, _DNS1035_TEXT, "my-name", "abc-123", limit=63)


def qualified_name(value: str) -> list[str]:
    """A key of labels and annotations, a resource name: `[prefix/]name`."""
    prefix, slash, name = value.partition("/")
    if "/" in name:
        text = regex_error(_QUALIFIED_TEXT, _QUALIFIED, "MyName", "my.name", "123-abc")
        return [f"a valid label key {text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    errors: list[str] = []
    if not slash:
        name = prefix
    elif not prefix:
        errors.append("prefix part " + EMPTY)
    else:
        errors += ["prefix part " + message for message in dns1123_subdomain(prefix, unit="bytes")]
    if not name:
        errors.append("name part " + EMPTY)
    elif _size(name) > 63:
        errors.append("name part " + max_length_error(63, "bytes"))
    if not _PATTERNS[_QUALIFIED].fullmatch(name):
        errors.append("name part " + regex_error(_QUALIFIED_TEXT, _QUALIFIED, "MyName", "my.name", "123-abc"))
    return errors


def prefixed_qualified_name(value: str) -> list[str]:
    """A qualified name that must have its prefix."""
    return qualified_name(value) or ([] if "/" in value else ["must include a prefix (e.g. 'example.com/key')"])


def label_value(value: str) -> list[str]:
    """The value of a label."""
    return _check(value, _LABEL_VALUE, _LABEL_VALUE_TEXT, "MyValue", "my_value", "12345", limit=63, unit="bytes")


def fully_qualified_name(value: str) -> list[str]:
    """A subdomain of at least three labels; the value must not be empty."""
    errors = dns1123_subdomain(value)
    if errors:
        return [",".join(errors)]
    return [] if value.count(".") >= 2 else ["should be a domain with at least three segments separated by dots"]


def fully_qualified_domain_name(value: str) -> list[str]:
    """A subdomain of at least two labels; a dot at the end is allowed; the value must not be empty."""
    value = value.removesuffix(".")
    errors = dns1123_subdomain(value)
    if errors:
        return [",".join(errors)]
    if "." not in value:
        return ["should be a domain with at least two segments separated by dots"]
    return [",".join(wrong) for label in value.split(".") if (wrong := dns1123_label(label))]


def domain_prefixed_path(value: str) -> list[str]:
    """`acme.io/foo`: a subdomain, a slash and an HTTP path; the value must not be empty."""
    host, _, path = value.partition("/")
    if not host or not path:
        return ['must be a domain-prefixed path (such as "acme.io/foo")']
    errors = dns1123_subdomain(host)
    if not _PATTERNS[_HTTP_PATH].fullmatch(path):
        errors.append(regex_error("Invalid path", _HTTP_PATH))
    return errors


def path_segment(value: str) -> list[str]:
    """A name that can stand in a URL path (RBAC's names)."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{c}'" for c in "/%" if c in value]


def path_segment_prefix(value: str) -> list[str]:
    """The beginning (generateName) of a path segment."""
    return [f"may not contain '{c}'" for c in "/%" if c in value]


def c_identifier(value: str) -> list[str]:
    """An identifier of the language C."""
    return _check(value, _C_IDENTIFIER, _C_IDENTIFIER_TEXT, "my_name", "MY_NAME", "MyName")


def env_var_name(value: str) -> list[str]:
    """The name of an environment variable, strictly."""
    return _check(value, _ENV_VAR, _ENV_VAR_TEXT, "my.env-name", "MY_ENV.NAME", "MyEnvName1") + _upward(value)


def relaxed_env_var_name(value: str) -> list[str]:
    """The name of an environment variable as v1.34 and later accept it: printable ASCII without `=`."""
    if not value:
        return ["environment variable name " + EMPTY]
    return [] if all(" " <= c <= "~" and c != "=" for c in value) else [_RELAXED_ENV_VAR_TEXT]


def config_map_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret."""
    text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
    return _check(value, _CONFIG_KEY, text, "key.name", "KEY_NAME", "key-name", limit=253) + _upward(value)


def http_header(value: str) -> list[str]:
    """The name of an HTTP header."""
    text = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return _check(value, _HTTP_HEADER, text, "X-Header-Name")


def percent(value: str) -> list[str]:
    """A percentage: `25%`."""
    text = "a valid percent string must be a numeric string followed by an ending '%'"
    return _check(value, _PERCENT, text, "1%", "93%")


def port_name(value: str) -> list[str]:
    """The name of a port (an IANA service name)."""
    errors = [max_length_error(15)] if _size(value) > 15 else []
    if not re.fullmatch("[-a-z0-9]+", value):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        errors.append("must contain at least one letter (a-z)")
    if "--" in value:
        errors.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        errors.append("must not begin or end with a hyphen")
    return errors


def port_number(value: int) -> list[str]:
    """The number of a port that is not 0."""
    return in_range(value, 1, 65535)


def in_range(value: int, low: int, high: int) -> list[str]:
    """A number from low to high."""
    return [] if low <= value <= high else [range_error(low, high)]


def user_id(value: int) -> list[str]:
    """A user or group id."""
    return in_range(value, 0, 0xFFFFFFFF)
