"""Schedules of CronJobs.

Source: pkg/apis/batch/validation/validation.go (validateScheduleFormat); github.com/robfig/cron/v3 parser.go.
"""

from __future__ import annotations

import re
import zoneinfo
from functools import cache

from machinery.api.fielderror import FieldError, invalid

_MONTH_NAMES = "jan feb mar apr may jun jul aug sep oct nov dec"
_DAY_NAMES = "sun mon tue wed thu fri sat"
_MONTHS = {n: i for i, n in enumerate(_MONTH_NAMES.split(), 1)}
_DAYS = {n: i for i, n in enumerate(_DAY_NAMES.split())}
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
_WORDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_DURATION = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")


def schedule(at: str, wanted: str, *, has_zone: bool, known: bool) -> list[FieldError]:
    """A schedule; one that is `known` may still carry a time zone, which is no longer accepted."""
    errors: list[FieldError] = []
    wrong = parse_error(wanted)
    if wrong:
        errors.append(invalid(at, wanted, wrong))
    if "TZ" in wanted:
        if has_zone:
            detail = (
                "cannot use both timeZone field and TZ or CRON_TZ in schedule"
                if known
                else "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            )
            errors.append(invalid(at, wanted, detail))
        elif not known:
            errors.append(invalid(at, wanted, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
    return errors


def parse_error(text: str) -> str:
    """Why a schedule can't be read, or "" if it can."""
    if not text:
        return "empty spec string"
    if text.startswith(("TZ=", "CRON_TZ=")):
        zone, space, text = text.partition(" ")
        name = zone.partition("=")[2]
        if not space:
            return f"provided bad location {name}"
        if name not in ("", "UTC", "Local") and name not in _zones():
            return f"provided bad location {name}: unknown time zone {name}"
        text = text.strip()
    if text.startswith("@"):
        return _descriptor_error(text)
    fields = text.split()
    if len(fields) != 5:
        return f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]"
    for value, (low, high, names) in zip(fields, _FIELDS, strict=True):
        for part in value.split(","):
            if part and (wrong := _range_error(part, low, high, names)):
                return wrong
    return ""


def _descriptor_error(text: str) -> str:
    if text in _WORDS:
        return ""
    if text.startswith("@every "):
        duration = text.removeprefix("@every ")
        digits = duration.lstrip("+-")
        if digits == "0" or (digits and not _DURATION.sub("", digits)):
            return ""
        return f'failed to parse duration {text}: time: invalid duration "{duration}"'
    return f"unrecognized descriptor: {text}"


def _range_error(part: str, low: int, high: int, names: dict[str, int]) -> str:
    pieces = part.split("/")
    bounds = pieces[0].split("-")
    single = len(bounds) == 1
    if bounds[0] in ("*", "?"):
        first, last = low, high
    else:
        found = _number(bounds[0], names)
        if isinstance(found, str):
            return found
        first = last = found
        if len(bounds) == 2:
            found = _number(bounds[1], names)
            if isinstance(found, str):
                return found
            last = found
        elif len(bounds) > 2:
            return f"too many hyphens: {part}"
    step = 1
    if len(pieces) == 2:
        found = _number(pieces[1], {})
        if isinstance(found, str):
            return found
        step = found
        if single:
            last = high
    elif len(pieces) > 2:
        return f"too many slashes: {part}"
    if first < low:
        return f"beginning of range ({first}) below minimum ({low}): {part}"
    if last > high:
        return f"end of range ({last}) above maximum ({high}): {part}"
    if first > last:
        return f"beginning of range ({first}) beyond end of range ({last}): {part}"
    return f"step of range should be a positive number: {part}" if step == 0 else ""


def _number(text: str, names: dict[str, int]) -> int | str:
    """A number or a name, or what is wrong with it."""
    if text.lower() in names:
        return names[text.lower()]
    digits = text.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        return f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax'
    value = int(text)
    return f"negative number ({value}) not allowed: {text}" if value < 0 else value


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def time_zone(at: str, zone: object) -> list[FieldError]:
    """The name of a time zone."""
    if not isinstance(zone, str):
        return []
    if not zone:
        return [invalid(at, zone, "timeZone must be nil or non-empty string")]
    if zone.lower() == "local":
        return [
            invalid(at, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")
        ]
    if zone != zone.strip():
        return [invalid(at, zone, f"unknown time zone {zone}")]
    return [] if zone in _zones() or zone == "UTC" else [invalid(at, zone, f"unknown time zone {zone}")]
