"""KubeSchedulerConfiguration: profiles and their plugins.

Source: https://kubernetes.io/docs/reference/config-api/kube-scheduler-config.v1/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.scheduler.framework import Filter, Profile, Score
from controlplane.scheduler.plugins.affinity import InterPodAffinity
from controlplane.scheduler.plugins.fit import NodeResourcesBalancedAllocation, NodeResourcesFit
from controlplane.scheduler.plugins.node import (
    ImageLocality,
    NodeAffinity,
    NodeName,
    NodePorts,
    NodeUnschedulable,
    TaintToleration,
)
from controlplane.scheduler.plugins.spread import PodTopologySpread, SelectorOf
from controlplane.scheduler.plugins.volumes import VolumeBinding, VolumeRestrictions, Volumes, VolumeZone
from machinery.errors import SettingsError
from machinery.settings import duration, load_config

API_VERSIONS = ("kubescheduler.config.k8s.io/v1",)
DEFAULT_NAME = "default-scheduler"

FILTERS = (
    "NodeUnschedulable",
    "NodeName",
    "TaintToleration",
    "NodeAffinity",
    "NodePorts",
    "NodeResourcesFit",
    "VolumeRestrictions",
    "VolumeBinding",
    "VolumeZone",
    "PodTopologySpread",
    "InterPodAffinity",
)
SCORES = {
    "TaintToleration": 3,
    "NodeAffinity": 2,
    "NodeResourcesFit": 1,
    "PodTopologySpread": 2,
    "InterPodAffinity": 2,
    "NodeResourcesBalancedAllocation": 1,
    "ImageLocality": 1,
}
"""Upstream's default plugins, in its order, with its weights."""


@dataclass(frozen=True)
class ProfileSettings:
    """One profile: its schedulerName, which plugins take part, and how the fit plugin scores."""

    name: str = DEFAULT_NAME
    filters: Sequence[str] = FILTERS
    scores: Mapping[str, int] = field(default_factory=lambda: dict(SCORES))
    most_allocated: bool = False


@dataclass(frozen=True)
class Settings:
    """What the configuration file says; upstream's defaults."""

    profiles: Sequence[ProfileSettings] = (ProfileSettings(),)
    kubeconfig: str = ""
    initial_backoff_seconds: float = 1.0
    max_backoff_seconds: float = 10.0
    leader_election: Mapping[str, Any] = field(default_factory=dict)


_KNOWN = {
    "apiVersion",
    "kind",
    "clientConnection",
    "leaderElection",
    "profiles",
    "podInitialBackoffSeconds",
    "podMaxBackoffSeconds",
    # Of no consequence here: every node is looked at, at once.
    "parallelism",
    "percentageOfNodesToScore",
    "enableProfiling",
    "enableContentionProfiling",
    "delayCacheUntilActive",
}


def load(path: str) -> Settings:
    """The settings of a KubeSchedulerConfiguration file. Raises SettingsError naming what is wrong."""
    config = load_config(path, "KubeSchedulerConfiguration", API_VERSIONS)
    unknown = sorted(config.keys() - _KNOWN)
    if unknown:
        raise SettingsError(f"{path}: unknown or unsupported field {unknown[0]!r}")
    profiles = [_profile(path, given) for given in config.get("profiles") or [{}]]
    names = [profile.name for profile in profiles]
    if len(set(names)) != len(names):
        raise SettingsError(f"{path}: two profiles have the same schedulerName")
    return Settings(
        profiles=profiles,
        kubeconfig=(config.get("clientConnection") or {}).get("kubeconfig", ""),
        initial_backoff_seconds=float(config.get("podInitialBackoffSeconds", 1)),
        max_backoff_seconds=float(config.get("podMaxBackoffSeconds", 10)),
        leader_election=config.get("leaderElection") or {},
    )


_LEADER_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "leaderElect": ("leader-elect", bool),
    "leaseDuration": ("leader-elect-lease-duration", lambda text: duration(str(text))),
    "renewDeadline": ("leader-elect-renew-deadline", lambda text: duration(str(text))),
    "retryPeriod": ("leader-elect-retry-period", lambda text: duration(str(text))),
    "resourceName": ("leader-elect-resource-name", str),
    "resourceNamespace": ("leader-elect-resource-namespace", str),
    "resourceLock": ("leader-elect-resource-lock", str),
}


def leader_flags(settings: Settings) -> dict[str, Any]:
    """The file's leaderElection as values of the flags of the same meaning. Raises SettingsError."""
    values = {}
    for name, given in settings.leader_election.items():
        if name not in _LEADER_FIELDS:
            raise SettingsError(f"leaderElection: unknown field {name!r}")
        flag, parse = _LEADER_FIELDS[name]
        try:
            values[flag] = parse(given)
        except ValueError as exc:
            raise SettingsError(f"leaderElection.{name}: {exc}") from exc
    return values


def _profile(path: str, given: Mapping[str, Any]) -> ProfileSettings:
    name = given.get("schedulerName") or DEFAULT_NAME
    filters, scores = list(FILTERS), dict(SCORES)
    for point, plugins in (given.get("plugins") or {}).items():
        if point not in ("multiPoint", "filter", "score"):
            raise SettingsError(f"{path}: profile {name}: extension point {point!r} cannot be configured")
        for plugin in plugins.get("disabled") or ():
            all_of_them = plugin["name"] == "*"
            if point != "score":
                filters = [f for f in filters if not all_of_them and f != plugin["name"]]
            if point != "filter":
                scores = {s: w for s, w in scores.items() if not all_of_them and s != plugin["name"]}
        for plugin in plugins.get("enabled") or ():
            known = plugin["name"]
            if known not in FILTERS and known not in SCORES:
                raise SettingsError(f"{path}: profile {name}: plugin {known!r} does not exist")
            if point != "score" and known in FILTERS and known not in filters:
                filters.append(known)
            if point != "filter" and known in SCORES:
                scores[known] = plugin.get("weight") or scores.get(known) or SCORES[known]
    return ProfileSettings(name, filters, scores, _most_allocated(path, name, given.get("pluginConfig") or ()))


def _most_allocated(path: str, profile: str, configs: Sequence[Mapping[str, Any]]) -> bool:
    for config in configs:
        if config.get("name") != "NodeResourcesFit":
            raise SettingsError(f"{path}: profile {profile}: pluginConfig of {config.get('name')!r} is not supported")
        strategy = (config.get("args") or {}).get("scoringStrategy") or {}
        kind = strategy.get("type", "LeastAllocated")
        if kind not in ("LeastAllocated", "MostAllocated") or strategy.keys() - {"type"}:
            raise SettingsError(f"{path}: profile {profile}: scoringStrategy {strategy} is not supported")
        return bool(kind == "MostAllocated")
    return False


def build_profiles(settings: Settings, selector_of: SelectorOf, volumes: Volumes) -> dict[str, Profile]:
    """The profiles with their plugins made, by schedulerName."""
    return {given.name: _build(given, selector_of, volumes) for given in settings.profiles}


def _build(given: ProfileSettings, selector_of: SelectorOf, volumes: Volumes) -> Profile:
    fit, taints, affinity = NodeResourcesFit(most_allocated=given.most_allocated), TaintToleration(), NodeAffinity()
    spread, company = PodTopologySpread(selector_of), InterPodAffinity()
    filters: list[Filter] = [
        *(NodeUnschedulable(), NodeName(), taints, affinity, NodePorts(), fit),
        *(VolumeRestrictions(volumes), VolumeBinding(volumes), VolumeZone(volumes), spread, company),
    ]
    scores: list[Score] = [taints, affinity, fit, spread, company, NodeResourcesBalancedAllocation(), ImageLocality()]
    return Profile(
        name=given.name,
        filters=[plugin for plugin in filters if plugin.name in given.filters],
        scores=[(plugin, given.scores[plugin.name]) for plugin in scores if plugin.name in given.scores],
    )
