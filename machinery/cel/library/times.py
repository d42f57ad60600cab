"""Timestamps and durations as text.

Source: RFC 3339; Go's time.ParseDuration, Duration.String.
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from typing import Final

from machinery.cel.errors import EvaluationError
from machinery.cel.values import INT_MAX, Duration, Timestamp

_RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS: Final = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def parse_timestamp(text: str) -> Timestamp:
    """RFC 3339. Raises EvaluationError."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise EvaluationError(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"')
    zone = "+00:00" if found[4] in "Zz" else found[4]
    try:
        moment = datetime.datetime.fromisoformat(f"{found[1]}T{found[2]}{zone}")
    except ValueError:
        raise EvaluationError(f'parsing time "{text}": day out of range') from None
    past, ahead = moment - _EPOCH, moment.utcoffset() or datetime.timedelta()
    nanoseconds = int(((found[3] or "") + "000000000")[:9])
    return Timestamp((past.days * 86400 + past.seconds) * 10**9 + nanoseconds, int(ahead.total_seconds()))


def parse_duration(text: str) -> Duration:
    """Go's notation: 1h30m, 1.5s, -2ms. Raises EvaluationError."""
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return Duration(0)
    total, at = 0, 0
    while at < len(body):
        part = _PART.match(body, at)
        if part is None:
            break
        whole, _, fraction = part[1].partition(".")
        unit = _UNITS[part[2]]
        total += int(whole or 0) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
        at = part.end()
    if not body or at < len(body) or total > INT_MAX:
        raise EvaluationError(f'time: invalid duration "{text}"')
    return Duration(-total if text.startswith("-") else total)


def show_timestamp(moment: Timestamp) -> str:
    """RFC 3339 in the zone it was written in, with as many digits after the point as it takes."""
    seconds, nanoseconds = divmod(moment.nanoseconds, 10**9)
    shown = (_EPOCH + datetime.timedelta(seconds=seconds + moment.offset)).strftime("%Y-%m-%dT%H:%M:%S")
    year, _, rest = shown.partition("-")
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    hours, minutes = divmod(abs(moment.offset) // 60, 60)
    zone = f"{'-' if moment.offset < 0 else '+'}{hours:02d}:{minutes:02d}" if moment.offset else "Z"
    return f"{int(year):04d}-{rest}{fraction}{zone}"


def show_duration(duration: Duration) -> str:
    """In seconds: 90s, 1.5s."""
    seconds, rest = divmod(abs(duration.nanoseconds), 10**9)
    sign = "-" if duration.nanoseconds < 0 else ""
    return f"{sign}{seconds}" + (f".{rest:09d}".rstrip("0") if rest else "") + "s"


def moment_of(timestamp: Timestamp, zone: str) -> datetime.datetime:
    """A timestamp in a zone: a name, or an offset such as +02:00. Raises EvaluationError."""
    utc = _EPOCH + datetime.timedelta(microseconds=timestamp.nanoseconds // 1000)
    if not zone or zone == "UTC":
        return utc
    if found := re.fullmatch(r"([+-]?)(\d\d):(\d\d)", zone, re.ASCII):
        minutes = int(found[2]) * 60 + int(found[3])
        return utc.astimezone(datetime.timezone(datetime.timedelta(minutes=-minutes if found[1] == "-" else minutes)))
    try:
        return utc.astimezone(zoneinfo.ZoneInfo(zone))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise EvaluationError(f"unknown time zone {zone}") from None
