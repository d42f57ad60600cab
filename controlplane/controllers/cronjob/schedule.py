"""Cron schedules: `*/5 9-17 * * mon-fri`, `@daily`, `@every 90m`.

Source: github.com/robfig/cron/v3 (standard parser), which upstream uses; crontab(5).
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from machinery.settings import duration

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_YEARS_AHEAD = 5


class Schedule(Protocol):
    """When something is to happen."""

    def next(self, after: datetime) -> datetime | None:
        """The first time later than `after`, in UTC; None if there is none within five years."""
        ...


@dataclass(frozen=True)
class Every:
    """At a fixed pause."""

    pause: timedelta

    def next(self, after: datetime) -> datetime | None:
        """One pause later, on a whole second."""
        return after.astimezone(UTC).replace(microsecond=0) + self.pause


@dataclass(frozen=True)
class Crontab:
    """At the minutes that five fields tell, by the clocks of a time zone."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    """Day of month and day of week both have to fit if one of them is `*`; else one is enough."""

    zone: tzinfo

    def next(self, after: datetime) -> datetime | None:
        """The next minute that fits. Times that the clocks skip do not happen; of repeated ones, the first does."""
        moment = after.astimezone(self.zone).replace(tzinfo=None, second=0, microsecond=0) + timedelta(minutes=1)
        last_year = moment.year + _YEARS_AHEAD
        while moment.year <= last_year:
            if moment.month not in self.months:
                first = moment.replace(day=1, hour=0, minute=0)
                moment = (first + timedelta(days=32)).replace(day=1)
            elif not self._is_day(moment):
                moment = moment.replace(hour=0, minute=0) + timedelta(days=1)
            elif moment.hour not in self.hours:
                moment = moment.replace(minute=0) + timedelta(hours=1)
            elif moment.minute not in self.minutes:
                moment += timedelta(minutes=1)
            else:
                found = moment.replace(tzinfo=self.zone).astimezone(UTC)
                exists = found.astimezone(self.zone).replace(tzinfo=None) == moment
                if exists and found > after:
                    return found
                moment += timedelta(minutes=1)
        return None

    def _is_day(self, moment: datetime) -> bool:
        by_month, by_week = moment.day in self.days, (moment.weekday() + 1) % 7 in self.weekdays
        return by_month or by_week if self.any_day else by_month and by_week


def parse(text: str, zone: tzinfo = UTC) -> Schedule:
    """Read a schedule. Raises ValueError that says what is wrong."""
    if not text.strip():
        raise ValueError("empty spec string")
    if text.startswith("@every "):
        try:
            seconds = int(duration(text.removeprefix("@every ").strip()))
        except ValueError as exc:
            raise ValueError(f"failed to parse duration {text}: {exc}") from None
        return Every(timedelta(seconds=max(1, seconds)))
    if text.startswith("@"):
        if text not in _DESCRIPTORS:
            raise ValueError(f"unrecognized descriptor: {text}")
        text = _DESCRIPTORS[text]
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    read = [_field(field, *rule) for field, rule in zip(fields, _FIELDS, strict=True)]
    restricted = [not _is_star(fields[2]), not _is_star(fields[4])]
    return Crontab(read[0], read[1], read[2], read[3], read[4], all(restricted), zone)


def _is_star(field: str) -> bool:
    """Whether one of the field's parts is `*`, or `*` with steps."""
    return any(part.partition("/")[0] in ("*", "?") for part in field.split(","))


def _field(text: str, what: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        bounds, slash, step_text = part.partition("/")
        first, dash, last = bounds.partition("-")
        if first in ("*", "?"):
            start, end = low, high
        else:
            start = _number(first, names)
            end = _number(last, names) if dash else (high if slash else start)
        step = _number(step_text, {}) if slash else 1
        if start < low or end > high:
            raise ValueError(f"{what} out of range [{low}-{high}]: {part}")
        if start > end:
            raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {part}")
        if step == 0:
            raise ValueError(f"step of range should be a positive number: {part}")
        found.update(range(start, end + 1, step))
    return frozenset(found)


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not text.isdigit():
        raise ValueError(f"failed to parse int from {text}")
    return int(text)


_WINDOWS = tuple(timedelta(hours=h) for h in (2, 30, 24 * 9, 24 * 40, 24 * 800, 24 * 366 * 5))


def latest(schedule: Schedule, after: datetime, until: datetime) -> datetime | None:
    """The last time later than `after` and not later than `until`; None if there is none."""
    if isinstance(schedule, Every):
        pauses = (until - after) // schedule.pause
        return None if pauses < 1 else (schedule.next(after) or after) + (pauses - 1) * schedule.pause
    for window in _WINDOWS:
        start = max(after, until - window)
        found = None
        moment = schedule.next(start)
        while moment is not None and moment <= until:
            found, moment = moment, schedule.next(moment)
        if found is not None or start == after:
            return found
    return None
