"""Errors of one field of an object, and the 422 they add up to.

Source: k8s.io/apimachinery/pkg/util/validation/field (types, wording), API conventions (Status details).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from machinery.errors import Invalid


class _Omit:
    """Marks a value that the message does not show."""


OMIT: Final = _Omit()


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field. Made by the functions below, one for each type upstream has."""

    reason: str  # the cause's reason: FieldValueInvalid, …
    field: str  # spec.containers[0].image
    body: str  # the message without the field
    borne: bool = False  # was wrong before and did not change: the writer is only warned

    def __str__(self) -> str:
        return f"{self.field}: {self.body}" if self.field else self.body

    def cause(self) -> dict[str, str]:
        """This error as an entry of Status.details.causes."""
        return {"reason": self.reason, "message": self.body, "field": self.field}


def show(value: Any) -> str:
    """A value as upstream's messages print it: strings quoted, structures as JSON, null for what is absent."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _with_value(title: str, value: Any, detail: str) -> str:
    text = title if isinstance(value, _Omit) else f"{title}: {show(value)}"
    return f"{text}: {detail}" if detail else text


def required(field: str, detail: str = "") -> FieldError:
    """The field must have a value and has none."""
    return FieldError("FieldValueRequired", field, _with_value("Required value", OMIT, detail))


def invalid(field: str, value: Any, detail: str) -> FieldError:
    """The value has the right type and is not acceptable."""
    return FieldError("FieldValueInvalid", field, _with_value("Invalid value", value, detail))


def not_supported(field: str, value: Any, allowed: Iterable[str]) -> FieldError:
    """The value is not one of those known; they are listed sorted."""
    detail = "supported values: " + ", ".join(show(v) for v in sorted(allowed))
    return FieldError("FieldValueNotSupported", field, _with_value("Unsupported value", value, detail))


def duplicate(field: str, value: Any) -> FieldError:
    """The value must be unique in its list and is not."""
    return FieldError("FieldValueDuplicate", field, _with_value("Duplicate value", value, ""))


def forbidden(field: str, detail: str) -> FieldError:
    """The field may not be set, or not changed, under these circumstances."""
    return FieldError("FieldValueForbidden", field, _with_value("Forbidden", OMIT, detail))


def not_found(field: str, value: Any) -> FieldError:
    """The value refers to something that does not exist."""
    return FieldError("FieldValueNotFound", field, _with_value("Not found", value, ""))


def too_long(field: str, limit: int, unit: str = "bytes") -> FieldError:
    """The string is longer than `limit`."""
    return FieldError("FieldValueTooLong", field, f"Too long: may not be more than {limit} {unit}")


def too_many(field: str, actual: int, limit: int) -> FieldError:
    """The list has more than `limit` items."""
    return FieldError("FieldValueTooMany", field, f"Too many: {actual}: must have at most {limit} items")


def type_invalid(field: str, value: Any, detail: str) -> FieldError:
    """The value has the wrong type."""
    return FieldError("FieldValueTypeInvalid", field, _with_value("Invalid value", value, detail))


def invalid_object(group: str, kind: str, name: str, errors: Sequence[FieldError]) -> Invalid:
    """The 422 for an object with these errors (at least one)."""
    qualified = f"{kind}.{group}" if group else kind
    texts = list(dict.fromkeys(str(e) for e in errors))
    told = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    details: dict[str, Any] = {"name": name} if name else {}
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    details["causes"] = [e.cause() for e in errors]
    return Invalid(f'{qualified} "{name}" is invalid: {told}', details=details)
