"""The args of the built-in plugins: defaults, validation, and what the plugins take.

Source: k8s.io/kubernetes/pkg/scheduler/apis/config (types_pluginargs.go, v1/defaults.go, validation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.scheduler.config.reading import Errors, Parse, Reader
from controlplane.scheduler.plugins.fit import CPU_AND_MEMORY, FitSettings, Weights
from machinery.api import fielderror, names

STRATEGIES = ("LeastAllocated", "MostAllocated", "RequestedToCapacityRatio")


@dataclass(frozen=True)
class PreemptionArgs:
    """DefaultPreemptionArgs: how many candidates are weighed."""

    percentage: int = 10
    absolute: int = 100


@dataclass(frozen=True)
class AffinityArgs:
    """InterPodAffinityArgs."""

    hard_weight: int = 1
    ignore_preferred_of_others: bool = False


@dataclass(frozen=True)
class SpreadArgs:
    """PodTopologySpreadArgs; None: the system's own default constraints."""

    defaults: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class NodeAffinityArgs:
    """NodeAffinityArgs."""

    added: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class BalancedArgs:
    """NodeResourcesBalancedAllocationArgs."""

    resources: Weights = CPU_AND_MEMORY


@dataclass(frozen=True)
class VolumeBindingArgs:
    """VolumeBindingArgs."""

    bind_seconds: float = 600.0


@dataclass(frozen=True)
class DynamicResourcesArgs:
    """DynamicResourcesArgs: how long to look for devices, and for them to become ready. Seconds."""

    filter_seconds: float = 10.0
    binding_seconds: float = 600.0


def _preemption(args: Reader, errors: Errors) -> PreemptionArgs:
    args.known(_typed("minCandidateNodesPercentage", "minCandidateNodesAbsolute"))
    made = PreemptionArgs(args.number("minCandidateNodesPercentage", 10), args.number("minCandidateNodesAbsolute", 100))
    percentage, absolute = args.at("minCandidateNodesPercentage"), args.at("minCandidateNodesAbsolute")
    if not 0 <= made.percentage <= 100:
        errors.add(fielderror.invalid(percentage, made.percentage, "not in valid range [0, 100]"))
    if made.absolute < 0:
        errors.add(fielderror.invalid(absolute, made.absolute, "not in valid range [0, inf)"))
    if made.percentage == 0 and made.absolute == 0:
        both = "cannot be zero at the same time as"
        errors.add(
            fielderror.invalid(percentage, 0, f"{both} minCandidateNodesAbsolute"),
            fielderror.invalid(absolute, 0, f"{both} minCandidateNodesPercentage"),
        )
    return made


def _affinity(args: Reader, errors: Errors) -> AffinityArgs:
    args.known(_typed("hardPodAffinityWeight", "ignorePreferredTermsOfExistingPods"))
    weight = args.number("hardPodAffinityWeight", 1)
    if not 0 <= weight <= 100:
        errors.add(fielderror.invalid(args.at("hardPodAffinityWeight"), weight, "not in valid range [0, 100]"))
    return AffinityArgs(weight, args.switch("ignorePreferredTermsOfExistingPods", False))


def _node_affinity(args: Reader, errors: Errors) -> NodeAffinityArgs:
    args.known(_typed("addedAffinity"))
    added = args.child("addedAffinity")
    added.known(("requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"))
    for term in added.child("requiredDuringSchedulingIgnoredDuringExecution").children("nodeSelectorTerms"):
        _selector_term(term, errors)
    for preferred in added.children("preferredDuringSchedulingIgnoredDuringExecution"):
        _selector_term(preferred.child("preference"), errors)
    return NodeAffinityArgs(added.given or None)


_EXPRESSION_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")


def _selector_term(term: Reader, errors: Errors) -> None:
    for expression in term.children("matchExpressions"):
        operator, values = expression.text("operator"), expression.texts("values")
        if operator not in _EXPRESSION_OPERATORS:
            errors.add(fielderror.not_supported(expression.at("operator"), operator, _EXPRESSION_OPERATORS))
        elif operator in ("In", "NotIn") and not values:
            told = "for 'in', 'notin' operators, values set can't be empty"
            errors.add(fielderror.invalid(expression.at("values"), values, told))
        if wrong := names.qualified_name(expression.text("key")):
            errors.add(fielderror.invalid(expression.at("key"), expression.text("key"), "; ".join(wrong)))


def _spread(args: Reader, errors: Errors) -> SpreadArgs:
    args.known(_typed("defaultConstraints", "defaultingType"))
    kind = args.text("defaultingType") or "System"
    given = args.children("defaultConstraints")
    if kind not in ("System", "List"):
        errors.add(fielderror.not_supported(args.at("defaultingType"), kind, ("System", "List")))
    elif kind == "System" and given:
        errors.add(fielderror.invalid(args.at("defaultingType"), kind, "when .defaultConstraints are not empty"))
    seen: list[tuple[str, str]] = []
    for constraint in given:
        _spread_constraint(constraint, errors)
        same = (constraint.text("topologyKey"), constraint.text("whenUnsatisfiable"))
        if same in seen:
            errors.add(fielderror.duplicate(constraint.path, f"{{{same[0]}, {same[1]}}}"))
        seen.append(same)
    return SpreadArgs([constraint.given for constraint in given] if kind == "List" else None)


def _spread_constraint(constraint: Reader, errors: Errors) -> None:
    skew, key = constraint.number("maxSkew", 0), constraint.text("topologyKey")
    action = constraint.text("whenUnsatisfiable")
    if skew <= 0:
        errors.add(fielderror.invalid(constraint.at("maxSkew"), skew, "not in valid range (0, inf)"))
    if not key:
        errors.add(fielderror.required(constraint.at("topologyKey"), "can not be empty"))
    else:
        errors.add(*_label_name(key, constraint.at("topologyKey")))
    if not action:
        errors.add(fielderror.required(constraint.at("whenUnsatisfiable"), "can not be empty"))
    elif action not in ("DoNotSchedule", "ScheduleAnyway"):
        known = ("DoNotSchedule", "ScheduleAnyway")
        errors.add(fielderror.not_supported(constraint.at("whenUnsatisfiable"), action, known))
    if constraint.given.get("labelSelector") is not None:
        told = "constraint must not define a selector, as they deduced for each pod"
        errors.add(fielderror.forbidden(constraint.at("labelSelector"), told))


def _fit(args: Reader, errors: Errors) -> FitSettings:
    args.known(_typed("ignoredResources", "ignoredResourceGroups", "scoringStrategy"))
    ignored, groups = args.texts("ignoredResources"), args.texts("ignoredResourceGroups")
    for index, name in enumerate(ignored):
        errors.add(*_label_name(name, f"{args.at('ignoredResources')}[{index}]"))
    for index, group in enumerate(groups):
        path = f"{args.at('ignoredResourceGroups')}[{index}]"
        if "/" in group:
            errors.add(fielderror.invalid(path, group, "resource group name can't contain '/'"))
        errors.add(*_label_name(group, path))
    strategy = args.child("scoringStrategy")
    strategy.known(("type", "resources", "requestedToCapacityRatio"))
    kind = strategy.text("type") or ("LeastAllocated" if "scoringStrategy" not in args.given else "")
    if kind not in STRATEGIES:
        errors.add(fielderror.not_supported(strategy.at("type"), kind, STRATEGIES))
        kind = "LeastAllocated"
    resources = _weights(strategy, errors)
    shape = _shape(strategy, kind, errors)
    return FitSettings(kind, resources, shape or ((0, 0),), frozenset(ignored), frozenset(groups))


def _weights(strategy: Reader, errors: Errors) -> Weights:
    found = []
    for resource in strategy.children("resources"):
        name, weight = resource.text("name"), resource.number("weight", 0) or 1
        if not 0 < weight <= 100:
            told = f"resource weight of {name} not in valid range (0, 100]"
            errors.add(fielderror.invalid(resource.at("weight"), weight, told))
        found.append((name, weight))
    return tuple(found) or CPU_AND_MEMORY


def _shape(strategy: Reader, kind: str, errors: Errors) -> Sequence[tuple[int, int]]:
    path = strategy.at("requestedToCapacityRatio")
    there = strategy.given.get("requestedToCapacityRatio") is not None
    if kind != "RequestedToCapacityRatio":
        if there:
            told = "must be nil when type is not RequestedToCapacityRatio"
            errors.add(fielderror.forbidden(path, told))
        return ()
    if not there:
        errors.add(fielderror.required(path, "must be specified when type is RequestedToCapacityRatio"))
        return ()
    ratio = strategy.child("requestedToCapacityRatio")
    points = ratio.children("shape")
    if not points:
        errors.add(fielderror.required(ratio.at("shape"), "at least one point must be specified"))
    made = [(point.number("utilization", 0), point.number("score", 0)) for point in points]
    for index in range(1, len(made)):
        if made[index - 1][0] >= made[index][0]:
            told = "values must be sorted in increasing order"
            errors.add(fielderror.invalid(points[index].at("utilization"), made[index][0], told))
            break
    for point, (utilization, score) in zip(points, made, strict=True):
        if not 0 <= utilization <= 100:
            errors.add(fielderror.invalid(point.at("utilization"), utilization, "not in valid range [0, 100]"))
        if not 0 <= score <= 10:
            errors.add(fielderror.invalid(point.at("score"), score, "not in valid range [0, 10]"))
    return made


def _balanced(args: Reader, errors: Errors) -> BalancedArgs:
    args.known(_typed("resources"))
    seen: dict[str, int] = {}
    for resource in args.children("resources"):
        name, weight = resource.text("name"), resource.number("weight", 0) or 1
        if name in seen:
            errors.add(fielderror.duplicate(resource.at("name"), name))
        if weight != 1:
            errors.add(fielderror.invalid(resource.at("weight"), weight, "must be 1"))
        seen[name] = weight
    return BalancedArgs(tuple(seen.items()) or CPU_AND_MEMORY)


def _volume_binding(args: Reader, errors: Errors) -> VolumeBindingArgs:
    args.known(_typed("bindTimeoutSeconds", "shape"))
    seconds = args.number("bindTimeoutSeconds", 600)
    if seconds < 0:
        told = "invalid BindTimeoutSeconds, should not be a negative value"
        errors.add(fielderror.invalid(args.at("bindTimeoutSeconds"), seconds, told))
    if args.given.get("shape") is not None:
        told = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring"
        errors.add(fielderror.invalid(args.at("shape"), args.given["shape"], told))
    return VolumeBindingArgs(float(seconds))


def _dynamic_resources(args: Reader, errors: Errors) -> DynamicResourcesArgs:
    args.known(_typed("filterTimeout", "bindingTimeout"))
    made = DynamicResourcesArgs(args.seconds("filterTimeout", 10.0), args.seconds("bindingTimeout", 600.0))
    if made.filter_seconds < 0:
        errors.add(fielderror.invalid(args.at("filterTimeout"), args.text("filterTimeout"), "must be zero or positive"))
    if made.binding_seconds < 1:
        errors.add(
            fielderror.invalid(args.at("bindingTimeout"), args.text("bindingTimeout"), "must be at least 1 second")
        )
    return made


def _label_name(value: str, path: str) -> list[fielderror.FieldError]:
    return [fielderror.invalid(path, value, wrong) for wrong in names.qualified_name(value)]


def _typed(*fields: str) -> tuple[str, ...]:
    return ("apiVersion", "kind", *fields)


ARGS: Mapping[str, Parse] = {
    "DefaultPreemption": _preemption,
    "DynamicResources": _dynamic_resources,
    "InterPodAffinity": _affinity,
    "NodeAffinity": _node_affinity,
    "NodeResourcesBalancedAllocation": _balanced,
    "NodeResourcesFit": _fit,
    "PodTopologySpread": _spread,
    "VolumeBinding": _volume_binding,
}
"""Plugin name → the reader of its args; reading nothing gives the defaults."""
