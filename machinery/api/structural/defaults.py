"""Defaults that the schema in which they stand would refuse.

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting/validation.go.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from machinery.api import fielderror
from machinery.api.fielderror import FieldError
from machinery.api.structural import pruning, rulerun, validation
from machinery.api.structural.rules import rule_tree
from machinery.api.structural.words import EMBEDDED


def errors(s: Mapping[str, Any], path: str, *, root: bool = True) -> Iterator[FieldError]:
    """What is wrong with the defaults of a structural schema; those of additionalProperties are not looked at."""
    default = s.get("default")
    if default is not None:
        yield from _default(s, default, f"{path}.default")
    for name, inner in (s.get("properties") or {}).items():
        if not (root and name == "metadata"):
            yield from errors(inner, f"{path}.properties[{name}]", root=False)
    if isinstance(s.get("items"), Mapping):
        yield from errors(s["items"], f"{path}.items", root=False)


def _default(s: Mapping[str, Any], default: Any, path: str) -> Iterator[FieldError]:
    if pruning.pruned(s, copy.deepcopy(default)) != default:
        yield fielderror.invalid(path, default, "must not have unknown fields")
    found = validation.validate(s, default)
    for error in found:
        at = error.field if error.field != "<nil>" else ""
        joined = f"{path}{at}" if at.startswith("[") else f"{path}.{at}" if at else path
        yield FieldError(error.reason, joined, error.body)
    if not found:
        yield from rulerun.validate_default(rule_tree(s, resource=bool(s.get(EMBEDDED))), default, path)
