"""Why a text is no IP address, in the words of Go's net/netip.

Source: Go's src/net/netip/netip.go (ParseAddr, ParsePrefix).
"""

from __future__ import annotations

import re
from typing import Final

from machinery.api.fielderror import show

_HEX: Final = re.compile(r"[0-9A-Fa-f]*")


class Refused(ValueError):
    """What is wrong, and where."""


def _refused(message: str, at: str = "") -> Refused:
    return Refused(f"{message} (at {show(at)})" if at else message)


def why(text: str) -> str:
    """What ParseAddr says of a text; "" if it is an address."""
    try:
        _check(text)
    except Refused as exc:
        return f"ParseAddr({show(text)}): {exc}"
    return ""


def _check(text: str) -> None:
    first = re.search(r"[.:%]", text)
    if first is None:
        raise _refused("unable to parse IP")
    if first[0] == "%":
        raise _refused("missing IPv6 address")
    _v4(text) if first[0] == "." else _v6(text)


def _v4(text: str) -> None:
    value = digits = dots = 0
    for i, char in enumerate(text):
        if "0" <= char <= "9":
            if digits == 1 and value == 0:
                raise _refused("IPv4 field has octet with leading zero")
            value, digits = value * 10 + int(char), digits + 1
            if value > 255:
                raise _refused("IPv4 field has value >255")
        elif char != ".":
            raise _refused("unexpected character", text[i:])
        elif i in (0, len(text) - 1) or text[i - 1] == ".":
            raise _refused("IPv4 field must have at least one digit", text[i:])
        elif dots == 3:
            raise _refused("IPv4 address too long")
        else:
            value, digits, dots = 0, 0, dots + 1
    if dots < 3:
        raise _refused("IPv4 address too short")


def _v6(text: str) -> None:
    rest, zoned, zone = text.partition("%")
    if zoned and not zone:
        raise _refused("zone must be a non-empty string")
    ellipsis, count = rest.startswith("::"), 0
    if ellipsis:
        rest = rest[2:]
        if not rest:
            return
    while count < 8:
        found = _HEX.match(rest)
        group = found[0] if found else ""
        if len(group) > 4:
            raise _refused("each group must have 4 or less digits", rest)
        if not group:
            raise _refused("each colon-separated field must have at least one digit", rest)
        if rest[len(group) : len(group) + 1] == ".":
            _embedded(rest, count, ellipsis=ellipsis)
            rest, count = "", count + 2
            break
        count += 1
        rest = rest[len(group) :]
        if not rest:
            break
        if rest[0] != ":":
            raise _refused("unexpected character, want colon", rest)
        if len(rest) == 1:
            raise _refused("colon must be followed by more characters", rest)
        rest = rest[1:]
        if rest[0] == ":":
            if ellipsis:
                raise _refused("multiple :: in address", rest)
            ellipsis, rest = True, rest[1:]
            if not rest:
                break
    if rest:
        raise _refused("trailing garbage after address", rest)
    if count < 8 and not ellipsis:
        raise _refused("address string too short")
    if count == 8 and ellipsis:
        raise _refused("the :: must expand to at least one field of zeros")


def _embedded(rest: str, count: int, *, ellipsis: bool) -> None:
    if not ellipsis and count != 6:
        raise _refused("embedded IPv4 address must replace the final 2 fields of the address", rest)
    if count > 6:
        raise _refused("too many hex fields to fit an embedded IPv4 at the end of the address", rest)
    _v4(rest)


def why_prefix(text: str) -> str:
    """What ParsePrefix says of a text; "" if it is a network."""
    base, slash, bits = text.rpartition("/")
    told = ""
    if not slash:
        told = "no '/'"
    elif wrong := why(base):
        told = wrong
    elif "%" in base:
        told = "IPv6 zones cannot be present in a prefix"
    elif not re.fullmatch(r"0|[1-9][0-9]*", bits):
        told = f"bad bits after slash: {show(bits)}"
    elif int(bits[:6]) > (128 if ":" in base else 32):
        told = "prefix length out of range"
    return f"netip.ParsePrefix({show(text)}): {told}" if told else ""
