"""Selectors as reviews tell them: as text, or as requirements.

A selector only narrows what is asked for, so that what can't be understood or told of it may be left out.

Source: k8s.io/apiserver/plugin/pkg/authorizer/webhook, k8s.io/kubernetes/pkg/registry/authorization/util.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from machinery.api import fields, labels
from machinery.api.meta import Object

_TOLD_FIELDS = {"=": "In", "!=": "NotIn"}
_TOLD_LABELS = {
    labels.EQUALS: "In",
    labels.DOUBLE_EQUALS: "In",
    labels.IN: "In",
    labels.NOT_EQUALS: "NotIn",
    labels.NOT_IN: "NotIn",
    labels.EXISTS: "Exists",
    labels.DOES_NOT_EXIST: "DoesNotExist",
}
_READ_FIELDS = {told: sign for sign, told in _TOLD_FIELDS.items()}
_READ_LABELS = {
    "In": labels.IN,
    "NotIn": labels.NOT_IN,
    "Exists": labels.EXISTS,
    "DoesNotExist": labels.DOES_NOT_EXIST,
}


def field_requirements(text: str) -> list[Object]:
    """A field selector as requirements; none of one that can't be read."""
    try:
        found = fields.parse(text).requirements
    except ValueError:
        return []
    return [{"key": key, "operator": _TOLD_FIELDS[sign], "values": [value]} for key, sign, value in found]


def label_requirements(text: str) -> list[Object]:
    """A label selector as requirements; none of one that can't be read."""
    try:
        found = labels.parse(text).requirements
    except ValueError:
        return []
    return [
        {"key": r.key, "operator": _TOLD_LABELS[r.operator]} | ({"values": sorted(r.values)} if r.values else {})
        for r in found
        if r.operator in _TOLD_LABELS
    ]


def _read_raw(raw: str, parse: Callable[[str], object], field: str) -> tuple[str, str]:
    try:
        parse(raw)
    except ValueError:
        return "", _ignored(field, "")
    return raw, ""


def read_fields(attributes: Any) -> tuple[str, str]:
    """(fieldSelector of a review as text, what is to be told of it)."""
    if not attributes:
        return "", ""
    if raw := attributes.get("rawSelector"):
        return _read_raw(raw, fields.parse, "fieldSelector")
    wanted = attributes.get("requirements") or ()
    kept = tuple(
        (r.get("key") or "", _READ_FIELDS[r["operator"]], r["values"][0])
        for r in wanted
        if r.get("operator") in _READ_FIELDS and len(r.get("values") or ()) == 1
    )
    text = str(fields.FieldSelector(kept))
    return text, _ignored("fieldSelector", text) if len(kept) < len(wanted) else ""


def read_labels(attributes: Any) -> tuple[str, str]:
    """(labelSelector of a review as text, what is to be told of it)."""
    if not attributes:
        return "", ""
    if raw := attributes.get("rawSelector"):
        return _read_raw(raw, labels.parse, "labelSelector")
    kept, failed = [], False
    for r in attributes.get("requirements") or ():
        try:
            kept.append(
                labels.requirement(r.get("key") or "", _READ_LABELS[r["operator"]], tuple(r.get("values") or ()))
            )
        except (KeyError, ValueError):
            failed = True
    text = ",".join(map(str, kept))
    return text, _ignored("labelSelector", text) if failed else ""


def _ignored(name: str, text: str) -> str:
    return f"spec.resourceAttributes.{name} {'partially ' if text else ''}ignored due to parse error"
