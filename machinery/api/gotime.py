"""Moments as Go's time.Parse reads them, for meta/v1 Time and MicroTime.

A Time may have a fraction of a second of any length; a MicroTime must have one, of six digits.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from machinery.api.meta import format_micro_time, format_time

_LAYOUT: Final = "2006-01-02T15:04:05Z07:00"
_MICRO_LAYOUT: Final = "2006-01-02T15:04:05.000000Z07:00"
_USUAL = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z", re.ASCII)
_PLAIN = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)
_ELEMENTS: Final = [
    ("2006", r"\d{4}", "", 0, 9999), ("-", "-", "", 0, 0), ("01", r"\d{2}", "month", 1, 12), ("-", "-", "", 0, 0),
    ("02", r"\d{2}", "", 0, 99), ("T", "T", "", 0, 0), ("15", r"\d{1,2}", "hour", 0, 23), (":", ":", "", 0, 0),
    ("04", r"\d{2}", "minute", 0, 59), (":", ":", "", 0, 0), ("05", r"\d{2}", "second", 0, 59),
]  # fmt: skip
_FRACTION = re.compile(r"[.,](\d+)", re.ASCII)
_MICRO_FRACTION = re.compile(r"[.,](\d{6})", re.ASCII)
_ZONE = re.compile(r"Z|([+-])(\d{2}):(\d{2})", re.ASCII)


def canonical(text: str, *, micro: bool) -> str:
    """The moment as Go prints it: UTC, whole seconds or microseconds. Raises ValueError with Go's message."""
    if (_USUAL if micro else _PLAIN).fullmatch(text) is not None and _real(text):
        return text
    moment = _parse(text, micro=micro)
    return format_micro_time(moment) if micro else format_time(moment)


def _real(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _parse(text: str, *, micro: bool) -> datetime:
    layout = _MICRO_LAYOUT if micro else _LAYOUT

    def unlike(rest: str, element: str) -> ValueError:
        return ValueError(f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as "{element}"')

    def beyond(what: str) -> ValueError:
        return ValueError(f'parsing time "{text}": {what} out of range')

    rest = text
    numbers: list[int] = []
    for element, pattern, name, low, high in _ELEMENTS:
        found = re.match(pattern, rest, re.ASCII)
        if found is None:
            raise unlike(rest, element)
        if found[0].isdigit():
            numbers.append(int(found[0]))
            if not low <= numbers[-1] <= high:
                raise beyond(name)
        rest = rest[found.end() :]
    fraction = (_MICRO_FRACTION if micro else _FRACTION).match(rest)
    if micro and fraction is None:
        raise unlike(rest, ".000000")
    rest = rest[fraction.end() :] if fraction else rest
    zone = _ZONE.match(rest)
    if zone is None:
        raise unlike(rest, "Z07:00")
    hours, minutes = int(zone[2] or 0), int(zone[3] or 0)
    for value, most, name in ((hours, 24, "hour"), (minutes, 60, "minute")):
        if value > most:
            raise beyond(f"time zone offset {name}")
    if zone.end() != len(rest):
        raise ValueError(f'parsing time "{text}": extra text: "{rest[zone.end() :]}"')
    shift = timedelta(hours=hours, minutes=minutes) * (-1 if zone[1] == "+" else 1)
    parts = int(((fraction[1] if fraction else "") + "000000")[:6])
    year, month, day, hour, minute, second = numbers
    try:
        return datetime(year, month, day, hour, minute, second, parts, tzinfo=UTC) + shift
    except (ValueError, OverflowError):
        raise beyond("day") from None
