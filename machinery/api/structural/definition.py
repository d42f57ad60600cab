"""What is wrong with the openAPIV3Schema of a CustomResourceDefinition: words, structure, defaults, rules, costs.

Source: k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation/{validation,cel_validation}.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from machinery.api import fielderror
from machinery.api.fielderror import FieldError
from machinery.api.structural import defaults, structure, vocabulary
from machinery.api.structural.forms import internal_schema
from machinery.api.structural.rules import Rule, compile_rules
from machinery.api.structural.words import EMBEDDED, LIST_TYPE, RULES
from machinery.cel.cost import MOST

RULE_LIMIT: Final = 10_000_000  # Source: StaticEstimatedCostLimit
SCHEMA_LIMIT: Final = 100_000_000  # Source: StaticEstimatedCRDCostLimit
_EXPENSIVE: Final = 4
_STATUS_ROOT: Final = "at the root of the schema if the status subresource is enabled"
_AT_ROOT: Final = (
    "Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum", "MaxLength",
    "MinLength", "Pattern", "MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required", "Items", "Properties",
    "ExternalDocs", "Example", "XPreserveUnknownFields", "XValidations",
)  # fmt: skip


def errors(
    schema: Mapping[str, Any], path: str, *, status: bool = False, before: Mapping[str, Any] | None = None
) -> list[FieldError]:
    """Errors of a schema that stands at `path` (spec.validation.openAPIV3Schema).

    `status`: there is a status subresource. `before`: the schema that is stored; if it is this one, its rules may go on
    to cost what they cost.
    """
    found = list(_root(schema, path, status=status))
    inner = structure.errors(schema, path) or list(defaults.errors(schema, path))
    words = vocabulary.errors(schema, path)
    found += inner
    found += [error for error in words if error not in inner]
    if not inner:
        # rules are looked at where nothing is wrong at their level or below
        found += _rules(schema, path, frozenset(error.field for error in words), priced=before != schema)
    return found


def _root(schema: Mapping[str, Any], path: str, *, status: bool) -> Iterator[FieldError]:
    if status:
        form = internal_schema(schema)
        zero = internal_schema({})
        for name, value in form.items():
            if value == zero[name]:
                continue
            if name == "Type" and value != "object":
                told = f'only "object" is allowed as the type {_STATUS_ROOT}'
                yield fielderror.invalid(f"{path}.type", value, told)
                break
            if name not in _AT_ROOT:
                told = f"only [{' '.join(_AT_ROOT)}] fields are allowed {_STATUS_ROOT}"
                yield fielderror.invalid(path, form, told)
                break
    if schema.get("nullable"):
        yield fielderror.forbidden(f"{path}.nullable", "nullable cannot be true at the root")


@dataclass
class _Costs:
    """What all rules of a schema cost."""

    priced: bool
    wrong: frozenset[str]
    """The fields of the schema that something is wrong with."""
    total: int = 0
    each: list[tuple[int, str]] = field(default_factory=list)

    def observe(self, cost: int, path: str) -> None:
        self.total = min(self.total + cost, MOST)
        self.each.append((cost, path))

    def stands(self, path: str) -> bool:
        """Whether nothing is wrong with the schema at `path`, nor below."""
        return not any(field.startswith((f"{path}.", f"{path}[")) for field in self.wrong)


def _rules(schema: Mapping[str, Any], path: str, wrong: frozenset[str], *, priced: bool) -> list[FieldError]:
    costs = _Costs(priced, wrong)
    found = list(_walk(schema, path, costs, 1, "", resource=True))
    if costs.total > SCHEMA_LIMIT:
        told = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        dearest = sorted(costs.each, key=lambda each: -each[0])[:_EXPENSIVE]
        found += [fielderror.forbidden(where, told) for cost, where in dearest if cost]
        name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        found.append(fielderror.forbidden(path, _over(name, costs.total, SCHEMA_LIMIT)))
    return found


def _walk(
    s: Mapping[str, Any], path: str, costs: _Costs, cardinality: int | None, lost: str, *, resource: bool = False
) -> Iterator[FieldError]:
    """`cardinality`: how often such a value can be in an object, None if nothing bounds it; `lost`: from where on old
    and new values can't be told to belong together."""
    rest, items = s.get("additionalProperties"), s.get("items")
    if isinstance(rest, Mapping):
        yield from _walk(rest, f"{path}.additionalProperties", costs, _times(cardinality, s.get("maxProperties")), lost)
    for name, inner in sorted((s.get("properties") or {}).items()):
        embedded = bool(inner.get(EMBEDDED))
        yield from _walk(inner, f"{path}.properties[{name}]", costs, cardinality, lost, resource=embedded)
    if isinstance(items, Mapping):
        unkeyed = lost or (path if s.get(LIST_TYPE) != "map" else "")
        embedded = bool(items.get(EMBEDDED))
        count = _times(cardinality, s.get("maxItems"))
        yield from _walk(items, f"{path}.items", costs, count, unkeyed, resource=embedded)
    for i, rule in enumerate(compile_rules(s, resource=resource) if costs.stands(path) else ()):
        yield from _rule(rule, f"{path}.{RULES}[{i}]", costs, cardinality, lost)


def _times(cardinality: int | None, limit: int | None) -> int | None:
    return None if cardinality is None or limit is None else min(cardinality * max(limit, 0), MOST)


def _rule(rule: Rule, path: str, costs: _Costs, cardinality: int | None, lost: str) -> Iterator[FieldError]:
    cost = rule.program.cost().high if rule.program is not None else 0
    cost = min(cost * (rule.cardinality if cardinality is None else cardinality), MOST)
    if costs.priced and cost > RULE_LIMIT:
        yield fielderror.forbidden(f"{path}.rule", _over("estimated rule cost", cost, RULE_LIMIT))
    costs.observe(cost, f"{path}.rule")
    shown = _form(rule.given)
    if rule.error:
        yield fielderror.invalid(f"{path}.rule", shown, rule.error)
    if rule.message_error:
        yield fielderror.invalid(f"{path}.messageExpression", shown, rule.message_error)
    elif rule.message is not None:
        told = rule.message.cost().high
        if costs.priced and told > RULE_LIMIT:
            over = _over("estimated messageExpression cost", told, RULE_LIMIT)
            yield fielderror.forbidden(f"{path}.messageExpression", over)
        costs.observe(told, f"{path}.messageExpression")
    if rule.transition:
        if lost:
            text = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}"
            yield fielderror.invalid(f"{path}.rule", rule.given.get("rule"), text)
    elif rule.given.get("optionalOldSelf") is not None and not rule.error:
        text = "may not be set if oldSelf is not used in rule"
        yield fielderror.invalid(f"{path}.optionalOldSelf", rule.given["optionalOldSelf"], text)


def _form(given: Mapping[str, Any]) -> dict[str, Any]:
    return dict(internal_schema({RULES: [given]})["XValidations"][0])


def _over(name: str, cost: int, limit: int) -> str:
    factor = cost / limit
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return (
        f"{name} exceeds budget by factor of {shown} (try simplifying the rule, or adding maxItems, maxProperties, and "
        "maxLength where arrays, maps, and strings are declared)"
    )
