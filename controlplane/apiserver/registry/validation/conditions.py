"""Conditions in the form of meta/v1.

Source: k8s.io/apimachinery/pkg/apis/meta/v1/validation (ValidateConditions).
"""

from __future__ import annotations

import re

from controlplane.apiserver.registry.objects import number, text
from controlplane.apiserver.registry.validation.parts import check_names, repeated, unsupported
from machinery.api import names
from machinery.api.fielderror import FieldError, invalid, required, too_long
from machinery.api.meta import Object

_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
_REASON_TEXT = (
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric "
    "characters or '_,:', and must end with an alphanumeric character or '_'"
)


def conditions(at: str, found: list[Object]) -> list[FieldError]:
    """A list of conditions, one of each type."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, condition in enumerate(found):
        where = f"{at}[{index}]"
        kind = text(condition, "type")
        if kind in seen:
            errors.append(repeated(f"{where}.type", kind))
        seen.add(kind)
        errors += _condition(where, condition)
    return errors


def _condition(at: str, condition: Object) -> list[FieldError]:
    kind, status, reason = text(condition, "type"), text(condition, "status"), text(condition, "reason")
    errors = check_names(f"{at}.type", kind, names.qualified_name)
    if status not in ("True", "False", "Unknown"):
        errors.append(unsupported(f"{at}.status", status, ("False", "True", "Unknown")))
    if number(condition, "observedGeneration") < 0:
        value = number(condition, "observedGeneration")
        errors.append(invalid(f"{at}.observedGeneration", value, "must be greater than or equal to zero"))
    if not text(condition, "lastTransitionTime"):
        errors.append(required(f"{at}.lastTransitionTime", "must be set"))
    if not reason:
        errors.append(required(f"{at}.reason", "must be set"))
    elif len(reason) > 1024:
        errors.append(too_long(f"{at}.reason", 1024))
    elif not _REASON.fullmatch(reason):
        detail = names.regex_error(
            _REASON_TEXT, _REASON.pattern, "my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"
        )
        errors.append(invalid(f"{at}.reason", reason, detail))
    if len(text(condition, "message")) > 32768:
        errors.append(too_long(f"{at}.message", 32768))
    return errors
