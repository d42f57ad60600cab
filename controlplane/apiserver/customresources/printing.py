"""Table columns of custom resources.

Source: k8s.io/apiextensions-apiserver/pkg/registry/customresource/tableconvertor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from controlplane.apiserver.registry import printing
from controlplane.apiserver.registry.columns.parts import AGE, NAME
from controlplane.apiserver.registry.strategy import Column
from machinery.api import jsonpath, rawtext
from machinery.api.jsonpath import JSONPath
from machinery.api.meta import Object, parse_time
from machinery.api.patch import goformat


def columns_of(version: Object) -> Sequence[Column]:
    """The columns of one version: the name, then what the definition asks for, or the age."""
    given = version.get("additionalPrinterColumns")
    if not given:
        return (NAME, AGE)
    made = [NAME]
    for each in given:
        try:
            made.append(_column(each))
        except ValueError:  # a path that can't be read is no error of the definition: columns end before it
            break
    return made


def _column(given: Object) -> Column:
    path = given["jsonPath"]
    told = given.get("description") or f"Custom resource definition column (in JSONPath format): {path}"
    return Column(
        name=given["name"],
        type=given["type"],
        cell=_cell(jsonpath.parse(path), given["type"]),
        format=given.get("format", ""),
        description=told,
        priority=given.get("priority", 0),
    )


def _cell(path: JSONPath, kind: str) -> Callable[[Object], Any]:
    convert = _CONVERT.get(kind) or _nothing

    def cell(obj: Object) -> Any:
        found = path.find(obj)
        if found and found[0] is None and kind == "string":
            return "<no value>"
        return None if not found or found[0] is None else convert(found[0])

    return cell


def _nothing(value: Any) -> None:
    return None


def _text(value: Any) -> str:
    return rawtext.dumps(value).decode() if isinstance(value, dict | list) else goformat.show(value)


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value)


def _number(value: Any) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value


def _is_time(text: str) -> bool:
    try:
        parse_time(text)
    except ValueError:
        return False
    return True


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": lambda value: value if isinstance(value, bool) else None,
    "date": lambda value: printing.Age(value) if isinstance(value, str) and _is_time(value) else "<invalid>",
}
