"""What each function costs: cel-go's own, then what Kubernetes says of its libraries.

Source: cel-go checker/cost.go (functionCost), ext/sets.go; k8s.io/apiserver/pkg/cel/library/cost.go.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from machinery.cel.ast import Call, Literal
from machinery.cel.cost import MOST, NOTHING, ONE, REGEX_LENGTH, TRAVERSAL, UNKNOWN, Estimator, Part, Priced, Range
from machinery.cel.declarations import Overload


def estimate(
    walker: Estimator, node: Call, overload: Overload, target: Part | None, args: list[Part], costs: list[Range]
) -> Priced:
    """What a call of one overload costs, arguments included but not the target."""
    given = NOTHING
    for each in costs:
        given += each
    if (own := _kubernetes(walker, overload, target, args)) is not None:
        return Priced(own.cost + given, own.size)
    if overload.id in ("logical_and", "logical_or"):
        return Priced(Range(costs[0].low, (costs[0] + costs[1]).high))
    if overload.id == "conditional":
        walker.set_entries(node, node.args[1], node.args[2])
        size = (args[1].size or UNKNOWN).union(args[2].size or UNKNOWN)
        return Priced(costs[0] + costs[1].union(costs[2]), size)
    if overload.id in ("add_string", "add_bytes", "add_list"):
        walker.set_entries(node, node.args[0], node.args[1])
        size = (args[0].size or UNKNOWN) + (args[1].size or UNKNOWN)
        return Priced((ONE if overload.id == "add_list" else size.scaled(TRAVERSAL)) + given, size)
    made = _standard(overload.id, target, args)
    return Priced(made.cost + given, made.size)


_COMPARED: Final = frozenset(
    [f"{word}_{kind}" for word in ("less", "greater", "less_equals", "greater_equals") for kind in ("string", "bytes")]
    + ["equals", "not_equals"]
)


def _standard(identity: str, target: Part | None, args: list[Part]) -> Priced:
    sizes = [arg.size or UNKNOWN for arg in args]
    whole = (target.size or UNKNOWN) if target is not None else UNKNOWN
    if identity == "string_format" and target is not None:
        return Priced(whole.scaled(TRAVERSAL))
    if identity == "string_to_bytes":
        return Priced(sizes[0].scaled(TRAVERSAL), Range(sizes[0].low, min(sizes[0].high * 4, MOST)))
    if identity == "bytes_to_string":
        return Priced(sizes[0].scaled(TRAVERSAL), Range(sizes[0].low // 4, sizes[0].high))
    if identity == "strings_quote":
        return Priced(sizes[0].scaled(TRAVERSAL), Range(sizes[0].low + 2, min(sizes[0].high * 2 + 2, MOST)))
    if identity in ("starts_with_string", "ends_with_string"):
        return Priced(sizes[0].scaled(TRAVERSAL))
    if identity == "in_list":
        return Priced(sizes[1].scaled(1))
    if identity == "matches_string" and target is not None:
        return Priced((whole + ONE).scaled(TRAVERSAL).times(sizes[0].scaled(REGEX_LENGTH)))
    if identity == "contains_string" and target is not None:
        return Priced(whole.scaled(TRAVERSAL).times(sizes[0].scaled(TRAVERSAL)))
    if identity in _COMPARED:
        most = min(sizes[0].high, sizes[1].high)
        return Priced(Range(1 if most else 0, most).scaled(TRAVERSAL))
    return Priced(ONE)


# -- Kubernetes' libraries -------------------------------------------------------------------------------------------

_Rule = Callable[[Estimator, str, "Part | None", list[Part]], "Priced | None"]
_NOMINAL: Final = frozenset(
    [
        "serviceAccount",
        "path",
        "group",
        "resource",
        "subresource",
        "namespace",
        "name",
        "allowed",
        "reason",
        "error",
        "errored",
        "fieldSelector",
        "labelSelector",
        "masked",
        "prefixLength",
        "family",
        "isUnspecified",
        "isLoopback",
        "isLinkLocalMulticast",
        "isLinkLocalUnicast",
        "isGlobalUnicast",
        "sign",
        "asInteger",
        "isInteger",
        "asApproximateFloat",
        "isGreaterThan",
        "isLessThan",
        "compareTo",
        "add",
        "sub",
        "major",
        "minor",
        "patch",
    ]
)


def _kubernetes(walker: Estimator, overload: Overload, target: Part | None, args: list[Part]) -> Priced | None:
    function = overload.function
    if function == "check":
        return Priced(Range(350000, 350000))
    if function in _NOMINAL:
        return Priced(ONE)
    rule = _RULES.get(function)
    return rule(walker, overload.id, target, args) if rule else None


def _size(walker: Estimator, part: Part) -> Range:
    return part.size or walker.declared_size(part.path) or UNKNOWN


def _element_size(walker: Estimator, part: Part) -> Range:
    return (walker.declared_size((*part.path, "@items")) if part.path else None) or UNKNOWN


def _over_list(walker: Estimator, identity: str, target: Part | None, args: list[Part]) -> Priced | None:
    if target is None:
        return None
    size = _size(walker, target)
    if not target.type.params:
        return Priced(size.scaled(TRAVERSAL))  # indexOf and lastIndexOf of strings
    each = ONE
    if target.type.params[0].sort in ("string", "bytes"):
        each += _element_size(walker, target).scaled(TRAVERSAL)
    return Priced(size.times(each))


def _of_argument(factor: float) -> _Rule:
    def rule(walker: Estimator, identity: str, target: Part | None, args: list[Part]) -> Priced | None:
        return Priced(_size(walker, args[0]).scaled(factor)) if len(args) >= 1 and target is None else None

    return rule


def _of_target(walker: Estimator, identity: str, target: Part | None, args: list[Part]) -> Priced | None:
    if target is None:
        return None
    size = _size(walker, target)
    return Priced(size.scaled(TRAVERSAL), size)


def _replace(walker: Estimator, identity: str, target: Part | None, args: list[Part]) -> Priced | None:
    if target is None or len(args) < 2:
        return None
    size, old, new = _size(walker, target), _size(walker, args[0]), _size(walker, args[1])
    if old.low == 0:
        most, kept_most = min(size.high + 1, MOST), size.high
    elif new.high <= old.low:
        most, kept_most = 0, size.high
    else:
        most, kept_most = math.ceil(size.high / old.low), 0
    if old.high == 0:
        least, kept_least = min(size.low + 1, MOST), size.low
    elif old.high <= new.low:
        least, kept_least = 0, size.low
    else:
        least, kept_least = math.ceil(size.low / old.high), 0
    made = Range(least, most).times(new) + Range(kept_least, kept_most)
    return Priced(size.scaled(2 * TRAVERSAL), made)


def _split(walker: Estimator, identity: str, target: Part | None, args: list[Part]) -> Priced | None:
    if target is None:
        return None
    size = _size(walker, target)
    most = size.high
    if len(args) > 1 and isinstance(args[1].node, Literal):
        most = max(int(args[1].node.value), 0)
    return Priced(size.scaled(2 * TRAVERSAL), Range(0, most))


def _join(walker: Estimator, identity: str, target: Part | None, args: list[Part]) -> Priced | None:
    if target is None:
        return None
    items = _size(walker, target)
    size = items.times(_element_size(walker, target))
    if args:
        between = Range(max(items.low - 1, 0), max(items.high - 1, 0))
        size += _size(walker, args[0]).times(between)
    return Priced(size.scaled(TRAVERSAL), size)


def _find(walker: Estimator, identity: str, target: Part | None, args: list[Part]) -> Priced | None:
    if target is None or not args:
        return None
    size = _size(walker, target)
    cost = (size + ONE).scaled(TRAVERSAL).times(_size(walker, args[0]).scaled(REGEX_LENGTH))
    return Priced(cost, Range(0, size.high))


def _contains(walker: Estimator, identity: str, target: Part | None, args: list[Part]) -> Priced | None:
    if target is None or not args:
        return None
    size = Range(4, 16)
    cost = (size + size).scaled(TRAVERSAL)
    if identity in ("cidr_contains_cidr", "cidr_contains_cidr_string"):
        cost += size.scaled(TRAVERSAL) + ONE
    if identity in ("cidr_contains_ip_string", "cidr_contains_cidr_string"):
        cost += _size(walker, args[0]).scaled(TRAVERSAL)
    return Priced(cost)


def _ip(walker: Estimator, identity: str, target: Part | None, args: list[Part]) -> Priced | None:
    if target is not None:
        return Priced(ONE)
    return Priced(_size(walker, args[0]).scaled(TRAVERSAL)) if args else None


def _sets(factor: float) -> _Rule:
    def rule(walker: Estimator, identity: str, target: Part | None, args: list[Part]) -> Priced | None:
        if len(args) != 2:
            return None
        pairs = _size(walker, args[0]).times(_size(walker, args[1]))
        return Priced(pairs.scaled(factor) + ONE)

    return rule


_RULES: Final[dict[str, _Rule]] = {
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _over_list),
    **dict.fromkeys(("lowerAscii", "upperAscii", "substring", "trim"), _of_target),
    **dict.fromkeys(("url", "cidr", "isIP", "isCIDR", "quantity", "isQuantity"), _of_argument(TRAVERSAL)),
    **dict.fromkeys(("semver", "isSemver", "isURL"), _of_argument(TRAVERSAL)),
    "ip": _ip,
    "ip.isCanonical": _of_argument(2 * TRAVERSAL),
    "replace": _replace,
    "split": _split,
    "join": _join,
    "find": _find,
    "findAll": _find,
    "containsIP": _contains,
    "containsCIDR": _contains,
    "sets.contains": _sets(1),
    "sets.intersects": _sets(1),
    "sets.equivalent": _sets(2),
}
