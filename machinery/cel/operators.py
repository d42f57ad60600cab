"""What operators do, on values of any type.

Source: cel-spec; cel-go common/types (messages).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from machinery.cel.errors import EvaluationError
from machinery.cel.values import (
    INT_MAX,
    INT_MIN,
    NONE,
    UINT_MAX,
    Duration,
    Optional,
    Timestamp,
    UInt,
    combined,
    equal,
    is_number,
    type_name,
)

NO_OVERLOAD: Final = "no such overload"


def integer(value: int) -> int:
    """An int within bounds. Raises EvaluationError."""
    if not INT_MIN <= value <= INT_MAX:
        raise EvaluationError("integer overflow")
    return value


def unsigned(value: int) -> UInt:
    """A uint within bounds. Raises EvaluationError."""
    if not 0 <= value <= UINT_MAX:
        raise EvaluationError("unsigned integer overflow")
    return UInt(value)


def instant(nanoseconds: int, offset: int = 0) -> Timestamp:
    """A timestamp within bounds: years 1 to 9999. Raises EvaluationError."""
    if not -62135596800 * 10**9 <= nanoseconds < 253402300800 * 10**9:
        raise EvaluationError("timestamp overflow")
    return Timestamp(nanoseconds, offset)


def span(nanoseconds: int) -> Duration:
    """A duration within bounds. Raises EvaluationError."""
    if not INT_MIN <= nanoseconds <= INT_MAX:
        raise EvaluationError("integer overflow")
    return Duration(nanoseconds)


def add(a: Any, b: Any) -> Any:
    """a + b."""
    kind = a.__class__
    if kind is b.__class__:
        if kind is int:
            return integer(a + b)
        if kind in (str, bytes, float):
            return a + b
        if kind is UInt:
            return unsigned(int(a) + int(b))
        if kind is Duration:
            return span(a.nanoseconds + b.nanoseconds)
    if isinstance(a, list) and isinstance(b, list):
        return combined(a, b)
    if isinstance(a, Timestamp | Duration) and isinstance(b, Timestamp | Duration) and kind is not b.__class__:
        return instant(a.nanoseconds + b.nanoseconds, getattr(a, "offset", 0) or getattr(b, "offset", 0))
    raise EvaluationError(NO_OVERLOAD)


def subtract(a: Any, b: Any) -> Any:
    """a - b."""
    kind = a.__class__
    if kind is b.__class__:
        if kind is int:
            return integer(a - b)
        if kind is float:
            return a - b
        if kind is UInt:
            return unsigned(int(a) - int(b))
        if kind in (Duration, Timestamp):
            return span(a.nanoseconds - b.nanoseconds)
    if kind is Timestamp and isinstance(b, Duration):
        return instant(a.nanoseconds - b.nanoseconds, a.offset)
    raise EvaluationError(NO_OVERLOAD)


def multiply(a: Any, b: Any) -> Any:
    """a * b."""
    if a.__class__ is b.__class__:
        if a.__class__ is int:
            return integer(a * b)
        if a.__class__ is UInt:
            return unsigned(int(a) * int(b))
        if a.__class__ is float:
            return a * b
    raise EvaluationError(NO_OVERLOAD)


def divide(a: Any, b: Any) -> Any:
    """a / b; integers towards zero."""
    if a.__class__ is b.__class__:
        if a.__class__ in (int, UInt):
            if b == 0:
                raise EvaluationError("division by zero")
            whole = abs(int(a)) // abs(int(b))
            return UInt(whole) if a.__class__ is UInt else integer(whole if (a < 0) == (b < 0) else -whole)
        if a.__class__ is float:
            if b == 0:
                return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)
            return a / b
    raise EvaluationError(NO_OVERLOAD)


def modulo(a: Any, b: Any) -> Any:
    """a % b, with the sign of a."""
    if a.__class__ is b.__class__ and a.__class__ in (int, UInt):
        if b == 0:
            raise EvaluationError("modulus by zero")
        rest = abs(int(a)) % abs(int(b))
        return UInt(rest) if a.__class__ is UInt else (rest if a >= 0 else -rest)
    raise EvaluationError(NO_OVERLOAD)


def negate(a: Any) -> Any:
    """-a."""
    if a.__class__ is int:
        return integer(-a)
    if a.__class__ is float:
        return -a
    if a.__class__ is Duration:
        return span(-a.nanoseconds)
    raise EvaluationError(NO_OVERLOAD)


def invert(a: Any) -> bool:
    """!a."""
    if a is True or a is False:
        return not a
    raise EvaluationError(NO_OVERLOAD)


def compare(a: Any, b: Any) -> int:
    """Below zero if a < b, above if a > b; 2 if one is not a number."""
    kind = a.__class__
    if kind is b.__class__:
        if kind in (int, str, bytes, bool, UInt):
            return int((a > b) - (a < b))
        if kind in (Timestamp, Duration):
            return int((a.nanoseconds > b.nanoseconds) - (a.nanoseconds < b.nanoseconds))
    if is_number(a) and is_number(b):
        return 2 if a != a or b != b else int((a > b) - (a < b))
    if hasattr(a, "compare") and kind is b.__class__:
        return int(a.compare(b))
    raise EvaluationError(NO_OVERLOAD)


def contains(item: Any, holder: Any) -> bool:
    """item in holder."""
    if isinstance(holder, list):
        return any(equal(item, each) for each in holder)
    if isinstance(holder, Mapping):
        return _key_in(item, holder) is not _ABSENT
    raise EvaluationError(NO_OVERLOAD)


_ABSENT: Final = object()


def _key_in(key: Any, holder: Mapping[Any, Any]) -> Any:
    if isinstance(key, list | Mapping):
        return _ABSENT
    if key.__class__ is bool and any(k == key and k.__class__ is not bool for k in holder):
        return _ABSENT  # Python takes true for 1
    return holder.get(key, _ABSENT)


def index(holder: Any, key: Any) -> Any:
    """holder[key]."""
    if isinstance(holder, Optional):
        return index_optional(holder, key)
    if isinstance(holder, list):
        if isinstance(key, float) and key.is_integer():
            key = int(key)
        if not isinstance(key, int) or isinstance(key, bool):
            raise EvaluationError(f"unsupported index type '{type_name(key)}' in list")
        if not 0 <= key < len(holder):
            raise EvaluationError(f"index out of bounds: {key}")
        return holder[key]
    if isinstance(holder, Mapping):
        found = _key_in(key, holder)
        if found is _ABSENT:
            raise EvaluationError(f"no such key: {shown(key)}")
        return found
    raise EvaluationError(NO_OVERLOAD)


def index_optional(holder: Any, key: Any) -> Optional:
    """holder[?key]."""
    if isinstance(holder, Optional):
        if not holder.present:
            return NONE
        holder = holder.value
    if isinstance(holder, list):
        inside = isinstance(key, int) and not isinstance(key, bool) and 0 <= key < len(holder)
        return Optional(holder[key]) if inside else NONE
    if isinstance(holder, Mapping):
        found = _key_in(key, holder)
        return NONE if found is _ABSENT else Optional(found)
    raise EvaluationError(NO_OVERLOAD)


def shown(value: Any) -> str:
    """A key as messages tell it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
