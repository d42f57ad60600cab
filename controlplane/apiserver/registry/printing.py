"""Words for times and lists in tables.

A cell callable sees only the object; what depends on the present it returns as an `Age`, which the table code renders.

Source: k8s.io/apimachinery/pkg/util/duration; pkg/printers/internalversion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from machinery.api.meta import parse_time

UNKNOWN = "<unknown>"
NONE = "<none>"
UNSET = "<unset>"


def human_duration(seconds: float) -> str:
    """A span of time in one or two units: `5s`, `3m20s`, `2d4h`, `6y327d`."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours = whole // 60, whole // 3600
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(great: int, great_unit: str, small: int, small_unit: str) -> str:
    return f"{great}{great_unit}{small}{small_unit}" if small else f"{great}{great_unit}"


@dataclass(frozen=True, slots=True)
class Age:
    """The time since `timestamp` (RFC 3339; anything else is unknown), between two texts."""

    timestamp: Any
    before: str = ""
    after: str = ""

    def render(self, now: datetime) -> str:
        """The cell's text at this moment."""
        moment = moment_of(self.timestamp)
        text = human_duration((now - moment) / timedelta(seconds=1)) if moment else UNKNOWN
        return f"{self.before}{text}{self.after}"


def moment_of(timestamp: Any) -> datetime | None:
    """The moment of a Time or MicroTime; None if it is absent or none."""
    if not isinstance(timestamp, str) or not timestamp:
        return None
    try:
        return parse_time(timestamp)
    except ValueError:
        return None


def render(cell: Any, now: datetime) -> Any:
    """A cell's value as it is sent."""
    return cell.render(now) if isinstance(cell, Age) else cell


def listed(values: Sequence[str], limit: int, total: int | None = None, *, separator: str = ",") -> str:
    """The first `limit` values and how many more there are."""
    count = len(values) if total is None else total
    text = separator.join(values[:limit])
    return f"{text} + {count - limit} more..." if len(values) > limit else text
