"""What is wrong with the replicas and the selector that the scale of a custom resource is made of.

Source: k8s.io/apiextensions-apiserver/pkg/registry/customresource/validator.go (ValidateScaleSpec, -Status),
k8s.io/apimachinery/pkg/apis/meta/v1/unstructured/helpers.go (NestedInt64, NestedString).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from machinery.api.fielderror import FieldError, invalid
from machinery.api.meta import Object
from machinery.api.patch import goformat

_MOST: Final = 2**31 - 1


def errors(scale: Mapping[str, Any] | None, obj: Object, *, spec: bool = True) -> Iterator[FieldError]:
    """The errors of an object; `spec`: of its spec too, not of its status only."""
    if scale is None:
        return
    if spec:
        yield from _replicas(obj, scale.get("specReplicasPath") or "")
    yield from _replicas(obj, scale.get("statusReplicasPath") or "")
    selector = scale.get("labelSelectorPath")
    if selector is not None:
        _, wrong = _at(obj, selector, str, "string")
        if wrong:
            yield invalid(selector, "", wrong)


def _replicas(obj: Object, path: str) -> Iterator[FieldError]:
    number, wrong = _at(obj, path, int, "int64")
    if wrong:
        yield invalid(path, 0, wrong)
    elif number is not None and number < 0:
        yield invalid(path, number, "should be a non-negative integer")
    elif number is not None and number > _MOST:
        yield invalid(path, number, f"should be less than or equal to {_MOST}")


def _at(obj: Object, path: str, kind: type, name: str) -> tuple[Any, str]:
    """What stands at a path (None: nothing), and what is wrong with it."""
    found: Any = obj
    steps = path.removeprefix(".").split(".")
    for i, step in enumerate(steps):
        if found is None:
            return None, ""
        if not isinstance(found, dict):
            return None, _refusal(steps[: i + 1], found, "map[string]interface{}")
        if step not in found:
            return None, ""
        found = found[step]
    return (found, "") if found.__class__ is kind else (None, _refusal(steps, found, name))


def _refusal(steps: list[str], found: Any, wanted: str) -> str:
    shown = goformat.show(found)
    return f".{'.'.join(steps)} accessor error: {shown} is of the type {goformat.type_name(found)}, expected {wanted}"
