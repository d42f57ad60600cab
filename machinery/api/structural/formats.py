"""The formats of strings that a structural schema can ask for; others are accepted and mean nothing.

Source: k8s.io/kube-openapi/pkg/validation/strfmt; apiextensions supportedFormats.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from machinery.api import names

_DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})?", re.ASCII)
_GO_DURATION = re.compile(r"[+-]?(\d+(\.\d*)?(ns|us|µs|μs|ms|s|m|h))+|0")
_WORDS_DURATION = re.compile(
    r"\d+\s*(ns|nano|us|µs|micro|ms|milli|s|sec|second|seconds|m|min|minute|minutes|h|hr|hour|hours|d|day|days"
    r"|w|wk|week|weeks|nanoseconds?|microseconds?|milliseconds?)"
)
_HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9-_]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-_]{1,63}(?<!-))*\.?", re.ASCII)


def _accepts(function: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            return function(text) is not None
        except ValueError:
            return False

    return check


def _date_time(text: str) -> bool:
    if not _DATE_TIME.fullmatch(text):
        return False
    return _accepts(lambda t: datetime.datetime.fromisoformat(t[:19].replace(" ", "T").upper()))(text)


def _cidr(text: str) -> bool:
    return "/" in text and _accepts(lambda t: ipaddress.ip_network(t, strict=False))(text)


def _uuid(version: int = 0) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        if not re.fullmatch(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", text):
            return False
        return not version or uuid.UUID(text).version == version

    return check


def _isbn(digits: str) -> str:
    return re.sub(r"[\s-]", "", digits)


def _isbn10(text: str) -> bool:
    number = _isbn(text)
    if not re.fullmatch(r"[0-9]{9}[0-9X]", number):
        return False
    return sum((10 - i) * (10 if c == "X" else int(c)) for i, c in enumerate(number)) % 11 == 0


def _isbn13(text: str) -> bool:
    number = _isbn(text)
    return (
        bool(re.fullmatch(r"[0-9]{13}", number)) and sum(int(c) * (1, 3)[i % 2] for i, c in enumerate(number)) % 10 == 0
    )


def _credit_card(text: str) -> bool:
    number = re.sub(r"[^0-9]", "", text)
    if not 13 <= len(number) <= 19:
        return False
    doubled = [int(c) * (2 if i % 2 else 1) for i, c in enumerate(reversed(number))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _pattern(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def _mac(text: str) -> bool:
    return any(
        re.fullmatch(p, text)
        for p in (
            r"(?i)([0-9a-f]{2}[:-]){5}[0-9a-f]{2}",
            r"(?i)([0-9a-f]{2}[:-]){7}[0-9a-f]{2}",
            r"(?i)([0-9a-f]{2}[:-]){19}[0-9a-f]{2}",
            r"(?i)([0-9a-f]{4}\.){2}[0-9a-f]{4}",
            r"(?i)([0-9a-f]{4}\.){3}[0-9a-f]{4}",
        )
    )


def _duration(text: str) -> bool:
    return bool(_GO_DURATION.fullmatch(text) or _WORDS_DURATION.fullmatch(text.strip().lower()))


CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "bsonobjectid": _pattern(r"[0-9a-fA-F]{24}"),
    "uri": _accepts(lambda t: urlsplit(t).scheme or t.startswith("/") or None),
    "email": _pattern(r"[^@\s<>]+@[^@\s<>]+"),
    "hostname": lambda t: len(t) <= 255 and _HOSTNAME.fullmatch(t) is not None,
    "ipv4": _accepts(ipaddress.IPv4Address),
    "ipv6": _accepts(ipaddress.IPv6Address),
    "cidr": _cidr,
    "mac": _mac,
    "uuid": _uuid(),
    "uuid3": _uuid(3),
    "uuid4": _uuid(4),
    "uuid5": _uuid(5),
    "isbn": lambda t: _isbn10(t) or _isbn13(t),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "creditcard": _credit_card,
    "ssn": _pattern(r"\d{3}[- ]?\d{2}[- ]?\d{4}"),
    "hexcolor": _pattern(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "rgbcolor": _pattern(
        r"rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,"
        r"\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)"
    ),
    "byte": _accepts(lambda t: base64.b64decode(t, validate=True)),
    "password": lambda _: True,
    "date": _accepts(lambda t: datetime.date.fromisoformat(t) if len(t) == 10 else None),
    "duration": _duration,
    "datetime": _date_time,
    "quantity": lambda _: True,
    "k8sshortname": lambda t: not names.dns1123_label(t),
    "k8slongname": lambda t: not names.dns1123_subdomain(t),
}
"""By the format's name without its dashes."""


def unrecognized(schema: Mapping[str, Any]) -> bool:
    """Whether the format of a schema means nothing. Source: apiextensions-apiserver's GetUnrecognizedFormats."""
    form, sort = schema.get("format") or "", schema.get("type") or ""
    if not form:
        return False
    if sort in ("", "string"):
        return form.replace("-", "") not in CHECKS
    return form not in _OF_NUMBERS.get(sort, ())


_OF_NUMBERS: Final = {"integer": ("int32", "int64"), "number": ("float", "double")}
